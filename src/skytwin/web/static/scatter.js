// Points by WebGL 2: as many in a frame as a frame has time for; the rest is added once the map rests.

const VERTEX = `#version 300 es
in vec2 place; in vec4 colour;
uniform vec2 centre, scale; uniform float size;
out vec4 shade;
void main() {
  gl_Position = vec4((place - centre) * scale, 0.0, 1.0);
  gl_PointSize = size;
  shade = colour;
}`;
const FRAGMENT = `#version 300 es
precision mediump float;
in vec4 shade; out vec4 result;
void main() {
  float far = length(gl_PointCoord - 0.5) * 2.0;
  float edge = 1.0 - smoothstep(0.75, 1.0, far);
  if (edge <= 0.0) discard;
  result = vec4(shade.rgb, shade.a * edge);
}`;
const CELLS = 512;
const FIRST = 100000, FEWEST = 10000;

export class Scatter {
  /** `xy` holds x and y of each point in turn, in no order: the first few stand for all; throws where there is no WebGL 2. */
  constructor(canvas, xy) {
    this.canvas = canvas;
    this.xy = xy;
    this.count = xy.length / 2;
    const gl = canvas.getContext("webgl2", {
      antialias: false, alpha: true, premultipliedAlpha: false,
      preserveDrawingBuffer: true, // what a frame adds to
    });
    if (!gl) throw new Error("no WebGL 2");
    this.gl = gl;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.at = Object.fromEntries(["centre", "scale", "size"].map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.bindVertexArray(gl.createVertexArray());
    this.buffer("place", program, xy, 2, gl.FLOAT, false);
    this.colours = new Uint8Array(4 * this.count).fill(160);
    this.colourBuffer = this.buffer("colour", program, this.colours, 4, gl.UNSIGNED_BYTE, true);
    gl.enable(gl.BLEND);
    gl.blendFuncSeparate(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA, gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.bounds();
    this.reset();
    this.moving = false;
    this.budget = Math.min(this.count, FIRST); // points of one frame
    this.done = 0; // points that are drawn of this view
    this.before = 0;
  }

  buffer(name, program, data, parts, kind, share) {
    const { gl } = this;
    const made = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, made);
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    const where = gl.getAttribLocation(program, name);
    gl.enableVertexAttribArray(where);
    gl.vertexAttribPointer(where, parts, kind, share, 0, 0);
    return made;
  }

  bounds() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < this.xy.length; i += 2) {
      const x = this.xy[i], y = this.xy[i + 1];
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      if (y > y1) y1 = y;
    }
    this.box = { x0, x1, y0, y1 };
    this.grid = null;
  }

  /** Points by the cell they lie in, so that one can be pointed at. */
  cells() {
    if (this.grid) return this.grid;
    const { x0, x1, y0, y1 } = this.box;
    const step = Math.max(x1 - x0, y1 - y0, 1e-9) / CELLS;
    const cell = (x, y) => Math.min(CELLS - 1, Math.floor((x - x0) / step)) + CELLS * Math.min(CELLS - 1, Math.floor((y - y0) / step));
    const start = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < this.count; i++) start[cell(this.xy[2 * i], this.xy[2 * i + 1]) + 1]++;
    for (let i = 0; i < start.length - 1; i++) start[i + 1] += start[i];
    const next = start.slice();
    const order = new Uint32Array(this.count);
    for (let i = 0; i < this.count; i++) order[next[cell(this.xy[2 * i], this.xy[2 * i + 1])]++] = i;
    this.grid = { step, start, order };
    return this.grid;
  }

  reset() {
    const { x0, x1, y0, y1 } = this.box;
    this.centre = [(x0 + x1) / 2, (y0 + y1) / 2];
    this.zoom = 1;
  }

  /** CSS pixels per unit of the map. */
  perUnit() {
    const { x0, x1, y0, y1 } = this.box;
    const { clientWidth: w, clientHeight: h } = this.canvas;
    return 0.94 * this.zoom * Math.min(w / Math.max(x1 - x0, 1e-9), h / Math.max(y1 - y0, 1e-9));
  }

  toData(px, py) {
    const scale = this.perUnit();
    return [this.centre[0] + (px - this.canvas.clientWidth / 2) / scale, this.centre[1] - (py - this.canvas.clientHeight / 2) / scale];
  }

  toScreen(x, y) {
    const scale = this.perUnit();
    return [(x - this.centre[0]) * scale + this.canvas.clientWidth / 2, (this.centre[1] - y) * scale + this.canvas.clientHeight / 2];
  }

  zoomAt(px, py, factor) {
    const before = this.toData(px, py);
    this.zoom = Math.min(5000, Math.max(0.5, this.zoom * factor));
    const after = this.toData(px, py);
    this.centre = [this.centre[0] + before[0] - after[0], this.centre[1] + before[1] - after[1]];
    this.moving = true;
    this.draw();
  }

  move(dx, dy) {
    const scale = this.perUnit();
    this.centre = [this.centre[0] - dx / scale, this.centre[1] + dy / scale];
    this.moving = true;
    this.draw();
  }

  /** Fewer points in a frame where the last ones were slow, more where they were quick. */
  adapt() {
    const now = performance.now();
    const gap = now - this.before;
    this.before = now;
    // A longer pause is the reader's, unless one frame asked for the next.
    if (gap > 40 && (this.filling || gap < 250)) this.budget = Math.max(FEWEST, Math.round(0.5 * this.budget));
    else if (gap < 22) this.budget = Math.min(this.count, Math.round(1.25 * this.budget));
  }

  paint() {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colourBuffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, this.colours);
    this.draw();
  }

  /** Draw anew, soon. */
  draw() {
    this.anew = true;
    this.soon();
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.adapt();
      const anew = this.anew;
      this.anew = false;
      this.drawNow(anew);
      if (anew) this.drawn?.();
      clearTimeout(this.rest);
      if (this.moving) this.rest = setTimeout(() => { this.moving = false; this.soon(); }, 160);
      this.filling = !this.moving && this.done < this.count;
      if (this.filling) this.soon();
    });
  }

  /** Some more points; the first ones where the view is another. */
  drawNow(anew) {
    const { gl, canvas } = this;
    const ratio = devicePixelRatio || 1;
    const w = Math.round(canvas.clientWidth * ratio), h = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; anew = true; }
    if (anew) {
      gl.viewport(0, 0, w, h);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      this.done = 0;
    }
    const scale = (2 * this.perUnit() * ratio);
    gl.uniform2f(this.at.centre, ...this.centre);
    gl.uniform2f(this.at.scale, scale / w, scale / h);
    const size = Math.min(12, Math.max(1.6, 45 * Math.pow(this.count, -0.25)) * Math.pow(this.zoom, 0.3));
    gl.uniform1f(this.at.size, size * ratio);
    const more = Math.min(this.budget, this.count - this.done);
    gl.drawArrays(gl.POINTS, this.done, more);
    this.done += more;
  }

  /** The point nearest to a place on the screen, at most `reach` pixels off; -1: none. */
  nearest(px, py, reach = 12) {
    const { step, start, order } = this.cells();
    const [x, y] = this.toData(px, py);
    const far = reach / this.perUnit();
    const { x0, y0 } = this.box;
    const clip = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(value)));
    let best = -1, least = far * far;
    for (let row = clip((y - far - y0) / step); row <= clip((y + far - y0) / step); row++) {
      for (let column = clip((x - far - x0) / step); column <= clip((x + far - x0) / step); column++) {
        for (let at = start[row * CELLS + column]; at < start[row * CELLS + column + 1]; at++) {
          const i = order[at];
          const dx = this.xy[2 * i] - x, dy = this.xy[2 * i + 1] - y;
          if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; best = i; }
        }
      }
    }
    return best;
  }

  /** The points within a polygon of [x, y] in the map's own units. */
  within(polygon) {
    const xs = polygon.map((p) => p[0]), ys = polygon.map((p) => p[1]);
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const found = [];
    for (let i = 0; i < this.count; i++) {
      const x = this.xy[2 * i], y = this.xy[2 * i + 1];
      if (x < x0 || x > x1 || y < y0 || y > y1) continue;
      let inside = false;
      for (let a = 0, b = polygon.length - 1; a < polygon.length; b = a++) {
        if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }
}
