// Pictures with their captions, and moving among them by keys.

import { barElement, el, number, percent, picture } from "./common.js";

/** Its picture, or words where there is none. */
export function thumbnail(id, about, look, size) {
  if (!about.images) return el("span", { class: "no-picture" }, id);
  const image = el("img", { src: picture(id, about, look, size), alt: `Image of ${id}`, loading: "lazy", decoding: "async", width: size, height: size });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "no-picture" }, "no picture")));
  return image;
}

/**
 * One object.
 *
 * options: about (what /api/info says), look, show (columns), size (pixels),
 * bar (draw the scale), like (address of its look-alikes), add(id, negative).
 */
export function card(row, options) {
  const { about, look, show, size, like, add, bar, why } = options;
  const what = [
    "Look-alikes of", row.id,
    row.rank ? `, rank ${row.rank}, distance ${number(row.distance, 3)}` : "",
  ].join(" ").replace(" ,", ",");
  const image = thumbnail(row.id, about, look, size);
  return el("li", { class: "card", "data-id": row.id, "data-distance": row.distance },
    el("a", { class: "picture", href: like(row.id), "aria-label": what, title: `${row.id}\nclick: look-alikes` },
      image,
      row.rank ? el("span", { class: "rank" }, row.rank) : null,
      bar ? barElement(about, look.whole) : null),
    el("div", { class: "buttons" },
      add && el("button", { type: "button", title: "Look for this too (+)", "aria-label": `Add ${row.id} as a reference`, tabIndex: -1, onclick: () => add(row.id, false) }, "+"),
      add && el("button", { type: "button", title: "Turn away from this (−)", "aria-label": `Add ${row.id} as a negative reference`, tabIndex: -1, onclick: () => add(row.id, true) }, "−"),
      why && row.rank && el("button", { type: "button", title: "Why? (w)", "aria-label": `Why ${row.id} is here`, tabIndex: -1, onclick: () => why(row.id) }, "?"),
      el("a", { href: `/object/${encodeURIComponent(row.id)}`, title: "Its own page (i)", "aria-label": `Page of ${row.id}`, tabIndex: -1 }, "i")),
    el("div", { class: "text" },
      row.rank ? el("div", { class: "line" },
        el("span", { class: "distance", title: "distance to the references" }, number(row.distance, 3)),
        el("span", { class: "chance", title: "probability of being positive, from labels" }, row.probability === null || row.probability === undefined ? "" : `p ${row.probability.toFixed(2)}`)) : null,
      el("div", { class: "id", title: row.id }, el("span", { class: "head" }, row.id.slice(0, -6)), el("span", {}, row.id.slice(-6))),
      show.map((name) => el("div", { class: "cell", title: `${name}: ${row.columns[name] ?? "no value"}` },
        show.length > 1 ? el("span", {}, name) : null, el("b", {}, number(row.columns[name]))))));
}

/** Arrow keys from picture to picture; other keys do what `keys` says with the card. */
export function walk(list, keys = {}) {
  list.addEventListener("keydown", (event) => {
    const here = event.target.closest(".card");
    if (!here || event.ctrlKey || event.metaKey || event.altKey) return;
    const cards = [...list.querySelectorAll(".card")];
    const at = cards.indexOf(here);
    const perRow = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow }[event.key];
    if (step !== undefined) {
      const next = cards[at + step];
      if (next) next.querySelector("a").focus();
      event.preventDefault();
      event.stopPropagation();
    } else if (event.key === "Home" || event.key === "End") {
      cards.at(event.key === "Home" ? 0 : -1).querySelector("a").focus();
      event.preventDefault();
    } else if (keys[event.key]) {
      keys[event.key](here.dataset.id);
      event.preventDefault();
      event.stopPropagation();
    }
  });
}
