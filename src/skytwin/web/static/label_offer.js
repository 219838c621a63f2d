// Which objects are offered, in which order.

import { $, api, later, problem, Refused, say } from "./common.js";

const BATCH = 48, PAGE = 100;
export const ORDERS = {
  plan: "as planned, blind", random: "at random", top: "most probable first", uncertain: "most uncertain first",
  gain: "most to be learnt first", conflicts: "where people differ", done: "mine, newest first",
};
/** Orders that change with every answer, and those that come in batches of what has none. */
export const LEARNING = ["top", "uncertain", "gain"];
const BATCHED = [...LEARNING, "random"];

export const usual = (question, state) =>
  question.kind === "certify" ? "plan" : state.like.length ? "top" : "random";

function page({ path, question, who, order, state }, offset, signal) {
  const columns = state.show.filter((one) => one !== "probability");
  const asked = { who, order, offset, limit: PAGE, columns: columns.length ? columns : "id" };
  const { like, unlike, metric, combine, seed } = state;
  return api(`${path}/objects`, { ...asked, ...(question.kind === "certify" ? {} : { like, unlike, metric, combine, seed }) }, signal);
}

/** What the server did not know when it was asked is on the page all the same. */
function overlaid(rows, { path, who, queue }, began) {
  for (const op of queue.since(began)) {
    const row = op.path === path && op.who === who && rows.find((one) => one.id === op.object);
    if (row) Object.assign(row, { label: op.kind === "answer" ? op.answer : op.before, state: op.ended ? "stored" : "waiting" });
  }
  return rows;
}

/** Rows from the start of an order, as many as asked for of those that `wanted` takes. */
async function some(asked, most, wanted, signal, from = 0) {
  const rows = [];
  let answer, offset = from;
  do {
    const began = Date.now();
    answer = await page(asked, offset, signal);
    offset += answer.rows.length;
    rows.push(...overlaid(answer.rows, asked, began).filter(wanted));
  } while (rows.length < most && answer.rows.length && offset < answer.total);
  return { ...answer, rows: rows.slice(0, most) };
}

/**
 * Fills the grid. `asked()` is what to ask for: path, question, who, order, state, and the queue of
 * answers; `shown(model)` is called when it has come.
 */
export class Offers {
  constructor(grid, asked, shown) {
    this.grid = grid;
    this.asked = asked;
    this.shown = shown;
    this.total = 0; // objects in this order
    this.running = null;
    this.learnSoon = later(() => { if (!this.asked().queue.waiting.length) this.learn(); }, 700);
  }

  get batched() {
    return BATCHED.includes(this.asked().order);
  }

  open(row) {
    return !row.label && !this.grid.skipped.has(row.id);
  }

  /** Not answered either while the server was asked. */
  fresh(row) {
    return this.open(row) && !this.grid.row(row.id)?.label;
  }

  /** `none()` is called where the server refuses to offer anything. */
  async fetch(most, wanted, take, { from = 0, none = () => {} } = {}) {
    this.running?.abort();
    this.running = new AbortController();
    const { signal } = this.running;
    $("busy").hidden = false;
    try {
      const found = await some(this.asked(), most, wanted, signal, from);
      this.total = found.total;
      take(found.rows);
      this.shown(found.model);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof Refused)) throw error;
      problem(error.message);
      if (error.status) none();
    } finally {
      if (!signal.aborted) {
        $("busy").hidden = true;
        $("cards").classList.remove("waiting");
      }
    }
  }

  /** The order from its start; `at` is an object to be on. */
  load(at = null) {
    $("cards").classList.add("waiting");
    const most = this.batched ? BATCH : this.asked().order === "plan" ? Infinity : PAGE;
    const wanted = this.batched ? (row) => this.open(row) : () => true;
    const none = () => { this.total = 0; this.grid.show([]); this.shown(null); };
    return this.fetch(most, wanted, (rows) => this.grid.show(rows, at), { none });
  }

  /** The ranking learns: what it then offers comes where no answer is yet. */
  learn() {
    if (!LEARNING.includes(this.asked().order)) return null;
    const wanted = Math.max(1, this.grid.open.length);
    return this.fetch(wanted, (row) => this.fresh(row), (rows) => this.grid.refresh(rows));
  }

  /** Others in place of these, or, of a list, those that come after. */
  more() {
    if (!this.batched) return this.fetch(PAGE, () => true, (rows) => this.grid.add(rows), { from: this.grid.rows.length });
    return this.fetch(BATCH, (row) => this.fresh(row) && !this.grid.row(row.id), (rows) => {
      if (!rows.length) {
        this.end();
        return;
      }
      this.grid.show(rows);
      scrollTo({ top: 0 });
      say(`the next ${rows.length}`);
    });
  }

  /** On to an object without an answer. */
  next() {
    if (this.grid.next()) return;
    // Of what comes at random nothing is left out: it is a sample as far as it is answered.
    if (this.batched && !(this.asked().order === "random" && this.grid.open.length)) this.more();
    else this.end();
  }

  skip() {
    for (const row of this.grid.targets) if (!row.label) this.grid.skipped.add(row.id);
    this.grid.chosen.clear();
    this.next();
  }

  /** Nothing is left but what was skipped. */
  end() {
    const left = this.grid.open.length || this.grid.skipped.size;
    this.grid.skipped.clear();
    if (this.grid.open.length) this.grid.next();
    else if (left) this.load();
    else $("certificate-panel").scrollIntoView({ block: "nearest" });
    say(left ? "back to what was skipped" : "all labelled");
  }
}
