// Where on the sky: footprints, the present matches, and the part to search within.

import { backdrop } from "./aladin.js";
import { $, api, count, el, later, number, problem, Refused, say } from "./common.js";
import { step, View, wrap } from "./sphere.js";

const WHOLE = 90, CLOSEST = 0.002;
let facts = null, view = null, shapes = new Map(), rows = [], references = [], drawn = [], moved = 0;
let hooks = { inside: () => "" };

const canvas = () => $("sky");
const colour = (name) => getComputedStyle(document.querySelector(`#sky-legend .${name}`)).color;
const now = () => new View(view, canvas().clientWidth, canvas().clientHeight);
const shade = (text, share) => text.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

function fitted() {
  const { ra, dec, radius } = facts;
  const least = Math.sqrt(facts.footprints[0].square_degrees / Math.PI);
  const wanted = 1.15 * Math.max(radius, least, CLOSEST);
  return wanted > 55 ? { ra: 30 * Math.round(ra / 30), dec: 0, radius: WHOLE } : { ra, dec, radius: wanted };
}

// --- drawing ----------------------------------------------------------------

/** Cells to fill, and those among them that are so small that they would not be seen without a rim. */
function paths(here, cells) {
  const path = new Path2D(), fine = new Path2D();
  const polygon = (corners, shift) => {
    const points = [];
    for (let i = 0; i < 8; i += 2) {
      const far = wrap(corners[0] - here.ra) + wrap(corners[i] - corners[0]) + shift;
      const point = here.at(0, corners[i + 1], far);
      if (!point) return;
      points.push(point);
    }
    const small = Math.hypot(points[0][0] - points[2][0], points[0][1] - points[2][1]) < 3;
    for (const to of small ? [path, fine] : [path]) {
      points.forEach(([x, y], i) => to[i ? "lineTo" : "moveTo"](x, y));
      to.closePath();
    }
  };
  for (const corners of cells) {
    polygon(corners, 0);
    // What crosses the rim of the whole sky is there on both sides.
    const far = wrap(corners[0] - here.ra);
    if (here.whole && Math.abs(far) > 150) polygon(corners, far > 0 ? -360 : 360);
  }
  return { path, fine };
}

function lines(draw, here) {
  const apart_ = here.whole ? 30 : step(here.radius);
  const along = [], low = here.whole ? -90 : Math.max(-90, here.dec - here.reach), high = here.whole ? 90 : Math.min(90, here.dec + here.reach);
  const wide = here.whole || Math.max(Math.abs(low), Math.abs(high)) > 85 ? 180 : Math.min(180, here.reach / Math.cos(Math.max(Math.abs(low), Math.abs(high)) * Math.PI / 180));
  const every = wide / 60, tall = (high - low) / 60;
  const east = Math.max(apart_, wide > 90 ? 30 : step(wide));
  const line = (points) => {
    draw.beginPath();
    let pen = false;
    for (const point of points) {
      if (!point) { pen = false; continue; }
      draw[pen ? "lineTo" : "moveTo"](...point);
      pen = true;
    }
    draw.stroke();
  };
  const steps = (from, to, by) => Array.from({ length: Math.floor((to - from) / by + 1.0001) }, (_, i) => from + i * by);
  draw.strokeStyle = colour("grid");
  draw.lineWidth = 1;
  const whole = (value) => Number((((value % 360) + 360) % 360).toFixed(4));
  for (let ra = Math.ceil((here.ra - wide) / east) * east; ra < here.ra + wide; ra += east) {
    const points = steps(low, high, tall).map((dec) => here.at(0, dec, ra - here.ra));
    line(points);
    const foot = here.whole ? here.at(0, 0, ra - here.ra) : points.find((p) => p && p[1] < here.height - 3 && p[1] > here.height - 40);
    const crowded = here.whole && here.width < 600 && whole(ra) % 90 !== 0;
    if (foot && !crowded && foot[0] > 8 && foot[0] < here.width - 34) along.push([`${whole(ra)}°`, foot[0] + 3, here.whole ? foot[1] - 3 : here.height - 4]);
  }
  for (let dec = Math.ceil(low / apart_) * apart_; dec <= high; dec += apart_) {
    line(steps(-wide, wide, every).map((far) => here.at(0, dec, far)));
    const head = here.whole ? null : here.at(0, dec, 0);
    if (head && head[1] > 12 && head[1] < here.height - 18) along.push([`${Number(dec.toFixed(4))}°`, 4, head[1] - 3]);
  }
  draw.fillStyle = colour("text");
  draw.font = "11px system-ui, sans-serif";
  for (const [text, x, y] of along) draw.fillText(text, x, y);
}

