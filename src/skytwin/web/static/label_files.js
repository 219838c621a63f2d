// Labels out of a question and into it, as files.

import { el, count, post, query, Refused } from "./common.js";

const path = (question) => `/api/labels/${encodeURIComponent(question)}`;

/** Links that save the labels, and a button that takes in a file; `taken(words)` says how it went. */
export function files(question, who, taken) {
  const link = (format, resolved, words) => el("a", { class: "button", href: `${path(question)}/export${query({ format, resolved })}`, download: "" }, words);
  const taker = (mine) => {
    const input = el("input", { type: "file", class: "hidden", accept: ".csv,.parquet" });
    input.addEventListener("change", async () => {
      const file = input.files[0];
      input.value = "";
      const name = file && mine && await who();
      if (!file || (mine && !name)) return;
      try {
        taken(words(file.name, await post(`${path(question)}/import`, file, mine ? { who: name } : {})), true);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        taken(`${file.name}: ${error.message}`, false);
      }
    });
    return input;
  };
  return el("div", { class: "files" },
    el("p", {}, el("span", {}, "Per object"), link("csv", "majority", "CSV"), link("parquet", "majority", "Parquet")),
    el("p", {}, el("span", {}, "Everybody's"), link("csv", "all", "CSV"), link("parquet", "all", "Parquet")),
    el("p", {}, el("span", {}, "Import"),
      el("label", { class: "button file" }, "As mine", taker(true)),
      el("label", { class: "button file" }, "With names", taker(false))),
    el("p", { class: "unit" }, "CSV or Parquet with the columns id and label; with names: who, too"));
}

function words(name, { taken, same, unknown, unknown_count }) {
  const again = same ? `, ${count(same)} known already` : "";
  const lost = unknown_count ? `; ${count(unknown_count)} of unknown objects left out: ${unknown.join(", ")}${unknown_count > unknown.length ? ", …" : ""}` : "";
  return `${name}: ${count(taken)} label${taken === 1 ? "" : "s"} taken in${again}${lost}`;
}
