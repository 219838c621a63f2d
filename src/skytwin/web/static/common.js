// What every page shares: elements, requests, numbers, the theme, the list of keys.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; text is never taken for HTML. */
export function el(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && key !== "list") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child || child === 0));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** What the server, or the lack of one, said; status 0: nobody answered. */
export class Refused extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Parameters as an address has them; empty ones are left out. */
export function query(parameters) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined && one !== false) found.append(name, one);
    }
  }
  const text = found.toString();
  return text ? `?${text}` : "";
}

/** What the line brings; it may break before the answer, or in the middle of it. */
async function heard(waited) {
  try {
    return await waited;
  } catch (error) {
    if (error.name === "AbortError" || error instanceof Refused) throw error;
    throw new Refused("The server does not answer; is it still running?");
  }
}

async function fetched(path, parameters, signal) {
  const answer = await heard(fetch(path + query(parameters), { signal }));
  if (!answer.ok) throw new Refused(await reason(answer), answer.status);
  return answer;
}

export const api = async (path, parameters = {}, signal) =>
  heard((await fetched(path, parameters, signal)).json());
export const binary = async (path, parameters = {}, signal) =>
  heard((await fetched(path, parameters, signal)).arrayBuffer());

async function reason(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

let token = document.querySelector("meta[name=csrf]").content;

/** Send something that changes what the server holds: an object as JSON, or a file as it is. */
export async function post(path, body, parameters = {}) {
  const plain = body instanceof Blob;
  const send = () => fetch(path + query(parameters), {
    method: "POST",
    body: plain ? body : JSON.stringify(body),
    headers: { "X-Skytwin-Token": token, "Content-Type": plain ? "application/octet-stream" : "application/json" },
    signal: AbortSignal.timeout(60_000),
  });
  let answer = await heard(send());
  if (answer.status === 403 && await renewed()) answer = await heard(send());
  if (!answer.ok) throw new Refused(await reason(answer), answer.status);
  return heard(answer.json());
}

/** A server that was started anew has another token; that of another survey gets nothing. */
async function renewed() {
  const [was, now] = await Promise.all([info(), api("/api/info")]);
  if (now.name !== was.name || now.objects !== was.objects) {
    throw new Refused(`Another survey, ${now.name}, is served here now; this page belongs to ${was.name}`);
  }
  const changed = now.csrf !== token;
  token = now.csrf;
  return changed;
}

/** Hand over an image file; what to call it in a query comes back. */
export async function dropImage(file) {
  try {
    return await post("/api/query-image", file, { name: file.name });
  } catch (error) {
    if (!(error instanceof Refused) || error.status) throw error;
    throw new Refused("The server did not take the image; it may be too large");
  }
}

let told;
export const info = () => (told ??= api("/api/info"));

export function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(digits - 1);
  return String(Number(value.toPrecision(digits)));
}

export const count = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
export const percent = (share) =>
  share === null || Number.isNaN(share) ? "–" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;

export function say(text) {
  $("live").textContent = text;
}

export function problem(text) {
  $("problem").hidden = !text;
  $("problem").textContent = text ?? "";
}

/** The address of an object's picture. */
export function picture(id, about, look, size) {
  const { stretch, bands, whole } = look;
  const path = `/api/thumbnail/${encodeURIComponent(id)}`;
  return path + query({ stretch, bands, whole: whole ? "true" : "", size, version: about.version });
}

/** How wide a scale bar is, as a share of the picture, and what it says. */
export function scaleBar(about, whole) {
  if (!about.frame || !about.pixel_scale) return null;
  const side = whole ? about.frame.width : about.frame.shown;
  const field = side * about.pixel_scale;
  const nice = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
  const length = nice.filter((one) => one <= 0.4 * field).pop();
  if (!length) return null;
  const text = length >= 60 ? `${length / 60}′` : `${length}″`;
  return { share: length / field, text };
}

export function barElement(about, whole) {
  const bar = scaleBar(about, whole);
  if (!bar) return null;
  const made = el("div", { class: "bar", title: `${bar.text} on the sky` }, el("span", {}, bar.text));
  made.style.width = `${(100 * bar.share).toFixed(1)}%`;
  return made;
}

export const typing = (event) =>
  event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea") ||
  event.ctrlKey || event.metaKey || event.altKey;

export function later(run, wait) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), wait);
  };
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("skytwin-theme", root.dataset.theme); } catch { /* storage may be off */ }
  document.dispatchEvent(new Event("themechange"));
}

$("theme").addEventListener("click", theme);
$("help").addEventListener("click", () => $("keys").showModal());
document.addEventListener("keydown", (event) => {
  if (event.key === "?" && !typing(event)) {
    event.preventDefault();
    $("keys").showModal();
  }
});
