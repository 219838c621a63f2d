// The map: every object a point; a lasso selects, and what is selected is shown beside it.

import { $, api, binary, count, el, info, later, number, picture, problem, Refused, say, typing } from "./common.js";
import { card, walk } from "./cards.js";
import { Scatter } from "./scatter.js";
import { address, DEFAULTS, lookOf, readState } from "./state.js";

const PAGE = 60;
const MOST_REFERENCES = 100;
// Okabe and Ito's colours first, told apart with any kind of colour vision; then lighter and darker.
const CLASSES = ["#56b4e9", "#e69f00", "#2fb48a", "#e07b52", "#cc79a7", "#d9cc3a", "#8b93e0", "#a9d48b",
  "#d98f8f", "#7fd1d6", "#b58b5a", "#c0a6e8", "#7d9c6b", "#e8b8c8", "#6a8caf", "#c9b26a"];
const RAMP = ["#6a58c8", "#4f6fd0", "#3a8cc4", "#2a9d94", "#4bbf6b", "#a3d34a", "#f5e13d"];

let about, scatter, rowOf, state = readState(), tool = "pan", selected = [], shown = 0, drawing = null, values = null, classes = null;

const rgb = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
const RAMP_RGB = RAMP.map(rgb), CLASSES_RGB = CLASSES.map(rgb);

function ramp(share) {
  const at = Math.min(0.99999, Math.max(0, share)) * (RAMP.length - 1);
  const [low, high, part] = [RAMP_RGB[Math.floor(at)], RAMP_RGB[Math.floor(at) + 1], at % 1];
  return low.map((value, i) => value + part * (high[i] - value));
}

// --- colours ----------------------------------------------------------------

async function colour() {
  values = classes = null;
  if (state.color) {
    const path = encodeURIComponent(state.color);
    const [summary, content] = await Promise.all([api(`/api/column/${path}`), binary(`/api/column-values/${path}`)]);
    values = new Float32Array(content);
    classes = summary;
  }
  paint();
  legend();
}

function paint() {
  const { colours } = scatter;
  const dark = getComputedStyle(document.documentElement).colorScheme !== "light" && isDark();
  const plain = dark ? [121, 189, 255] : [11, 92, 173];
  const empty = dark ? [90, 98, 110] : [170, 176, 186];
  const alpha = scatter.count > 200000 ? 120 : scatter.count > 20000 ? 170 : 215;
  const chosen = selected.length ? new Uint8Array(scatter.count) : null;
  selected.forEach((i) => { chosen[i] = 1; });
  const span = classes && !classes.classes ? (classes.high - classes.low || 1) : 1;
  for (let i = 0; i < scatter.count; i++) {
    let shade = plain;
    if (values) {
      const value = values[rowOf(i)];
      if (Number.isNaN(value)) shade = empty;
      else if (classes.classes) shade = CLASSES_RGB[value % CLASSES.length];
      else shade = ramp((value - classes.low) / span);
    }
    colours[4 * i] = shade[0];
    colours[4 * i + 1] = shade[1];
    colours[4 * i + 2] = shade[2];
    colours[4 * i + 3] = chosen && !chosen[i] ? alpha * 0.36 : alpha;
  }
  scatter.paint();
}

const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function legend() {
  const dot = (shade) => { const made = el("i"); made.style.background = shade; return made; };
  if (!classes) return $("legend").replaceChildren(`${count(scatter.count)} objects`);
  if (classes.classes) {
    return $("legend").replaceChildren(...classes.classes.map((name, at) =>
      el("span", {}, dot(CLASSES[at % CLASSES.length]), `${name} `, el("span", { class: "unit" }, count(classes.counts[at])))));
  }
  const bar = el("canvas", { width: 180, height: 1, role: "img", "aria-label": "colours from low to high" });
  const draw = bar.getContext("2d");
  for (let x = 0; x < 180; x++) {
    draw.fillStyle = `rgb(${ramp(x / 179).map(Math.round).join(",")})`;
    draw.fillRect(x, 0, 1, 1);
  }
  const unit = about.columns.find((one) => one.name === state.color)?.unit;
  return $("legend").replaceChildren(`${state.color}${unit ? ` (${unit})` : ""}: `, number(classes.low, 3), bar, number(classes.high, 3));
}

// --- selecting --------------------------------------------------------------

const remember = later(() => history.replaceState(null, "", address(state)), 200);

function see() {
  const whole = scatter.zoom === 1;
  state.view = whole ? "" : [...scatter.centre, scatter.zoom].map((value) => Number(value.toPrecision(6))).join(",");
  remember();
}

