// Purity, or the number of objects, against distance, with a cut to be dragged.

import { count, el, number, percent, svg } from "./common.js";

const W = 300, H = 178, LEFT = 40, RIGHT = 6, TOP = 8, BOTTOM = 24;
const w = W - LEFT - RIGHT, h = H - TOP - BOTTOM;

/** Place of the last of ascending `values` that is at most `value`; -1: none. */
export function last(values, value) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export class Curve {
  /** `change(distance)` is called as the cut is dragged. */
  constructor(place, change) {
    this.place = place;
    this.change = change;
    this.data = null;
    place.addEventListener("pointerdown", (event) => this.drag(event));
    place.addEventListener("pointermove", (event) => event.buttons && this.drag(event));
  }

  drag(event) {
    const drawn = this.place.querySelector("svg");
    if (!drawn || !this.data) return;
    const box = drawn.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * W;
    const share = Math.min(1, Math.max(0, (x - LEFT) / w));
    event.preventDefault();
    this.change(this.low + share * (this.high - this.low));
  }

  wait(text) {
    this.data = null;
    this.place.replaceChildren(el("p", {}, text));
  }

  /** `data` as /api/purity or /api/distances gives it; `reach` is the end of the list. */
  show(data, reach, far) {
    this.data = data;
    const { distance } = data;
    this.low = distance[0] - 0.02 * Math.abs(distance[0]);
    this.high = far || reach === null ? distance.at(-1) : Math.min(distance.at(-1), this.low + 1.15 * (reach - this.low));
    if (!(this.high > this.low)) this.high = this.low + 1e-6;
    this.draw();
  }

  x(distance) {
    return LEFT + (Math.min(1, Math.max(0, (distance - this.low) / (this.high - this.low)))) * w;
  }

  draw() {
    const { data } = this;
    const inside = data.distance.map((d, i) => i).filter((i) => data.distance[i] <= this.high * 1.0001 || i === 0);
    const parts = data.purity ? this.purity(inside) : this.counts(inside);
    this.cutLine = svg("line", { class: "cut", y1: TOP, y2: TOP + h });
    this.beyond = svg("rect", { class: "beyond", y: TOP, height: h });
    this.knob = svg("circle", { class: "knob", r: 5 });
    const axis = [this.low + 0.02 * (this.high - this.low), (this.low + this.high) / 2, this.high];
    const labels = axis.map((d, i) => {
      const text = svg("text", { x: this.x(d), y: H - 8, "text-anchor": ["start", "middle", "end"][i] });
      text.textContent = i === 1 ? "distance" : number(d, 3);
      return text;
    });
    const title = data.purity
      ? `Purity against distance; base rate ${percent(data.base.value)}`
      : "Number of objects against distance";
    this.place.replaceChildren(svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title },
      ...parts, ...labels, this.beyond, this.cutLine, this.knob));
  }

  purity(inside) {
    const { distance, purity, lower, upper, base } = this.data;
    const y = (share) => TOP + (1 - share) * h;
    const line = inside.map((i) => `${this.x(distance[i]).toFixed(1)},${y(purity[i]).toFixed(1)}`);
    const up = inside.map((i) => `${this.x(distance[i]).toFixed(1)},${y(upper[i]).toFixed(1)}`);
    const down = inside.map((i) => `${this.x(distance[i]).toFixed(1)},${y(lower[i]).toFixed(1)}`).reverse();
    this.y = y;
    return [
      ...[0, 0.5, 1].flatMap((share) => this.rule(y(share), `${100 * share} %`)),
      svg("polygon", { class: "band", points: [...up, ...down].join(" ") }),
      svg("line", { class: "base", x1: LEFT, x2: W - RIGHT, y1: y(base.value), y2: y(base.value) }),
      svg("polyline", { class: "line", points: line.join(" ") }),
    ];
  }

  counts(inside) {
    const { distance, count: counts } = this.data;
    const most = Math.max(10, counts[inside.at(-1)]);
    const y = (many) => TOP + (1 - Math.log10(Math.max(1, many)) / Math.log10(most)) * h;
    const line = inside.map((i) => `${this.x(distance[i]).toFixed(1)},${y(counts[i]).toFixed(1)}`);
    const ticks = [];
    for (let tick = 1; tick <= most; tick *= 10) ticks.push(tick);
    this.y = y;
    return [
      ...ticks.flatMap((tick) => this.rule(y(tick), tick >= 1000 ? `${tick / 1000}k` : tick)),
      svg("polyline", { class: "line", points: line.join(" ") }),
    ];
  }

  rule(y, text) {
    const label = svg("text", { x: LEFT - 5, y: y + 4, "text-anchor": "end" });
    label.textContent = text;
    return [svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y, y2: y }), label];
  }

  /** Move the cut; what lies within it comes back. */
  cut(distance) {
    const { data } = this;
    if (!data) return null;
    const at = last(data.distance, distance);
    const x = this.x(distance);
    this.cutLine.setAttribute("x1", x);
    this.cutLine.setAttribute("x2", x);
    this.beyond.setAttribute("x", x);
    this.beyond.setAttribute("width", Math.max(0, W - RIGHT - x));
    const value = at < 0 ? (data.purity ? 0 : 1) : (data.purity ? data.purity[at] : data.count[at]);
    this.knob.setAttribute("cx", x);
    this.knob.setAttribute("cy", this.y(value));
    if (at < 0) return { count: 0 };
    const found = { count: data.count[at] };
    if (data.purity) {
      Object.assign(found, { purity: data.purity[at], lower: data.lower[at], upper: data.upper[at], positives: data.positives[at] });
    }
    return found;
  }

  /** In words. */
  reading(distance) {
    const found = this.cut(distance);
    if (!found) return [];
    const within = ["within ", el("b", {}, number(distance, 4)), ": "];
    const { data } = this;
    if (found.purity === undefined) return [...within, `${count(found.count)} of ${count(data.total)} objects`];
    const lift = data.base.value ? ` · ${number(found.purity / data.base.value, 2)} × base rate` : "";
    return [
      ...within, el("b", {}, percent(found.purity)), " pure",
      el("br"), `95 % interval ${percent(found.lower)} to ${percent(found.upper)}`,
      el("br"), `${count(found.positives)} of ${count(found.count)} labelled${lift}`,
    ];
  }
}
