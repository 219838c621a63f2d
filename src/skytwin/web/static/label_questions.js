// The questions: what is asked of objects, and a new one.

import { $, api, count, el, info, post, problem, Refused } from "./common.js";
import { chips } from "./label_chips.js";
import { files } from "./label_files.js";
import { ask, known } from "./label_who.js";
import { labelAddress, readState } from "./state.js";

const state = readState();
let about, who = known(), people = [];

async function named() {
  if (!who) who = await ask(people);
  return who;
}

const place = (name, kind) => {
  const path = `/label/${encodeURIComponent(name)}`;
  return kind === "certify" ? path : labelAddress(state, path);
};

function drawn(one) {
  const certify = one.kind === "certify";
  const words = certify ? `${count(one.labelled)} of ${count(one.objects)} of this round labelled` : `${count(one.labelled)} labelled`;
  const names = one.people.map((person) => `${person.who} ${count(person.labels)}`).join(", ");
  const taken = (text, good) => {
    problem(good ? "" : text);
    $("done").hidden = !good;
    $("done").textContent = good ? text : "";
    if (good) list();
  };
  return el("li", { class: "panel question" },
    el("h3", {}, el("a", { href: place(one.name, one.kind) }, one.name), certify ? el("span", { class: "unit" }, " certify plan") : null),
    one.about ? el("p", {}, one.about) : null,
    el("p", { class: "unit" }, `${one.answers.join(", ")} · ${words}${names ? ` · ${names}` : ""}`),
    certify ? el("progress", { value: one.labelled, max: Math.max(1, one.objects), "aria-label": `Labelled of ${one.name}` }) : null,
    el("details", {}, el("summary", {}, "Files", el("span", { class: "hidden" }, ` of ${one.name}`)), files(one.name, named, taken)));
}

async function list() {
  const { questions, book, writable, notes } = await api("/api/questions");
  $("about-book").replaceChildren(...notes.map((one) => el("p", { class: "note" }, one)));
  people = questions.flatMap((one) => one.people);
  $("questions").replaceChildren(...questions.map(drawn));
  $("empty").hidden = questions.length > 0;
  $("book").textContent = book ? `stored in ${book}` : "";
  $("make").hidden = !writable;
  if (!writable) problem("The label book cannot be written: labels can be seen, not given.");
}

async function make(event) {
  event.preventDefault();
  const answers = $("answers").value.split(",").map((one) => one.trim()).filter(Boolean);
  problem("");
  try {
    const made = await post("/api/questions", { name: $("title").value.trim(), about: $("counts").value.trim(), answers });
    location.href = place(made.name, made.kind);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

async function begin() {
  try {
    about = await info();
    chips($("chips"), state, about);
    $("make").addEventListener("submit", make);
    await list();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

begin();
