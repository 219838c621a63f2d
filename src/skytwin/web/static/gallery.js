// The gallery: look-alikes of some references, the threshold beside them.

import { $, api, count, dropImage, el, info, later, number, picture, problem, query, Refused, say, typing } from "./common.js";
import { card, walk } from "./cards.js";
import { Curve } from "./curve.js";
import { samp } from "./samp.js";
import { sky, skyOf } from "./sky.js";
import { explained, prepareWhenQuiet } from "./why.js";
import { address, labelAddress, lookOf, readState } from "./state.js";

const PAGE = 100;
let about = null;
let state = readState();
let found = null;   // the answer that is shown
let rows = [];      // its rows so far
let running = null; // what is being asked for
const names = new Map(); // of dropped images

const curve = new Curve($("curve"), (distance) => setThreshold(distance));

// --- asking -----------------------------------------------------------------

function asked() {
  const { like, unlike, metric, combine } = state;
  return { like, unlike, metric, combine };
}

function columns() {
  return state.show.length ? state.show : ["id"];
}

async function refresh({ focus = false } = {}) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  problem("");
  drawChips();
  const searching = state.like.length > 0;
  $("busy").hidden = false;
  $("cards").classList.add("waiting");
  $("threshold-panel").hidden = !searching;
  $("order").hidden = searching;
  if (searching) curve.wait("measuring");
  try {
    found = await page(0, signal);
    rows = found.rows;
    drawAll();
    if (focus) $("summary").focus({ preventScroll: true });
    say(searching ? `${found.total} matches` : `${found.total} objects`);
    if (searching) await Promise.all([measure(signal), weigh(signal)]);
    if (searching && about.query_images && about.images) prepareWhenQuiet();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
    found = null;
    rows = [];
    $("threshold-panel").hidden = true;
    emptied("Nothing to show.");
  } finally {
    if (!signal.aborted) {
      $("busy").hidden = true;
      $("cards").classList.remove("waiting");
    }
  }
}

function page(offset, signal) {
  const common = { columns: columns(), offset, limit: PAGE, where: state.where, inside: state.inside };
  if (!state.like.length) {
    const { sort, desc, seed } = state;
    return api("/api/objects", { ...common, limit: 48, ...(sort ? { sort, descending: desc === "1" } : { seed }) }, signal);
  }
  const { k, radius } = state;
  return api("/api/search", { ...asked(), ...common, ...(radius ? { radius } : { k }) }, signal);
}

async function measure(signal) {
  const positive = state.positive || (about.positive.length ? undefined : "");
  let data;
  try {
    data = positive === ""
      ? await api("/api/distances", { ...asked(), where: state.where, inside: state.inside }, signal)
      : await api("/api/purity", { ...asked(), positive }, signal);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    curve.wait(error.message);
    $("reading").replaceChildren();
    return;
  }
  showCurve(data);
}

function showCurve(data) {
  const cut = state.t === "" ? found.reach : Number(state.t);
  curve.show(data, Math.max(found.reach, cut), state.far === "1");
  setThreshold(cut, { quiet: state.t === "" });
}

/** Probabilities take longer than the list: they come after it. */
async function weigh(signal) {
  if (!about.positive.length || state.positive) return;
  const { k, radius } = state;
  const wanted = { ...asked(), where: state.where, inside: state.inside, offset: 0, limit: Math.min(500, rows.length), columns: ["id"], probability: true };
  const answer = await api("/api/search", { ...wanted, ...(radius ? { radius } : { k }) }, signal);
  const chance = new Map(answer.rows.map((row) => [row.id, row.probability]));
  rows.forEach((row) => { row.probability = chance.get(row.id) ?? row.probability; });
  for (const one of $("cards").children) {
    const p = chance.get(one.dataset.id);
    if (p !== null && p !== undefined) one.querySelector(".chance").textContent = `p ${p.toFixed(2)}`;
  }
  $("notes").replaceChildren(...answer.notes.filter((note) => /warning|no prob/.test(note)).map((note) => el("p", { class: "note" }, note)));
}