function rim(here) {
  const path = new Path2D();
  if (here.whole) path.ellipse(here.width / 2, here.height / 2, 2 * Math.SQRT2 * here.scale, Math.SQRT2 * here.scale, 0, 0, 7);
  else path.rect(0, 0, here.width, here.height);
  return path;
}

function paint() {
  if (!view || !canvas().clientWidth) return;
  const here = now(), ratio = devicePixelRatio || 1;
  canvas().width = Math.round(here.width * ratio);
  canvas().height = Math.round(here.height * ratio);
  const draw = canvas().getContext("2d");
  draw.scale(ratio, ratio);
  draw.save();
  const edge = rim(here);
  draw.clip(edge);
  facts.footprints.forEach((one, at) => {
    const cells = shapes.get(one.name);
    if (!cells) return;
    const tone = colour(at ? "moc" : "own"), { path, fine } = paths(here, cells);
    draw.fillStyle = shade(tone, 0.4);
    draw.fill(path);
    draw.strokeStyle = shade(tone, 0.6);
    draw.lineWidth = 1;
    draw.stroke(fine);
  });
  lines(draw, here);
  drawn = [];
  draw.fillStyle = colour("match");
  draw.strokeStyle = colour("grid");
  for (const row of [...rows].reverse()) {
    const place = row.ra === null ? null : here.at(row.ra, row.dec);
    if (!place) continue;
    draw.beginPath();
    draw.arc(...place, here.width < 600 ? 2.5 : 3.5, 0, 7);
    draw.fill();
    draw.stroke();
    drawn.push([...place, row]);
  }
  draw.strokeStyle = colour("reference");
  draw.lineWidth = 2;
  for (const one of references.filter((each) => each.ra !== null && each.ra !== undefined)) {
    const place = here.at(one.ra, one.dec);
    if (!place) continue;
    draw.beginPath();
    draw.arc(...place, 7, 0, 7);
    draw.stroke();
  }
  draw.restore();
  draw.strokeStyle = colour("text");
  draw.lineWidth = 1;
  if (here.whole) draw.stroke(edge);
  const places = rows.filter((row) => row.ra !== null).map((row) => [row.id, row.ra, row.dec]);
  backdrop({ ra: here.ra, dec: here.dec, fov: Math.min(180, 2 * here.radius), places });
  document.body.dataset.sky = `${here.ra.toFixed(3)},${here.dec.toFixed(3)},${here.radius.toPrecision(4)}`;
}

// --- what is shown ----------------------------------------------------------

