// One object: its picture, its row of the catalogue, what lies nearest.

import { $, api, barElement, el, info, number, picture, problem, Refused, typing } from "./common.js";
import { card, walk } from "./cards.js";
import { address, DEFAULTS, lookOf, readState } from "./state.js";

const id = $("object").dataset.id;
let about, state = readState();
const like = (name) => address({ ...DEFAULTS, like: [name], stretch: state.stretch, bands: state.bands }, "/");

function draw() {
  const look = lookOf(state);
  const side = look.whole ? about.frame?.width : about.frame?.shown;
  $("big").classList.toggle("pixels", side < 200);
  if (!about.images) $("big").replaceChildren(el("p", {}, about.no_images));
  else $("big").replaceChildren(el("img", { src: picture(id, about, look, 1024), alt: `Image of ${id}` }), barElement(about, look.whole) ?? "");
  $("alike").href = like(id);
}

function fill(row) {
  const units = new Map(about.columns.map((one) => [one.name, one]));
  const line = (name, value) => {
    const unit = units.get(name)?.unit;
    return el("tr", {}, el("th", { scope: "row", title: units.get(name)?.description ?? "" }, name),
      el("td", {}, typeof value === "number" ? number(value, 8) : String(value ?? "–"), unit ? el("span", { class: "unit" }, ` ${unit}`) : null));
  };
  const places = row.ra === null ? [] : [line("ra", row.ra), line("dec", row.dec)];
  $("row").replaceChildren(...places, ...Object.entries(row.columns).map(([name, value]) => line(name, value)));
  if (row.ra === null) return;
  const { ra, dec } = row;
  const out = (text, href) => el("a", { href, target: "_blank", rel: "noopener noreferrer" }, text);
  $("links").replaceChildren(
    out("SIMBAD", `https://simbad.cds.unistra.fr/simbad/sim-coo?Coord=${ra}d${dec < 0 ? "" : "%2B"}${dec}d&CooFrame=ICRS&Radius=10&Radius.unit=arcsec`),
    out("NED", `https://ned.ipac.caltech.edu/conesearch?search_type=Near%20Position%20Search&coordinates=${ra}d%20${dec}d&radius=0.2&in_csys=Equatorial&in_equinox=J2000.0&out_csys=Same%20as%20Input&out_equinox=Same%20as%20Input`),
    out("Legacy Survey", `https://www.legacysurvey.org/viewer?ra=${ra}&dec=${dec}&layer=ls-dr10&zoom=15&mark=${ra},${dec}`),
    out("Aladin", `https://aladin.cds.unistra.fr/AladinLite/?target=${ra}%20${dec}&fov=0.05`));
}

async function begin() {
  try {
    about = await info();
    $("stretch").value = state.stretch;
    if ($("bands")) $("bands").value = state.bands;
    $("whole").checked = state.whole === "1";
    draw();
    fill(await api(`/api/object/${encodeURIComponent(id)}`));
    const near = await api("/api/search", { like: id, k: 12, columns: "id" });
    const options = { about, look: lookOf(state), show: [], size: 256, like, bar: false };
    $("cards").replaceChildren(...near.rows.map((row) => card(row, options)));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

const change = (name, value) => {
  state = { ...state, [name]: value };
  history.replaceState(null, "", address(state));
  draw();
};
$("stretch").addEventListener("change", () => change("stretch", $("stretch").value));
$("bands")?.addEventListener("change", () => change("bands", $("bands").value));
$("whole").addEventListener("change", () => change("whole", $("whole").checked ? "1" : ""));
walk($("cards"), { i: (name) => { location.href = `/object/${encodeURIComponent(name)}`; } });
document.addEventListener("keydown", (event) => {
  if (typing(event) || event.target.closest("a, button")) return;
  if (event.key === "Enter") location.href = like(id);
  if (event.key === "w") $("whole").click();
});
begin();
