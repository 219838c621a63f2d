// The grid on which people label: which object is current, which are chosen, what they were called.

import { barElement, el, number } from "./common.js";
import { thumbnail } from "./cards.js";

/** A class of colour for an answer: the words that say yes and no have theirs. */
export function tone(answers, answer) {
  const known = { yes: "plus", no: "minus", unsure: "warn" }[answer.toLowerCase()];
  return `tone-${known ?? (answers.indexOf(answer) % 9) + 1}`;
}

let serial = 0; // an identifier may hold what an element's id must not
const MARKS = { waiting: ["…", "not stored yet"], refused: ["!", "not stored"], stored: ["✓", "stored"] };

/**
 * A list box: the focus stays on the list, the arrows move the current object in it.
 *
 * options: about, answers, and by method `look()`, `show()`, `blind()` what a card shows; `moved()`
 * is called when the current object or the choice changes, `opened()` on a double click.
 */
export class Grid {
  constructor(list, options) {
    this.list = list;
    this.options = options;
    this.rows = [];
    this.items = new Map(); // id -> element
    this.chosen = new Set();
    this.skipped = new Set();
    this.at = -1;
    this.several = false;
    list.addEventListener("click", (event) => this.clicked(event));
    list.addEventListener("dblclick", (event) => {
      if (event.target.closest(".card")) this.options.opened();
    });
  }

  get current() {
    return this.rows[this.at] ?? null;
  }

  row(id) {
    return this.rows.find((one) => one.id === id);
  }

  /** Objects that an answer goes to. */
  get targets() {
    if (this.chosen.size) return this.rows.filter((row) => this.chosen.has(row.id));
    return this.current ? [this.current] : [];
  }

  get open() {
    return this.rows.filter((row) => !row.label);
  }

  /** Show other rows, from the first that is not labelled; `at` an id to be on. */
  show(rows, at = null) {
    this.rows = rows;
    this.items.clear();
    this.chosen.clear();
    this.list.replaceChildren(...rows.map((row) => this.item(row)));
    const first = rows.findIndex((row) => (at ? row.id === at : !row.label && !this.skipped.has(row.id)));
    this.go(Math.max(0, first), { scroll: at !== null || first > 0 || scrollY > 0 });
  }

  /** Put fresh rows where open ones were; the current, the chosen and the labelled stay. */
  refresh(fresh) {
    const held = new Set([this.current?.id, ...this.chosen]);
    const stays = (row) => row.label || held.has(row.id);
    const kept = new Set(this.rows.filter(stays).map((row) => row.id));
    const coming = fresh.filter((row) => !kept.has(row.id));
    const rows = this.rows.map((row) => (stays(row) ? row : coming.shift() ?? row));
    const seen = new Set();
    const id = this.current?.id;
    this.rows = rows.filter((row) => !seen.has(row.id) && seen.add(row.id));
    const was = this.items;
    this.items = new Map();
    this.list.replaceChildren(...this.rows.map((row) => {
      const item = was.get(row.id);
      if (item) this.items.set(row.id, item);
      return item ?? this.item(row);
    }));
    this.at = this.rows.findIndex((row) => row.id === id);
    this.mark();
  }

  add(rows, { first = false } = {}) {
    const fresh = rows.filter((row) => !this.row(row.id));
    const items = fresh.map((row) => this.item(row));
    if (first) {
      this.rows.unshift(...fresh);
      this.list.prepend(...items);
      if (this.at >= 0) this.at += fresh.length;
    } else {
      this.rows.push(...fresh);
      this.list.append(...items);
    }
    if (this.at < 0 && this.rows.length) this.go(0);
  }

  item(row) {
    const item = el("li", { class: "card", role: "option", id: `option-${serial += 1}`, "data-id": row.id });
    this.items.set(row.id, item);
    this.fill(row);
    return item;
  }

  /** Draw an object's card anew; its picture only if it must change. */
  update(id) {
    const row = this.row(id);
    if (!row) return;
    this.fill(row);
    this.mark();
  }

