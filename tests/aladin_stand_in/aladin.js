// A stand-in for Aladin Lite, which tests cannot reach: notes what is asked of it, draws nothing.
window.asked = [];
window.A = {
  init: Promise.resolve(),
  aladin: (place, options) => {
    window.asked.push(["aladin", place, options]);
    return {
      gotoRaDec: (ra, dec) => window.asked.push(["gotoRaDec", ra, dec]),
      setFoV: (fov) => window.asked.push(["setFoV", fov]),
      addCatalog: () => window.asked.push(["addCatalog"]),
    };
  },
  catalog: () => ({
    removeAll: () => window.asked.push(["removeAll"]),
    addSources: (sources) => window.asked.push(["addSources", sources]),
  }),
  source: (ra, dec, { name }) => [name, ra, dec],
};