function select(polygon) {
  state.lasso = polygon.map((p) => p.map((value) => Number(value.toPrecision(5))).join(",")).join(";");
  remember();
  choose(scatter.within(polygonOf(state.lasso)));
}

const polygonOf = (text) => text.split(";").map((p) => p.split(",").map(Number));

async function choose(points) {
  selected = points;
  shown = 0;
  $("cards").replaceChildren();
  paint();
  outline();
  $("selected").textContent = points.length ? `${count(points.length)} selected` : "Nothing selected";
  $("actions").hidden = !points.length;
  $("advice").hidden = points.length > 0;
  say(`${points.length} selected`);
  await more();
}

async function more() {
  const part = selected.slice(shown, shown + PAGE).map(rowOf);
  $("more").hidden = true;
  if (!part.length) return;
  const of = selected;
  const answer = await api("/api/rows", { row: part, columns: state.color || "id" });
  if (of !== selected) return; // another selection came meanwhile
  const options = { about, look: lookOf(state), show: state.color ? [state.color] : [], size: 128, bar: false,
    like: (id) => address({ ...DEFAULTS, like: [id] }, "/") };
  $("cards").append(...answer.rows.map((row) => card(row, options)));
  shown += part.length;
  $("more").hidden = shown >= selected.length;
  const ids = [...$("cards").children].slice(0, MOST_REFERENCES).map((one) => one.dataset.id);
  $("alike").href = address({ ...DEFAULTS, like: ids }, "/");
  $("alike").textContent = ids.length < selected.length ? `Look-alikes of these ${ids.length}` : "Look-alikes";
}

let outlined = false, readLasso = "", readPolygon = null;

/** The polygon of the lasso in the address, read once. */
function chosenPolygon() {
  if (state.lasso !== readLasso) {
    readLasso = state.lasso;
    readPolygon = readLasso ? polygonOf(readLasso) : null;
  }
  return readPolygon;
}

function outline() {
  const over = $("over");
  const ratio = devicePixelRatio || 1;
  const w = Math.round(over.clientWidth * ratio), h = Math.round(over.clientHeight * ratio);
  const draw = over.getContext("2d");
  if (over.width !== w || over.height !== h) { over.width = w; over.height = h; } // which clears it, and takes memory anew
  draw.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (outlined) draw.clearRect(0, 0, w, h);
  const polygon = drawing ?? chosenPolygon();
  outlined = Boolean(polygon && polygon.length > 1);
  if (!outlined) return;
  draw.beginPath();
  polygon.forEach(([x, y], at) => draw[at ? "lineTo" : "moveTo"](...scatter.toScreen(x, y)));
  draw.closePath();
  draw.fillStyle = isDark() ? "#79bdff1c" : "#0b5cad1c";
  draw.strokeStyle = isDark() ? "#79bdff" : "#0b5cad";
  draw.lineWidth = 1.5;
  draw.fill();
  draw.stroke();
}

// --- hands ------------------------------------------------------------------

function use(name) {
  tool = name;
  for (const one of ["pan", "lasso"]) $(one).setAttribute("aria-pressed", String(one === name));
  $("canvas").classList.toggle("lasso", name === "lasso");
}

const hover = later(async (px, py) => {
  const point = scatter.nearest(px, py);
  if (point < 0) { $("hover").hidden = true; return; }
  const { rows: [row] } = await api("/api/rows", { row: rowOf(point), columns: state.color || "id" });
  const [x, y] = scatter.toScreen(scatter.xy[2 * point], scatter.xy[2 * point + 1]);
  $("hover").replaceChildren(
    about.images ? el("img", { src: picture(row.id, about, lookOf(state), 128), alt: "" }) : "",
    el("div", {}, row.id), state.color ? el("div", {}, `${state.color} ${number(row.columns[state.color])}`) : "");
  $("hover").hidden = false;
  const { clientWidth: w, clientHeight: h } = $("plot");
  $("hover").style.left = `${x + 150 > w ? x - 144 : x + 12}px`;
  $("hover").style.top = `${Math.max(4, Math.min(h - 175, y - 60))}px`;
}, 60);

