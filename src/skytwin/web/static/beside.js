// One query, two embeddings: what both find is marked.

import { $, api, el, info, number, picture, problem, Refused, typing } from "./common.js";
import { card, walk } from "./cards.js";
import { address, lookOf, readState } from "./state.js";

const SHOWN = 60;
let about, state = readState(), running = null;
const SIDES = ["a", "b"];

async function refresh() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  problem("");
  chips([]);
  if (!state.like.length) {
    $("words").textContent = "Name an object, or pick one.";
    const some = await api("/api/objects", { limit: 24, columns: "id" }, signal);
    show("a", some.rows, new Set());
    $("cards-b").replaceChildren();
    return;
  }
  const { like, unlike, metric, combine, where } = state;
  for (const side of SIDES) $(`cards-${side}`).classList.add("waiting");
  const asked = { like, unlike, metric, combine, where, k: SHOWN, limit: SHOWN, columns: "id" };
  try {
    const found = await Promise.all(SIDES.map((side) => api("/api/search", { ...asked, embedding: $(side).value }, signal)));
    const ids = found.map((one) => new Set(one.rows.map((row) => row.id)));
    const both = new Set([...ids[0]].filter((id) => ids[1].has(id)));
    SIDES.forEach((side, at) => {
      show(side, found[at].rows, both);
      $(`how-${side}`).textContent = found[at].how;
    });
    chips(found[0].references);
    $("words").replaceChildren(el("b", {}, `${both.size} of the nearest ${found[0].rows.length}`), " are found by both",
      el("span", { class: "unit" }, `; by chance it would be ${number((found[0].rows.length ** 2) / about.objects, 2)}`));
    document.title = `like ${like.join(", ")}, side by side`;
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
    $("words").textContent = "";
    for (const side of SIDES) $(`cards-${side}`).replaceChildren();
  } finally {
    for (const side of SIDES) $(`cards-${side}`).classList.remove("waiting");
  }
}

const likeAddress = (id) => address({ ...state, like: [id], unlike: [] });

function show(side, rows, both) {
  const options = { about, look: lookOf(state), show: [], size: 256, like: likeAddress, bar: false };
  $(`cards-${side}`).replaceChildren(...rows.map((row) => {
    const made = card(row, options);
    if (both.has(row.id)) {
      made.classList.add("shared");
      made.querySelector(".picture").append(el("span", { class: "both", title: "found by both" }, "both"));
    }
    return made;
  }));
}

function chips(references) {
  const names = references.length ? references : [...state.like.map((text) => ({ text, name: text })), ...state.unlike.map((text) => ({ text, name: text, negative: true }))];
  $("chips").replaceChildren(...names.map((one) => el("li", { class: one.negative ? "chip negative" : "chip" },
    about.images && one.id ? el("img", { src: picture(one.id, about, lookOf(state), 80), alt: "", width: 40, height: 40 }) : null,
    el("span", { class: "role" }, one.negative ? "−" : "+", el("span", { class: "hidden" }, one.negative ? " not like" : " like")),
    el("span", { class: "name", title: one.name }, one.name))));
}

function go(change) {
  state = { ...state, ...change };
  history.pushState(null, "", address(state));
  refresh();
}

async function begin() {
  try {
    about = await info();
    for (const side of SIDES) {
      if (state[side]) $(side).value = state[side] === about.name ? "" : state[side];
      $(side).addEventListener("change", () => go({ [side]: $(side).value || about.name }));
      walk($(`cards-${side}`), { i: (id) => { location.href = `/object/${encodeURIComponent(id)}`; } });
      $(`cards-${side}`).addEventListener("click", (event) => {
        const link = event.target.closest("a.picture");
        if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        scrollTo({ top: 0 });
        go({ like: [link.closest(".card").dataset.id], unlike: [] });
      });
    }
    $("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      const text = $("text").value.trim();
      $("text").value = "";
      if (text) go({ like: [text.split(/[\s,]+/).length === 2 ? text.split(/[\s,]+/).join(",") : text], unlike: [] });
    });
    addEventListener("popstate", () => { state = readState(); refresh(); });
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !typing(event)) { event.preventDefault(); $("text").focus(); }
    });
    await refresh();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

begin();