  fill(row) {
    const { about, answers, look, show, blind } = this.options;
    const item = this.items.get(row.id);
    const address = JSON.stringify(look());
    let frame = item.querySelector(".picture");
    if (!frame || frame.dataset.look !== address) {
      frame = el("div", { class: "picture", "data-look": address }, thumbnail(row.id, about, look(), 256));
      if (look().bar) frame.append(barElement(about, look().whole) ?? "");
    }
    frame.querySelector(".given")?.remove();
    if (row.label || row.state === "refused") {
      const [mark, said] = MARKS[row.state] ?? MARKS.stored;
      frame.append(el("span", { class: "given" }, row.label ?? said, el("span", { class: "mark", title: said }, mark)));
    }
    // What came with a label from the server is stored there.
    const state = row.state ?? (row.label ? "stored" : "");
    item.className = ["card", row.label ? `labelled ${tone(answers, row.label)}` : "", state].join(" ").trim();
    const others = blind() && !row.label ? [] : Object.entries(row.labels ?? {}).filter(([who]) => who !== this.options.who());
    const differ = row.label && others.some(([, answer]) => answer !== row.label);
    const text = el("div", { class: "text" },
      show().includes("probability") && row.probability !== null && row.probability !== undefined
        ? el("div", { class: "line" }, el("span", { class: "chance" }, `p ${row.probability.toFixed(2)}`)) : null,
      el("div", { class: "id", title: row.id }, el("span", { class: "head" }, row.id.slice(0, -6)), el("span", {}, row.id.slice(-6))),
      others.map(([who, answer]) => el("div", { class: `cell ${tone(answers, answer)}` }, el("span", {}, who), el("b", {}, answer))),
      show().filter((name) => name !== "probability").map((name) => el("div", { class: "cell", title: `${name}: ${row.columns?.[name] ?? "no value"}` },
        el("span", {}, name), el("b", {}, number(row.columns?.[name])))));
    item.classList.toggle("differs", Boolean(differ));
    item.replaceChildren(frame, text);
    const said = row.label ? `${row.label}, ${(MARKS[row.state] ?? MARKS.stored)[1]}` : "no answer yet";
    item.setAttribute("aria-label", `${row.id}: ${said}${differ ? ", others differ" : ""}`);
  }

  redraw() {
    for (const row of this.rows) this.fill(row);
    this.mark();
  }

  /** What is current and what an answer would go to, for eyes and for screen readers. */
  mark() {
    const targets = new Set(this.targets.map((row) => row.id));
    for (const [id, item] of this.items) {
      item.classList.toggle("current", id === this.current?.id);
      item.classList.toggle("chosen", this.chosen.has(id));
      item.setAttribute("aria-selected", String(targets.has(id)));
    }
    if (this.current) this.list.setAttribute("aria-activedescendant", this.items.get(this.current.id).id);
    else this.list.removeAttribute("aria-activedescendant");
    this.options.moved();
  }

  go(at, { scroll = true } = {}) {
    this.at = this.rows.length ? Math.min(Math.max(at, 0), this.rows.length - 1) : -1;
    this.mark();
    if (scroll && this.current) this.items.get(this.current.id).scrollIntoView({ block: "nearest" });
  }

  goTo(id) {
    const at = this.rows.findIndex((row) => row.id === id);
    if (at >= 0) this.go(at);
    return at >= 0;
  }

  /** The next object without an answer, after the current one and then from the start; or none. */
  next() {
    const order = [...this.rows.keys()].map((step) => (this.at + 1 + step) % this.rows.length);
    const open = order.filter((at) => !this.rows[at].label);
    const best = open.find((at) => !this.skipped.has(this.rows[at].id));
    if (best === undefined) {
      this.at = -1; // lest a key that comes too late answers the last one again
      this.mark();
    } else this.go(best);
    return best !== undefined;
  }

  /** Move by keys; with `extend` what lies between is chosen. */
  move(key, extend) {
    const cards = [...this.list.children];
    const perRow = Math.max(1, cards.filter((one) => one.offsetTop === cards[0].offsetTop).length);
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow, ArrowDown: perRow, Home: -Infinity, End: Infinity }[key];
    const to = Math.min(Math.max(this.at + step, 0), this.rows.length - 1);
    if (extend) this.range(this.at, to);
    else this.chosen.clear();
    this.go(to);
  }

  range(from, to) {
    for (let at = Math.min(from, to); at <= Math.max(from, to); at += 1) this.chosen.add(this.rows[at].id);
  }

  toggle(id) {
    if (!this.chosen.delete(id)) this.chosen.add(id);
    this.mark();
  }

  choose(rows) {
    this.chosen = new Set(rows.map((row) => row.id));
    this.mark();
  }

  clicked(event) {
    const item = event.target.closest(".card");
    if (!item) return;
    const at = this.rows.findIndex((row) => row.id === item.dataset.id);
    const add = event.ctrlKey || event.metaKey || this.several;
    if (event.shiftKey && this.at >= 0) {
      this.range(this.at, at);
      getSelection()?.removeAllRanges();
    } else if (add) {
      // The one that was current is part of what is being gathered.
      if (!this.chosen.size && !this.several && this.current && this.at !== at) this.chosen.add(this.current.id);
      if (!this.chosen.delete(item.dataset.id)) this.chosen.add(item.dataset.id);
    } else {
      this.chosen.clear();
    }
    this.go(at, { scroll: false });
  }
}
