// The references that an order of objects begins from.

import { el, picture } from "./common.js";
import { lookOf } from "./state.js";

/** Fill a list; `change({like or unlike})` makes them go. Null for `state`: there are none. */
export function chips(list, state, about, change = null) {
  const chip = (kind, text) => {
    const negative = kind === "unlike";
    const placed = /^[-+.\d]+[ ,]+[-+.\d]+$/.test(text); // a position has no picture
    const image = about.images && !placed && el("img", { src: picture(text, about, lookOf(state), 80), alt: "", width: 40, height: 40 });
    if (image) image.addEventListener("error", () => image.remove());
    return el("li", { class: negative ? "chip negative" : "chip" }, image,
      el("span", { class: "role" }, negative ? "−" : "+", el("span", { class: "hidden" }, negative ? " not like" : " like")),
      el("span", { class: "name", title: text }, text),
      change && el("button", { type: "button", title: "Leave it out", "aria-label": `Leave out ${text}`, onclick: () => change({ [kind]: state[kind].filter((one) => one !== text) }) }, "✕"));
  };
  list.replaceChildren(...(state ? ["like", "unlike"].flatMap((kind) => state[kind].map((text) => chip(kind, text))) : []));
}
