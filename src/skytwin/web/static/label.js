// Labelling: the grid, its keys, what is offered next, and what the labels say so far.

import { $, api, count, el, info, later, number, problem, Refused, post, say } from "./common.js";
import { chips } from "./label_chips.js";
import { files } from "./label_files.js";
import { Grid, tone } from "./label_grid.js";
import { Large } from "./label_large.js";
import { listenToKeys } from "./label_keys.js";
import { LEARNING, Offers, ORDERS, usual } from "./label_offer.js";
import { drawSummary } from "./label_panel.js";
import { newest, Queue } from "./label_queue.js";
import { ask, known } from "./label_who.js";
import { address, lookOf, readState } from "./state.js";

const name = $("question").dataset.question;
const path = `/api/labels/${encodeURIComponent(name)}`;
let about, question, queue, grid, large, offers;
let state = readState(), who = known();
let past = []; // what this page answered, to take back

const order = () => state.order || usual(question, state);
// Who sees what others said, before having said it, does not say the same.
const blind = () => order() !== "conflicts";
const asked = () => ({ path, question, who, order: order(), state, queue });

const load = (at) => {
  problem("");
  chips($("chips"), question.kind === "certify" ? null : state, about, change);
  return offers.load(at);
};

function told(model) {
  $("model").hidden = !model;
  if (!model) return;
  const { yes, no, references } = model.trained_on;
  const learnt = `${count(yes)} yes, ${count(no)} no${references ? ` and ${count(references)} reference${references > 1 ? "s" : ""}` : ""}`;
  $("model").replaceChildren(`learnt from ${learnt} in ${number(model.seconds, 2)} s${model.note ? `; ${model.note}` : ""}`);
}

// --- answers ----------------------------------------------------------------

async function named() {
  if (!who) rename(await ask(question.people, ""));
  return who;
}

async function give(answer) {
  if (!grid.targets.length || !(await named())) return;
  const group = grid.targets.map((row) => ({ row, before: row.label, answer }));
  past.push(group);
  for (const { row } of group) {
    Object.assign(row, { label: answer, state: "waiting" });
    grid.skipped.delete(row.id);
    queue.answer(path, who, row.id, answer, order());
  }
  grid.chosen.clear();
  group.forEach(({ row }) => grid.update(row.id));
  offers.next();
  say(`${group.length === 1 ? group[0].row.id : `${group.length} objects`}: ${answer}`);
}

async function undo() {
  if (!who) return;
  const group = past.pop() ?? await earlier();
  for (const { row: given, before, answer } of group.reverse()) {
    const row = grid.row(given.id) ?? given; // another one, if the order was loaded anew
    Object.assign(row, { label: before, state: "waiting" });
    queue.undo(path, who, row.id, answer, before);
    grid.skipped.delete(row.id);
    back(row);
  }
  if (group.length) say(`taken back: ${group.map(({ row }) => row.id).join(", ")}`);
}

/** The last answer from before this page was opened. */
async function earlier() {
  if (queue.waiting.length) return []; // the server does not know the last one yet
  try {
    const last = await newest(path, who);
    if (!last) say("no answer of yours is left to take back");
    return last ? [{ row: grid.row(last.id) ?? last, before: null, answer: last.label }] : [];
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
    return [];
  }
}

/** Go to an object; where it is no longer shown, it comes first. */
function back(row) {
  if (!grid.row(row.id)) grid.add([row], { first: true });
  grid.chosen.clear();
  grid.update(row.id);
  grid.goTo(row.id);
}

function stored(op, reply) {
  if (op.path === path && op.who === who) {
    const due = (id) => queue.waiting.some((one) => one.object === id);
    if (op.kind === "answer") {
      const row = grid.row(op.object);
      if (row && !due(op.object)) Object.assign(row, { label: op.answer, state: "stored" });
      grid.update(op.object);
    } else if (reply.object === op.object && !(reply.undone > 1)) {
      const row = grid.row(op.object);
      if (row && !due(op.object)) Object.assign(row, { label: reply.answer, state: reply.answer ? "stored" : "" });
      grid.update(op.object);
    } else { // the same person labels elsewhere too, or a file was taken back whole
      load(reply.object);
      say(`${count(reply.undone)} taken back`);
    }
  }
  large.show(grid.current);
  summarySoon();
  if (state.still !== "1") offers.learnSoon();
}

