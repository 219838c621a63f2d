// Answers on their way to the server: in their order, one at a time, kept until it has them.

import { api, post, Refused } from "./common.js";

const KEEP = "skytwin-unsent-", TAB = "skytwin-tab";
const WAITS = [500, 1000, 2000, 3000]; // between tries, ms
const FINAL = [400, 404, 409, 413]; // the answer is off; all else may pass: a book that is held, a full disk
const BEAT = 5000, LAPSED = 20_000; // a page that has not written for so long is closed

const random = () => Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2);

/** Storage may be off: then answers that wait live as long as the page. */
function attempt(run) {
  try { return run(); } catch { return null; }
}

/**
 * What waits is also kept by the browser, so that a page that was closed too soon, or crashed,
 * sends it when it is next opened.
 *
 * on: stored(op, reply), refused(op, message), changed()
 */
export class Queue {
  constructor(survey, on) {
    this.survey = survey;
    this.on = on;
    this.waiting = [];
    this.ended = []; // the last that were stored
    this.trouble = ""; // why nothing gets through
    this.running = false;
    this.tab = attempt(() => sessionStorage.getItem(TAB)) ?? random();
    attempt(() => sessionStorage.setItem(TAB, this.tab));
    this.adopt();
    setInterval(() => { this.keep(); this.adopt(); }, BEAT);
    addEventListener("online", () => this.now());
    addEventListener("pagehide", () => this.release());
    addEventListener("pageshow", (event) => { if (event.persisted) this.adopt(); });
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
  }

  /** path: of the question in the API; order: by what the object was offered. */
  answer(path, who, object, answer, order) {
    this.push({ kind: "answer", path, who, object, answer, order });
  }

  /** Take back the last answer that `who` gave: `answer`, to `object`, which had `before`. */
  undo(path, who, object, answer, before) {
    this.push({ kind: "undo", path, who, object, answer, before });
  }

  push(op) {
    this.waiting.push(op);
    this.keep();
    this.on.changed();
    this.run();
  }

  /** What was stored since, and what waits to be. */
  since(time) {
    return [...this.ended.filter((op) => op.ended >= time), ...this.waiting];
  }

  /** Try again at once. */
  now() {
    this.wake?.();
    this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    let tries = 0;
    try {
      while (this.waiting.length) {
        this.on.changed();
        const op = this.waiting[0];
        let ended;
        try {
          const reply = (op.unclear && await done(op)) || await send(op);
          this.ended = [...this.ended.slice(-99), { ...op, ended: Date.now() }];
          ended = () => this.on.stored(op, reply);
        } catch (error) {
          if (!(error instanceof Refused)) throw error;
          if (FINAL.includes(error.status)) ended = () => this.on.refused(op, error.message);
          else {
            this.trouble = error.message;
            op.unclear ||= error.status === 0;
          }
        }
        if (ended) {
          tries = 0;
          this.trouble = "";
          this.waiting.shift();
          this.keep();
          ended();
        } else {
          this.on.changed();
          await this.pause(WAITS[Math.min(tries, WAITS.length - 1)]);
          tries += 1;
        }
      }
    } finally {
      this.running = false;
      this.on.changed();
    }
  }

  pause(wait) {
    return new Promise((done) => {
      const timer = setTimeout(done, wait);
      this.wake = () => { clearTimeout(timer); done(); };
    });
  }

  keep(at = Date.now()) {
    const name = KEEP + this.tab;
    attempt(() => {
      if (!this.waiting.length) localStorage.removeItem(name);
      else localStorage.setItem(name, JSON.stringify({ survey: this.survey, at, waiting: this.waiting }));
    });
  }

  /** The page is left: the next one may take over at once. */
  release() {
    this.keep(0);
    this.waiting = [];
  }

  /** Take over what this page, before it was loaded anew, or one that is no more, did not send. */
  adopt() {
    const names = attempt(() => Object.keys(localStorage)) ?? [];
    for (const name of names.filter((one) => one.startsWith(KEEP))) {
      const own = name === KEEP + this.tab;
      const held = attempt(() => JSON.parse(localStorage.getItem(name)));
      if (!held || held.survey !== this.survey || (own ? this.waiting.length : Date.now() - held.at < LAPSED)) continue;
      attempt(() => localStorage.removeItem(name));
      held.waiting[0].unclear = true; // it may have been on its way
      this.waiting.push(...held.waiting);
      this.keep();
      this.run();
    }
  }
}

function send({ kind, path, who, object, answer, order }) {
  return kind === "undo" ? post(`${path}/undo`, { who }) : post(path, { who, object, answer, order });
}

/** The last answer of a person that holds. */
export async function newest(path, who) {
  const found = await api(`${path}/objects`, { who, order: "done", limit: 1, columns: "id" });
  return found.rows[0] ?? null;
}

/** What an attempt without a reply came to: it may have been stored before the line broke. */
async function done({ kind, path, who, object, answer, before }) {
  const last = await newest(path, who);
  const holds = last?.id === object && last.label === answer;
  if (holds !== (kind === "answer")) return null;
  return { object, answer: holds ? answer : before };
}
