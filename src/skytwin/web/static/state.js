// What a page shows, as its address holds it.

const MANY = ["like", "unlike", "show"];

export const DEFAULTS = {
  like: [], unlike: [], show: [], metric: "", combine: "", k: "100", radius: "", where: "", inside: "",
  t: "", far: "", positive: "", stretch: "", bands: "", whole: "", size: "m", seed: "0", sort: "", desc: "",
  a: "", b: "", map: "", color: "", view: "", lasso: "",
  order: "", still: "",
};

export function readState(search = location.search) {
  const given = new URLSearchParams(search);
  const state = structuredClone(DEFAULTS);
  for (const name of Object.keys(DEFAULTS)) {
    if (MANY.includes(name)) state[name] = given.getAll(name);
    else if (given.has(name)) state[name] = given.get(name);
  }
  return state;
}

export function address(state, path = location.pathname) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (MANY.includes(name)) value.forEach((one) => found.append(name, one));
    else if (value !== "" && value !== DEFAULTS[name]) found.append(name, value);
  }
  const text = found.toString();
  return path + (text ? `?${text}` : "");
}

/** The address at which to label by the references of a query. */
export function labelAddress({ like, unlike, metric, combine, stretch, bands, whole, size }, path) {
  return address({ like, unlike, metric, combine, stretch, bands, whole, size }, path);
}

/** The parts that a picture depends on. */
export const lookOf = (state) => ({ stretch: state.stretch, bands: state.bands, whole: state.whole === "1" });
