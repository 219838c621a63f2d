// Beside the grid: what the labels add up to.

import { $, count, el, number, say } from "./common.js";
import { tone } from "./label_grid.js";

const line = (...words) => el("p", {}, ...words);

/** Fill the panels from what /summary says. */
export function drawSummary(found, question, who) {
  drawCounts(found, question, who);
  drawPeople(found, who);
  drawPurity(found);
  drawCertificate(found);
  $("notes").replaceChildren(...found.notes.map((note) => el("p", { class: "note" }, note)));
}

function drawCounts(found, question, who) {
  const most = Math.max(1, ...Object.values(found.counts));
  $("counts").replaceChildren(...Object.entries(found.counts).map(([answer, given]) => {
    const bar = el("span", { class: `share ${tone(question.answers, answer)}` });
    bar.style.width = `${(100 * given) / most}%`;
    return el("div", {}, el("dt", {}, answer), el("dd", {}, el("span", { class: "rail" }, bar), el("b", {}, count(given))));
  }));
  const mine = found.people.find((one) => one.who === who)?.labels ?? 0;
  const { certificate } = found;
  const done = certificate ? question.objects - certificate.missing : mine;
  $("progress-words").textContent = certificate
    ? `${count(done)} of the ${count(question.objects)} of this round labelled`
    : `${count(done)} labelled by you`;
  $("progress").hidden = !certificate;
  $("progress").max = Math.max(1, question.objects);
  $("progress").value = done;
}

function drawPeople(found, who) {
  $("people-panel").hidden = !found.people.length;
  $("people").replaceChildren(...found.people.map((one) => el("tr", {},
    el("th", { scope: "row" }, one.who, one.who === who ? el("span", { class: "unit" }, " (you)") : null),
    el("td", {}, count(one.labels)),
    el("td", { class: "unit" }, one.last ? when(one.last) : ""))));
  const { agreement, both, conflicts } = found;
  const words = [];
  if (found.people.length > 1) {
    words.push(line(`${count(both)} answered by two or more, `, el("b", {}, `${count(conflicts)} with different answers`)));
  }
  if (agreement) {
    const limits = agreement.low === null || agreement.low === undefined ? "" : ` (${number(agreement.low, 2)} to ${number(agreement.high, 2)})`;
    words.push(line(`${agreement.statistic} `, el("b", {}, number(agreement.value, 2)), limits));
  }
  $("agreement").replaceChildren(...words);
  $("conflicts").hidden = !conflicts;
}

function when(text) {
  const then = new Date(text);
  const today = then.toDateString() === new Date().toDateString();
  return today ? then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }) : then.toLocaleDateString();
}

function drawPurity({ purity }) {
  $("purity-panel").hidden = !purity;
  if (!purity) return;
  // In words alone: a number that stood out would be taken for more than it is.
  $("purity").replaceChildren(...purity.lines.map((one, at) => el("p", { class: at ? "unit" : "" }, one)));
}

const named = /^ *(\S+(?: \S+)*) {2,}(\S.*)$/; // "  base rate     0.3 [0.1, 0.7]"

const table = (lines) => el("table", { class: "people" }, el("tbody", {}, lines.map((one) => named.exec(one)).filter(Boolean)
  .map(([, name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)))));

const notes = (lines) => lines.filter((one) => !named.test(one)).map((one) => el("p", { class: "unit" }, one.trim()));

function drawCertificate({ certificate }) {
  $("certificate-panel").hidden = !certificate;
  if (!certificate) return;
  const { state, headline, lines, round, rounds } = certificate;
  if (state !== "labels missing" && $("certificate").dataset.said !== headline) say(headline);
  $("certificate").dataset.said = headline;
  $("certificate-round").textContent = `round ${round} of ${rounds}`;
  $("certificate").className = state === "ready" ? "ready" : "";
  $("certificate").replaceChildren(line(headline), table(lines), ...notes(lines));
  $("next").hidden = !certificate.next;
}