function hands() {
  const canvas = $("canvas");
  const held = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = 0;
    $("hover").hidden = true;
    if (tool === "lasso" && held.size === 1) drawing = [scatter.toData(event.offsetX, event.offsetY)];
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    const now = [event.offsetX, event.offsetY];
    if (!before) {
      if (tool === "pan") hover(...now);
      return;
    }
    moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
    if (held.size === 2) {
      const other = [...held.entries()].find(([id]) => id !== event.pointerId)[1];
      const was = Math.hypot(before[0] - other[0], before[1] - other[1]);
      scatter.zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, Math.hypot(now[0] - other[0], now[1] - other[1]) / (was || 1));
    } else if (drawing) {
      if (Math.hypot(now[0] - before[0], now[1] - before[1]) < 3) return;
      drawing.push(scatter.toData(...now));
      outline();
    } else {
      scatter.move(now[0] - before[0], now[1] - before[1]);
    }
    held.set(event.pointerId, now);
  });
  const release = (event) => {
    if (!held.delete(event.pointerId)) return;
    if (drawing) {
      const polygon = drawing;
      drawing = null;
      if (polygon.length > 2) select(polygon);
      else outline();
    } else if (moved < 4) {
      const point = scatter.nearest(event.offsetX, event.offsetY);
      state.lasso = "";
      if (point >= 0) choose([point]);
    }
    see();
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", () => { hover(-1e6, -1e6); });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    scatter.zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY * 0.0015));
    see();
  }, { passive: false });
  const middle = () => [canvas.clientWidth / 2, canvas.clientHeight / 2];
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (!step) return;
    event.preventDefault();
    scatter.move(...step);
    see();
  });
  document.addEventListener("keydown", (event) => {
    if (typing(event)) return;
    const keys = {
      l: () => use("lasso"), p: () => use("pan"), x: () => $("none").click(), 0: () => $("all").click(),
      "+": () => scatter.zoomAt(...middle(), 1.4), "=": () => scatter.zoomAt(...middle(), 1.4), "-": () => scatter.zoomAt(...middle(), 1 / 1.4),
    };
    if (keys[event.key]) { keys[event.key](); see(); event.preventDefault(); }
  });
  $("pan").addEventListener("click", () => use("pan"));
  $("lasso").addEventListener("click", () => use("lasso"));
  $("all").addEventListener("click", () => { scatter.reset(); scatter.draw(); see(); });
  $("none").addEventListener("click", () => { state.lasso = ""; remember(); choose([]); });
  $("more").addEventListener("click", more);
  $("color").addEventListener("change", async () => {
    state.color = $("color").value;
    remember();
    await colour();
    if (selected.length) choose(selected);
  });
  $("map").addEventListener("change", () => { location.href = address({ ...state, map: $("map").value, view: "", lasso: "" }); });
  document.addEventListener("themechange", () => { paint(); outline(); });
  new ResizeObserver(() => scatter.draw()).observe(canvas);
  walk($("cards"), { i: (id) => { location.href = `/object/${encodeURIComponent(id)}`; } });
}

/** Numbers from 0 in an order that is random, and always the same. */
function shuffled(many) {
  const order = new Uint32Array(many);
  let chance = 1;
  for (let i = 0; i < many; i++) {
    chance = (Math.imul(chance, 1664525) + 1013904223) >>> 0;
    const at = Math.floor((chance / 4294967296) * (i + 1));
    order[i] = order[at];
    order[at] = i;
  }
  return order;
}

async function begin() {
  $("busy").hidden = false;
  try {
    about = await info();
    if (!about.maps.length) throw new Refused("No map is served; start with --maps FOLDER, which skytwin map writes.");
    const name = about.maps.includes(state.map) ? state.map : about.maps[0];
    $("map").value = name;
    $("color").value = state.color;
    const content = await binary(`/api/map/${encodeURIComponent(name)}`);
    const floats = new Float32Array(content), numbers = new Uint32Array(content);
    const order = shuffled(floats.length / 3);
    const xy = new Float32Array(2 * order.length);
    order.forEach((from, to) => { xy[2 * to] = floats[3 * from]; xy[2 * to + 1] = floats[3 * from + 1]; });
    rowOf = (point) => numbers[3 * order[point] + 2];
    try {
      scatter = new Scatter($("canvas"), xy);
    } catch (error) {
      throw new Refused(`The map cannot be drawn: this browser has no WebGL 2 (${error.message}).`);
    }
    scatter.drawn = outline;
    if (state.view) {
      const [x, y, zoom] = state.view.split(",").map(Number);
      scatter.centre = [x, y];
      scatter.zoom = zoom;
    }
    hands();
    await colour();
    if (state.lasso) await choose(scatter.within(polygonOf(state.lasso)));
    document.body.dataset.ready = "yes";
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  } finally {
    $("busy").hidden = true;
  }
}

begin();
