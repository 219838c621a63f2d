// The name under which a person's answers are stored: asked once, kept by the browser.

import { $, el } from "./common.js";

const NAME = "skytwin-who";

export function known() {
  try { return localStorage.getItem(NAME) ?? ""; } catch { return ""; }
}

/** Ask for it; empty where the dialog was closed without a name. */
export function ask(people, now = "") {
  const dialog = $("name-dialog"), field = $("name");
  $("names").replaceChildren(...people.map((one) => el("option", { value: one.who })));
  field.value = now;
  if (!dialog.open) dialog.showModal();
  field.select();
  return new Promise((done) => {
    dialog.addEventListener("close", () => {
      const given = dialog.returnValue === "take" ? field.value.trim() : "";
      dialog.returnValue = "";
      if (given) try { localStorage.setItem(NAME, given); } catch { /* storage may be off */ }
      done(given || now);
    }, { once: true });
  });
}