async function fetchShapes() {
  const { ra, dec, reach, whole } = now(), asked = view;
  const round = (value) => Number(value.toPrecision(5));
  const where = whole ? { ra: 180, dec: 0, radius: 180 } : { ra: round(ra), dec: round(dec), radius: Math.max(1e-4, round(reach)) };
  try {
    const found = await Promise.all(facts.footprints.map(async ({ name }) => [name, (await api("/api/sky-cells", { name, ...where })).cells]));
    if (asked !== view) return;
    shapes = new Map(found);
    paint();
    document.body.dataset.skyReady = "yes";
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

const soon = later(fetchShapes, 200);

function go(change) {
  view = { ...view, ...change };
  view.radius = Math.min(WHOLE, Math.max(CLOSEST, view.radius));
  paint();
  soon();
}

function zoom(factor) {
  if (!facts) return;
  const { ra } = view;
  const dec = view.radius >= WHOLE ? facts.dec : view.dec; // the whole sky has the equator in its middle
  const next = view.radius >= WHOLE && factor < 1 ? 60 : view.radius * factor;
  go(next > 75 ? { ra, dec: 0, radius: WHOLE } : { ra, dec, radius: next });
}

function tell() {
  const [own, ...others] = facts.footprints;
  const lost = rows.filter((row) => row.ra === null).length;
  const said = [
    `The survey: ${own.about}.`,
    ...others.map((one) => `${one.name}: ${number(one.square_degrees, 4)} square degrees, ${(100 * one.square_degrees / 41252.96).toPrecision(2)} % of the sky; ${count(one.objects)} of ${count(facts.objects)} objects lie inside.`),
    rows.length ? `${count(rows.length - lost)} of those listed are drawn${lost ? `; ${count(lost)} have no position` : ""}.` : "",
  ].filter(Boolean);
  $("sky-words").replaceChildren(...said.map((line) => el("li", {}, line)));
  canvas().setAttribute("aria-label", `Map of the sky. ${said.join(" ")}`);
}

async function begin() {
  if (facts) { paint(); return; }
  $("sky-busy").hidden = false;
  try {
    facts = await api("/api/sky");
    view = fitted();
    tell();
    paint();
    await fetchShapes();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("sky-words").replaceChildren(el("li", {}, error.message));
  } finally {
    $("sky-busy").hidden = true;
  }
}

/** The list that is shown now. */
export function skyOf(list, from) {
  rows = list;
  references = from ?? [];
  if (!facts) return;
  tell();
  paint();
}

// --- hands ------------------------------------------------------------------

function nearest(event) {
  let best = null, least = 9;
  for (const [x, y, row] of drawn) {
    const far = Math.hypot(x - event.offsetX, y - event.offsetY);
    if (far <= least) { best = row; least = far; }
  }
  return best;
}

function point(event) {
  const row = nearest(event);
  $("sky-hover").hidden = !row;
  if (!row) return;
  $("sky-hover").textContent = row.rank ? `${row.rank}: ${row.id}, distance ${number(row.distance, 3)}` : row.id;
  $("sky-hover").style.left = `${Math.min(event.offsetX + 10, canvas().clientWidth - 150)}px`;
  $("sky-hover").style.top = `${event.offsetY + 12}px`;
}

function toCard(row) {
  if ($("sky-large").open) $("sky-large").close();
  const link = document.querySelector(`.card[data-id="${CSS.escape(row.id)}"] a.picture`);
  link?.scrollIntoView({ block: "center" });
  link?.focus();
  say(row.id);
}

function hands() {
  const held = canvas();
  let from = null;
  held.addEventListener("pointerdown", (event) => { from = [event.offsetX, event.offsetY]; moved = 0; held.setPointerCapture(event.pointerId); });
  held.addEventListener("pointermove", (event) => {
    if (!from) return point(event);
    const [dx, dy] = [event.offsetX - from[0], event.offsetY - from[1]];
    moved += Math.hypot(dx, dy);
    from = [event.offsetX, event.offsetY];
    if (moved > 4) go(now().moved(dx, dy));
    return undefined;
  });
  held.addEventListener("pointerup", (event) => {
    from = null;
    const row = moved <= 4 ? nearest(event) : null;
    if (row) toCard(row);
  });
  held.addEventListener("pointercancel", () => { from = null; });
  held.addEventListener("pointerleave", () => { $("sky-hover").hidden = true; });
  held.addEventListener("wheel", (event) => {
    // A page that is scrolled through must not stop here.
    if (document.activeElement !== held && !$("sky-large").open) return;
    event.preventDefault();
    zoom(Math.exp(event.deltaY * 0.0015));
  }, { passive: false });
  held.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
    const key = { "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => go(fitted()) }[event.key];
    if (!way && !key) return;
    event.preventDefault();
    event.stopPropagation();
    if (way) go(now().moved(...way));
    else key();
  });
  $("sky-near").addEventListener("click", () => zoom(0.6));
  $("sky-far").addEventListener("click", () => zoom(1 / 0.6));
  $("sky-fit").addEventListener("click", () => { if (facts) go(fitted()); });
  $("sky-all").addEventListener("click", () => { if (facts) go({ dec: 0, radius: WHOLE }); });
  $("sky-more").addEventListener("click", () => {
    $("sky-place").append($("sky-figure"));
    $("sky-large").showModal();
    paint();
  });
  $("sky-large").addEventListener("close", () => { $("sky-home").append($("sky-figure")); paint(); });
  document.addEventListener("themechange", paint);
  new ResizeObserver(() => paint()).observe(held);
}

/** options: inside(name) is called when another part of the sky is chosen. */
export function sky(options) {
  if (!$("sky-panel")) return;
  hooks = options;
  hands();
  $("inside")?.addEventListener("change", () => hooks.inside($("inside").value));
  $("sky-panel").addEventListener("toggle", () => { if ($("sky-panel").open) begin(); });
  if ($("sky-panel").open) begin();
}
