// TOPCAT, Aladin and other programs by SAMP: matches to them, and from them what they point at.

import { $, api, count, el, post, Refused, say } from "./common.js";

const EVERY_MS = 1000;
let last = 0, timer = null, listening = false, take = () => {};

function words(text, kind = "") {
  $("samp-words").className = `samp-words ${kind}`;
  $("samp-words").textContent = text;
}

function refused(error) {
  if (!(error instanceof Refused)) throw error;
  words(error.message, "note");
}

/** Who is there, as the panel shows it. */
async function look() {
  $("samp-state").textContent = "asking the hub";
  try {
    const found = await api("/api/samp/clients");
    const chosen = $("samp-to").value;
    $("samp-to").replaceChildren(el("option", { value: "all" }, "every program"),
      ...[...new Set(found.clients)].map((name) => el("option", { value: name }, name)));
    if (found.clients.includes(chosen)) $("samp-to").value = chosen;
    $("samp-state").textContent = !found.hub ? found.problem
      : found.clients.length ? `Running: ${found.clients.join(", ")}.`
        : "There is a hub, but no program that takes tables; start TOPCAT or Aladin.";
    heard(found);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("samp-state").textContent = error.message;
  }
}

async function send(asked) {
  words("sending", "busy");
  $("samp-send").disabled = true;
  try {
    const done = await post("/api/samp/send", {}, { ...asked, to: $("samp-to").value });
    const not = done.refused.length ? `; not to ${done.refused.join("; ")}` : "";
    words(`${count(done.rows)} ${done.rows === 1 ? "match" : "matches"} sent to ${done.clients.join(", ")}${not}.`);
  } catch (error) {
    refused(error);
  } finally {
    $("samp-send").disabled = false;
  }
}

async function listen(on) {
  try {
    listening = (await post("/api/samp/listen", {}, { on: String(on) })).listening;
    if (on) words("Pick a row or a place on the sky in TOPCAT or Aladin.");
  } catch (error) {
    refused(error);
  }
  show();
}

function show() {
  $("samp-listen").setAttribute("aria-pressed", String(listening));
  $("samp-listen").textContent = listening ? "Listening" : "Listen";
  clearTimeout(timer);
  if (listening) timer = setTimeout(poll, EVERY_MS);
}

/** The answers that tell how far the server is: only what comes later is meant for this page. */
function heard(answer) {
  last = answer.last;
  listening = answer.listening;
  show();
}

async function poll() {
  if (document.hidden) return show(); // another tab, or nobody, is looked at
  const was = last;
  let answer;
  try {
    answer = await api("/api/samp/received", { after: last });
  } catch (error) {
    listening = false;
    show();
    return refused(error);
  }
  heard(answer);
  if (!listening) words("The SAMP hub has closed.", "note");
  const latest = answer.received.filter((one) => one.number > was).at(-1);
  if (!latest) return undefined;
  if (latest.problem) return words(`${latest.client}: ${latest.problem}`, "note");
  words(`${latest.client} points at ${latest.like.length === 1 ? latest.like[0] : `${latest.like.length} objects`}.`);
  say(`${latest.client} points at ${latest.like.join(", ")}`);
  return take(latest.like);
}

/**
 * asked(): the parameters of the present list; pointed(ids): what another program points at.
 */
export function samp(asked, pointed) {
  if (!$("samp-send")) return;
  take = pointed;
  $("samp-send").addEventListener("click", () => send(asked()));
  $("samp-listen").addEventListener("click", () => listen(!listening));
  $("samp-again").addEventListener("click", look);
  $("samp-panel").addEventListener("toggle", () => { if ($("samp-panel").open) look(); });
  api("/api/samp/received", { after: 1e9 }).then(heard, refused);
}
