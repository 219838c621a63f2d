// One object at a time, large: the same keys answer, and go on.

import { $, barElement, el } from "./common.js";
import { thumbnail } from "./cards.js";

export class Large {
  /** options: about, look() */
  constructor(options) {
    this.options = options;
    this.dialog = $("large");
  }

  get shown() {
    return this.dialog.open;
  }

  toggle(row) {
    if (this.shown) this.dialog.close();
    else if (row) {
      this.dialog.showModal();
      this.show(row);
    }
  }

  show(row) {
    if (!this.shown || !row) return;
    const { about, look } = this.options;
    $("large-name").textContent = row.id;
    $("large-page").href = `/object/${encodeURIComponent(row.id)}`;
    $("large-given").textContent = row.label ? `you said ${row.label}` : "no answer yet";
    const frame = $("large-picture"), address = JSON.stringify([row.id, look()]);
    if (frame.dataset.shown === address) return;
    frame.dataset.shown = address;
    const side = look().whole ? about.frame?.width : about.frame?.shown;
    frame.classList.toggle("pixels", side < 200);
    const image = thumbnail(row.id, about, look(), 1024);
    image.loading = "eager";
    frame.replaceChildren(image, barElement(about, look().whole) ?? "");
  }
}
