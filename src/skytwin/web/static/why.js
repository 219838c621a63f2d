// Where in the images a likeness lies, laid over them.

import { $, api, el, number, percent, picture, Refused } from "./common.js";

const FOR = [255, 176, 0], AGAINST = [77, 141, 255];
let running = null, asked = false, quiet = null;

/** Have the network loaded once nobody has touched the page for a while: the first explanation then comes soon. */
export function prepareWhenQuiet() {
  if (asked) return;
  const wait = () => {
    clearTimeout(quiet);
    quiet = setTimeout(() => {
      asked = true;
      for (const kind of ["pointermove", "keydown", "scroll"]) removeEventListener(kind, wait);
      api("/api/why-state", { load: "true" }).catch(() => {}); // it will be said when somebody asks
    }, 3000);
  };
  if (quiet === null) for (const kind of ["pointermove", "keydown", "scroll"]) addEventListener(kind, wait, { passive: true });
  wait();
}

/** What the server does meanwhile, and for how long. */
function told(signal) {
  const began = performance.now();
  const timer = setInterval(async () => {
    try {
      const { doing } = await api("/api/why-state", {}, signal);
      if (!signal.aborted && doing) $("why-words").textContent = `${doing}: ${Math.round((performance.now() - began) / 1000)} s`;
    } catch { /* the answer itself will say it */ }
  }, 1000);
  signal.addEventListener("abort", () => clearInterval(timer));
  return () => clearInterval(timer);
}

/** The cells as colours, as opaque as they count; `most` is the strongest of all. */
function overlay(one, about, most) {
  const tall = one.cells.length, wide = one.cells[0].length;
  const small = el("canvas", { width: wide, height: tall });
  const draw = small.getContext("2d");
  const image = draw.createImageData(wide, tall);
  one.cells.flat().forEach((cell, at) => {
    const shade = cell > 0 ? FOR : AGAINST;
    image.data.set([...shade, Math.round(235 * Math.min(1, Math.abs(cell) / most))], 4 * at);
  });
  draw.putImageData(image, 0, 0);
  const side = 448, part = Math.min(1, one.crop / about.frame.shown) * side;
  const whole = el("canvas", { width: side, height: side, class: "over", "aria-hidden": "true" });
  const big = whole.getContext("2d");
  big.imageSmoothingQuality = "high";
  big.drawImage(small, (side - part) / 2, (side - part) / 2, part, part);
  return whole;
}

/** Ask, and show in the dialog. */
export async function explained(id, query, about, look) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  $("why-maps").replaceChildren();
  $("why-words").className = "busy";
  $("why-words").textContent = "looking into the network; the first time takes some seconds";
  const end = told(signal);
  if (!$("why").open) $("why").showModal();
  $("why").onclose = () => running.abort();
  try {
    const found = await api(`/api/why/${encodeURIComponent(id)}`, query, signal).finally(end);
    // An edge counts for one cell: the strongest few are what colours run to.
    const sizes = found.maps.flatMap((one) => one.cells.flat().map(Math.abs)).sort((a, b) => a - b);
    const most = sizes[Math.floor(sizes.length * 0.98)] || 1;
    $("why-words").className = "";
    $("why-words").textContent = `${found.kind} ${number(found.score, 3)}: orange speaks for the likeness, blue against it. `
      + `Each place is compared with ${found.average} random objects at that place.`;
    $("why-maps").replaceChildren(...found.maps.map((one, at) => el("figure", {},
      el("div", { class: "frame" },
        el("img", { src: picture(one.id, about, { ...look, whole: false }, 512), alt: `Image of ${one.id}` }), overlay(one, about, most)),
      el("figcaption", {}, el("b", {}, at ? "reference" : "match"), ` ${one.id}`,
        one.central === null ? "" : el("br"), one.central === null ? "" : `${percent(one.central)} from the central quarter`))));
  } catch (error) {
    if (error.name === "AbortError") return;
    if (!(error instanceof Refused)) throw error;
    $("why-words").className = "";
    $("why-words").textContent = error.message;
  }
}

$("why-over").addEventListener("change", (event) => $("why-maps").classList.toggle("bare", !event.target.checked));
