// The keys with which people label.

import { typing } from "./common.js";

function digit(event) {
  if (/^\d$/.test(event.key)) return event.key;
  // On some keyboards the digits are above other signs.
  return event.shiftKey ? null : /^Digit(\d)$/.exec(event.code)?.[1] ?? null;
}

/** What each key does: `on` has a function for each. */
export function listenToKeys(on) {
  const keys = {
    u: on.undo, x: on.toggle, a: on.all, Escape: on.none, " ": on.skip, 0: on.skip,
    l: on.learn, n: on.more, Enter: on.enlarge,
  };
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "z" && !event.target.matches("input, select")) {
      event.preventDefault();
      on.undo();
      return;
    }
    const dialog = document.querySelector("dialog[open]");
    if (typing(event) || (dialog && (dialog !== on.large.dialog || event.key === "Escape"))) return;
    const moving = /^(Arrow|Home$|End$)/.test(event.key);
    const own = event.target.closest("button, a, summary, input");
    if (own && (moving || [" ", "Enter"].includes(event.key))) return;
    const sign = digit(event) ?? event.key;
    if (/^[1-9]$/.test(sign)) {
      if (Number(sign) <= on.answers) on.answer(Number(sign) - 1);
    } else if (sign === "Enter" && event.shiftKey) on.visit();
    else if (moving) on.move(sign, event.shiftKey && !dialog);
    else if (keys[sign]) keys[sign]();
    else return;
    event.preventDefault();
  });
}