function refused(op, message) {
  const what = op.kind === "undo" ? "Nothing was taken back" : `${op.object}: ${op.answer} was not stored`;
  const row = grid.row(op.object);
  if (row) Object.assign(row, { label: null, state: op.kind === "answer" ? "refused" : "" });
  if (row) grid.update(op.object);
  problem(`${what}: ${message}`);
}

function saving() {
  const n = queue.waiting.length;
  $("saved").textContent = n ? `storing ${count(n)}` : "all stored";
  $("saved").classList.toggle("waiting", n > 0);
  const silent = n > 0 && queue.trouble !== "";
  if (silent === !$("unsent").hidden) return;
  $("unsent").hidden = !silent;
  if (silent) $("unsent-words").textContent = `${queue.trouble.replace(/[^.?!]$/, "$&.")} Your answers wait in this browser and are sent as soon as that is over; go on, but keep this page open. `;
  else say("the server is back; all answers are stored");
}

// --- what they add up to ----------------------------------------------------

async function summarize() {
  try {
    const { like, unlike, metric, combine } = question.kind === "certify" ? {} : state;
    drawSummary(await api(`${path}/summary`, { who, like, unlike, metric, combine }), question, who);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status) problem(error.message);
  }
}
const summarySoon = later(summarize, 400);

