// The images of other surveys, by Aladin Lite in a frame; nothing is asked for before it is turned on.

import { $, el } from "./common.js";

let frame = null, ready = false, latest = null;

function tell() {
  // The frame has no origin that could be named; what it is told is on the sky.
  if (ready && latest) frame.contentWindow.postMessage(latest, "*");
}

/** Where to look, and what lies there: ra, dec, fov in degrees, places as [name, ra, dec]. */
export function backdrop(view) {
  latest = view;
  tell();
}

function turn(on) {
  ready = false;
  $("aladin-words").textContent = "";
  frame = on ? el("iframe", { src: "/aladin/frame", title: "The sky by Aladin Lite" }) : null;
  frame?.setAttribute("sandbox", "allow-scripts");
  $("aladin-place").replaceChildren(...(frame ? [frame] : []));
}

if ($("aladin-on")) {
  $("aladin-on").checked = false; // a browser may remember it, but nobody has asked for it now
  $("aladin-on").addEventListener("change", () => turn($("aladin-on").checked));
  addEventListener("message", (event) => {
    if (!frame || event.source !== frame.contentWindow) return;
    ready = event.data.aladin === "ready";
    if (event.data.aladin === "missing") $("aladin-words").textContent = "Aladin Lite could not be loaded; is this machine on the internet?";
    tell();
  });
}
