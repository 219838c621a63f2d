// Before anything is drawn: the theme that was chosen last, else the system's.
"use strict";
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("skytwin-theme"); } catch { /* storage may be off */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
})();