async function more() {
  $("more").disabled = true;
  try {
    const next = await page(rows.length, running?.signal);
    rows = rows.concat(next.rows);
    $("cards").append(...next.rows.map(made));
    beyond();
    skyOf(rows, found.references);
  } catch (error) {
    if (error.name !== "AbortError") problem(error.message);
  }
  $("more").disabled = false;
  $("more").hidden = rows.length >= found.total;
}

// --- drawing ----------------------------------------------------------------

const likeAddress = (id) => address({ ...state, like: [id], unlike: [], t: "", radius: "" }, "/");

function made(row, number_) {
  return card(row, {
    about, look: lookOf(state), show: state.show, size: { s: 128, m: 256, l: 512 }[state.size] ?? 256,
    like: likeAddress, add, why: about.query_images && about.images ? why : null, bar: number_ === 0 || state.size === "l",
  });
}

function drawAll() {
  const list = $("cards");
  list.className = `cards size-${state.size}`;
  list.replaceChildren(...rows.map(made));
  $("more").hidden = rows.length >= found.total;
  $("actions").hidden = !state.like.length || !rows.length;
  $("notes").replaceChildren();
  const searching = state.like.length > 0;
  $("summary").textContent = searching
    ? `${count(found.total)} most like ${found.references.length === 1 ? "it" : `${found.references.length} references`}, ${found.how}`
    : state.where || state.inside ? `${count(found.total)} objects${state.inside ? ` inside ${state.inside}` : ""}${state.where ? ` where ${state.where}` : ""}` : "Pick one to see what looks like it";
  if (!rows.length) emptied("No object fulfils this.");
  document.title = searching ? `like ${found.references.map((one) => one.name).join(", ")} · skytwin` : `${about.name} · skytwin`;
  $("label-these").href = labelAddress(state, "/label");
  if ($("beside")) $("beside").href = address({ ...state, show: [], t: "", radius: "" }, "/beside");
  found.references?.forEach((one) => names.set(one.text, one.name));
  drawChips();
  skyOf(rows, found.references);
}

function emptied(text) {
  skyOf([], []);
  $("cards").replaceChildren(el("li", { class: "empty" }, text));
  $("more").hidden = true;
  $("summary").textContent = "No matches";
  $("actions").hidden = true;
}

function drawChips() {
  const chip = (text, negative) => {
    const held = found?.references?.find((one) => one.text === text && one.negative === negative);
    const name = held?.name ?? names.get(text) ?? text;
    const id = held?.id ?? text;
    const drop = () => go({ [negative ? "unlike" : "like"]: state[negative ? "unlike" : "like"].filter((one) => one !== text), t: "", radius: "" });
    const shown = about?.images && (held || text.startsWith("image:"));
    return el("li", { class: negative ? "chip negative" : "chip" },
      shown ? el("img", { src: picture(id, about, lookOf(state), 80), alt: "", width: 40, height: 40 }) : null,
      el("span", { class: "role", title: negative ? "turn away from" : "look for" }, negative ? "−" : "+", el("span", { class: "hidden" }, negative ? " not like" : " like")),
      held?.id ? el("a", { class: "name", href: `/object/${encodeURIComponent(held.id)}`, title: name }, name) : el("span", { class: "name", title: name }, name),
      el("button", { type: "button", title: "Leave it out", "aria-label": `Leave out ${name}`, onclick: drop }, "✕"));
  };
  const clear = state.like.length + state.unlike.length > 1
    ? [el("li", {}, el("button", { type: "button", onclick: () => go({ like: [], unlike: [], t: "", radius: "" }) }, "Clear all"))] : [];
  $("chips").replaceChildren(...state.like.map((text) => chip(text, false)), ...state.unlike.map((text) => chip(text, true)), ...clear);
}

// --- the threshold ----------------------------------------------------------

const remember = later(() => history.replaceState(null, "", address(state)), 250);