async function nextRound() {
  $("next").disabled = true;
  try {
    question = await post(`${path}/next`, {});
    past = [];
    say("the next round is planned");
    await Promise.all([load(), summarize()]);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
  $("next").disabled = false;
}

// --- drawing ----------------------------------------------------------------

function headline() {
  const open = grid.open.length;
  const words = { plan: `${count(open)} of ${count(offers.total)} to label`, conflicts: `${count(offers.total)} where people differ`, done: `${count(offers.total)} labelled by you` };
  $("summary").textContent = !grid.rows.length ? "Nothing to show" : words[order()] ?? `${count(grid.rows.length)} of ${count(offers.total)}, ${ORDERS[order()]}`;
  const learning = LEARNING.includes(order());
  $("more").hidden = learning ? !offers.total : order() === "random" || grid.rows.length >= offers.total;
  $("more").textContent = learning ? "Others (n)" : "More";
  $("empty").hidden = grid.rows.length > 0;
  $("empty").textContent = order() === "conflicts" ? "Nobody differs." : order() === "done" ? "No answer of yours yet." : "Nothing is offered in this order.";
}

function moved() {
  if (!offers) return;
  const n = grid.chosen.size;
  $("chosen").textContent = n ? `${count(n)} chosen` : "";
  large.show(grid.current);
  if (question.kind === "certify" && order() === "plan") headline();
}

function fill() {
  $("order").value = order();
  $("stretch").value = state.stretch;
  if ($("bands")) $("bands").value = state.bands;
  $("whole").checked = state.whole === "1";
  $("size").value = state.size;
  $("learning").checked = state.still !== "1";
  $("learning").closest("label").hidden = !LEARNING.includes(order());
  $("cards").className = `cards size-${state.size}`;
  for (const box of $("show").querySelectorAll("input")) box.checked = state.show.includes(box.value);
  $("sighted").hidden = !(state.show.length && question.kind === "certify");
}

function rename(given) {
  if (given === who) return;
  who = given;
  past = [];
  grid.skipped.clear();
  $("who").textContent = who || "nobody yet";
}

/** Change what is asked for, or, with `quiet`, only how it looks. */
function change(what, { quiet = false } = {}) {
  state = { ...state, ...what };
  history.pushState(null, "", address(state));
  fill();
  if (quiet) grid.redraw();
  else load();
}

// --- hands ------------------------------------------------------------------

function listen() {
  listenToKeys({
    large, answer: (at) => give(question.answers[at]), answers: question.answers.length, undo, skip: () => offers.skip(),
    move: (key, extend) => grid.rows.length && grid.move(key, extend),
    enlarge: () => large.toggle(grid.current),
    visit: () => grid.current && open(`/object/${encodeURIComponent(grid.current.id)}`, "_blank", "noopener"),
    toggle: () => grid.current && grid.toggle(grid.current.id),
    all: () => grid.choose(grid.open), none: () => grid.choose([]),
    learn: () => offers.learn(), more: () => $("more").hidden || $("more").click(),
  });
  for (const place of document.querySelectorAll(".answers")) {
    place.replaceChildren(...question.answers.map((answer, at) => el("button", { type: "button", class: `answer ${tone(question.answers, answer)}`, "aria-keyshortcuts": String(at + 1), onclick: () => give(answer) },
      el("kbd", { "aria-hidden": "true" }, at + 1), el("span", {}, answer))));
  }
  const click = (id, run) => $(id).addEventListener("click", run);
  const hands = { undo, skip: () => offers.skip() };
  for (const one of document.querySelectorAll("[data-hand]")) one.addEventListener("click", hands[one.dataset.hand]);
  click("enlarge", () => large.toggle(grid.current));
  click("more", () => offers.more());
  click("try", () => queue.now());
  click("conflicts", () => change({ order: "conflicts" }));
  click("next", nextRound);
  click("several", () => {
    grid.several = !grid.several;
    $("several").setAttribute("aria-pressed", String(grid.several));
    if (!grid.several) grid.choose([]);
  });
  click("rename", async () => {
    rename(await ask(question.people, who));
    await Promise.all([load(), summarize()]);
  });
  const changed = (id, what, quiet) => $(id)?.addEventListener("change", () => change(what($(id)), { quiet }));
  changed("order", (at) => ({ order: at.value }));
  changed("stretch", (at) => ({ stretch: at.value }), true);
  changed("bands", (at) => ({ bands: at.value }), true);
  changed("whole", (at) => ({ whole: at.checked ? "1" : "" }), true);
  changed("size", (at) => ({ size: at.value }), true);
  changed("learning", (at) => ({ still: at.checked ? "" : "1" }), true);
  changed("show", (at) => ({ show: [...at.querySelectorAll("input:checked")].map((box) => box.value) }));
  addEventListener("popstate", () => { state = readState(); fill(); load(); });
}

async function begin() {
  try {
    about = await info();
    const { questions, notes } = await api("/api/questions");
    $("about-book").replaceChildren(...notes.map((one) => el("p", { class: "note" }, one)));
    question = questions.find((one) => one.name === name);
    if (!question) throw new Refused(`No question is called ${name}; see all questions.`);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
    return;
  }
  $("about-question").textContent = question.about ?? "";
  const offered = question.kind === "certify" ? ["plan", "conflicts", "done"] : Object.keys(ORDERS).slice(1);
  $("order").replaceChildren(...offered.map((one) => el("option", { value: one }, ORDERS[one])));
  if (!offered.includes(state.order)) state.order = "";
  queue = new Queue(`${about.name} ${about.objects}`, { stored, refused, changed: () => queue && saving() });
  const options = { about, answers: question.answers, look: () => ({ ...lookOf(state), bar: state.size === "l" }), show: () => state.show, blind, who: () => who, moved, opened: () => large.toggle(grid.current) };
  grid = new Grid($("cards"), options);
  offers = new Offers(grid, asked, (model) => { told(model); headline(); });
  large = new Large({ about, look: () => lookOf(state) });
  $("files").replaceChildren(files(name, named, (words, good) => {
    problem(good ? "" : words);
    $("imported").textContent = good ? words : "";
    if (good) Promise.all([load(), summarize()]);
  }));
  if (matchMedia("(max-width: 860px)").matches) for (const id of ["look", "files-panel"]) $(id).open = false;
  if (!about.images) problem(about.no_images);
  $("who").textContent = who || "nobody yet";
  fill();
  listen();
  saving();
  await Promise.all([load(), summarize()]);
  $("cards").focus({ preventScroll: true });
  if (!who) rename(await ask(question.people));
  if (who) await Promise.all([load(), summarize()]);
}

begin();
