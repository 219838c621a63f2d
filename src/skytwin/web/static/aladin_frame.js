// Within the frame of Aladin Lite: looks where the page says, and marks what it lists.
"use strict";
(() => {
  let aladin = null, marks = null;

  function show({ ra, dec, fov, places }) {
    const { A } = window;
    if (!aladin) {
      aladin = A.aladin("#place", { target: `${ra} ${dec}`, fov, survey: "P/DSS2/color", cooFrame: "ICRSd", showReticle: false });
    } else {
      aladin.gotoRaDec(ra, dec);
      aladin.setFoV(fov);
      marks.removeAll();
    }
    if (!marks) {
      marks = A.catalog({ name: "listed", sourceSize: 14, onClick: "showPopup" });
      aladin.addCatalog(marks);
    }
    marks.addSources(places.map(([name, east, north]) => A.source(east, north, { name })));
  }

  document.documentElement.style.height = document.body.style.height = "100%";
  document.body.style.margin = "0";
  document.getElementById("place").style.height = "100%";
  if (typeof window.A === "undefined") {
    parent.postMessage({ aladin: "missing" }, "*");
    return;
  }
  window.A.init.then(() => {
    addEventListener("message", (event) => { if (event.source === parent) show(event.data); });
    parent.postMessage({ aladin: "ready" }, "*");
  }, () => parent.postMessage({ aladin: "missing" }, "*"));
})();