function setThreshold(distance, { quiet = false } = {}) {
  if (!curve.data || distance === null || Number.isNaN(distance)) return;
  if (!quiet) {
    state.t = String(Number(distance.toPrecision(6)));
    remember();
  }
  const slider = $("threshold");
  slider.value = Math.round((1000 * (distance - curve.low)) / (curve.high - curve.low));
  slider.setAttribute("aria-valuetext", `distance ${number(distance, 3)}`);
  const whole = (state.where || state.inside) && curve.data.purity ? [el("br"), "of all labelled objects, whatever the condition"] : [];
  $("reading").replaceChildren(...curve.reading(distance), ...whole);
  beyond();
}

function beyond() {
  const cut = state.t === "" ? Infinity : Number(state.t);
  for (const one of $("cards").children) one.classList.toggle("beyond", Number(one.dataset.distance) > cut);
}

// --- changing what is asked -------------------------------------------------

function go(change, options = {}) {
  state = { ...state, ...change };
  history.pushState(null, "", address(state));
  fill();
  refresh(options);
}

function add(id, negative) {
  const [to, from] = negative ? ["unlike", "like"] : ["like", "unlike"];
  if (negative && state.like.filter((one) => one !== id).length === 0) {
    problem("Nothing to look for is left; add what you look for first (+).");
    return;
  }
  say(negative ? `turning away from ${id}` : `looking for ${id} too`);
  go({ [to]: [...new Set([...state[to], id])], [from]: state[from].filter((one) => one !== id), t: "", radius: "" });
}

async function take(file) {
  problem("");
  $("busy").hidden = false;
  say(`reading ${file.name}`);
  try {
    const answer = await dropImage(file);
    names.set(answer.like, answer.name);
    go({ like: [answer.like], unlike: [], t: "", radius: "" });
  } catch (error) {
    $("busy").hidden = true;
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

const why = (id) => explained(id, asked(), about, lookOf(state));

function fill() {
  $("sort").value = state.sort;
  $("desc").checked = state.desc === "1";
  $("falling").hidden = !state.sort;
  $("another").hidden = Boolean(state.sort);
  $("metric").value = state.metric || about.metric;
  $("combine").value = state.combine || about.combine;
  $("k").value = state.k;
  $("where").value = state.where;
  if ($("inside")) $("inside").value = state.inside;
  $("positive").value = state.positive || $("positive").dataset.given || "";
  $("stretch").value = state.stretch;
  if ($("bands")) $("bands").value = state.bands;
  $("whole").checked = state.whole === "1";
  $("size").value = state.size;
  $("far").checked = state.far === "1";
  for (const box of $("show").querySelectorAll("input")) box.checked = state.show.includes(box.value);
}

function listen() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $("text").value.trim();
    if (!text) return;
    $("text").value = "";
    go({ like: [text.split(/[\s,]+/).length === 2 ? text.split(/[\s,]+/).join(",") : text], unlike: [], t: "", radius: "" }, { focus: true });
  });
  $("file")?.addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]);
    event.target.value = "";
  });
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      if (!about.query_images) return;
      $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    });
  }
  const changed = (id, change) => $(id)?.addEventListener("change", () => go(change($(id))));
  changed("metric", (at) => ({ metric: at.value === about.metric ? "" : at.value, t: "", radius: "" }));
  changed("combine", (at) => ({ combine: at.value === about.combine ? "" : at.value, t: "", radius: "" }));
  changed("k", (at) => ({ k: String(Math.min(10000, Math.max(1, Math.round(Number(at.value) || 100)))), radius: "" }));
  changed("sort", (at) => ({ sort: at.value, desc: at.value.startsWith("odd_") ? "1" : "", show: at.value && !state.show.includes(at.value) ? [...state.show, at.value] : state.show }));
  changed("desc", (at) => ({ desc: at.checked ? "1" : "" }));
  changed("where", (at) => ({ where: at.value.trim() }));
  changed("positive", (at) => ({ positive: at.value.trim() === at.dataset.given ? "" : at.value.trim() }));
  const look = (id, change) => $(id)?.addEventListener("change", () => {
    state = { ...state, ...change($(id)) };
    history.pushState(null, "", address(state));
    drawAll();
    beyond();
  });
  look("stretch", (at) => ({ stretch: at.value }));
  look("bands", (at) => ({ bands: at.value }));
  look("whole", (at) => ({ whole: at.checked ? "1" : "" }));
  look("size", (at) => ({ size: at.value }));
  $("show").addEventListener("change", () =>
    go({ show: [...$("show").querySelectorAll("input:checked")].map((box) => box.value) }));
  $("threshold").addEventListener("input", (event) =>
    setThreshold(curve.low + (event.target.value / 1000) * (curve.high - curve.low)));
  $("far").addEventListener("change", (event) => {
    state.far = event.target.checked ? "1" : "";
    remember();
    if (curve.data) showCurve(curve.data);
  });
  $("within").addEventListener("click", () => {
    if (curve.data) go({ radius: state.t || String(found.reach) });
  });
  $("more").addEventListener("click", more);
  $("another").addEventListener("click", () => go({ seed: String(Number(state.seed) + 1) }));
  $("copy-command").addEventListener("click", async () => {
    await navigator.clipboard.writeText(found.command);
    say("command copied");
    $("copy-command").textContent = "Copied";
    setTimeout(() => { $("copy-command").textContent = "Copy command"; }, 1500);
  });
  $("save").addEventListener("click", save);
  samp(() => ({ ...asked(), where: state.where, inside: state.inside, ...(state.radius ? { radius: state.radius } : { k: state.k }), within: state.t }),
    (like) => go({ like, unlike: [], t: "", radius: "" }, { focus: true }));
  sky({ inside: (name) => go({ inside: name, t: "", radius: "" }) });
  $("cards").addEventListener("click", (event) => {
    const link = event.target.closest("a.picture");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    scrollTo({ top: 0 });
    go({ like: [link.closest(".card").dataset.id], unlike: [], t: "", radius: "" }, { focus: true });
  });
  walk($("cards"), {
    "+": (id) => add(id, false), "=": (id) => add(id, false), "-": (id) => add(id, true), "−": (id) => add(id, true),
    w: (id) => { if (state.like.length && about.query_images && about.images) why(id); },
    i: (id) => { location.href = `/object/${encodeURIComponent(id)}`; },
  });
  document.addEventListener("keydown", (event) => {
    if (typing(event)) return;
    if (event.key === "/") { event.preventDefault(); $("text").focus(); }
    if (event.key === "t" && !$("threshold-panel").hidden) {
      event.preventDefault();
      $("threshold-panel").open = true;
      $("threshold").focus();
    }
    if (event.key === "ArrowDown" && event.target === document.body) { $("cards").querySelector("a")?.focus(); event.preventDefault(); }
  });
  addEventListener("popstate", () => { state = readState(); fill(); refresh(); });
}

function save() {
  const cut = state.t === "" ? Infinity : Number(state.t);
  const shown = rows.filter((row) => row.distance <= cut);
  const head = ["rank", "id", "ra", "dec", "distance", "probability", ...state.show];
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = shown.map((row) => [row.rank, row.id, row.ra, row.dec, row.distance, row.probability, ...state.show.map((name) => row.columns[name])].map(cell).join(","));
  const link = el("a", { href: URL.createObjectURL(new Blob([[head.join(","), ...lines, ""].join("\n")], { type: "text/csv" })), download: "candidates.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** In one column the threshold stands above the matches: keys must find it there too. */
function place(narrow) {
  document.querySelector(narrow.matches ? ".columns" : ".side").prepend($("threshold-panel"));
}

async function begin() {
  try {
    about = await info();
  } catch (error) {
    problem(error.message);
    return;
  }
  const narrow = matchMedia("(max-width: 860px)");
  place(narrow);
  narrow.addEventListener("change", place);
  if (narrow.matches) {
    for (const id of ["how", "look"]) $(id).open = false;
    $("threshold-panel").open = state.t !== "";
  }
  if (!about.images) $("problem").textContent = about.no_images;
  fill();
  listen();
  await refresh();
}

begin();
