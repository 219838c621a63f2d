"""Train an encoder that comes with skytwin, on simulated images alone, and put it in its place.

    python benchmarks/science/bundled_encoders.py radio FOLDER      # about an hour on two cores
    python benchmarks/science/bundled_encoders.py optical FOLDER

Draws the survey, trains with the recipe ``bundled-NAME``, and copies ``encoder.json``, the weights
and the curves to ``src/skytwin/bundled/NAME``. Killed and repeated it goes on. With the same
versions on the same processor the weights come out the same.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import skytwin
from skytwin.encoders.bundled import bundled_home
from skytwin.encoders.checkpoint import WEIGHTS_FILE
from skytwin.encoders.encoder import ENCODER_FILE
from skytwin.encoders.recipe import CURVES

SURVEYS = {
    "radio": {"kind": "radio", "count": 20_000, "seed": 1, "eight_bit": True},
    # Rare classes are drawn more often than they are: what is never seen is not told apart.
    "optical": {
        "kind": "optical",
        "count": 20_000,
        "seed": 1,
        "mix": {
            "elliptical": 0.27,
            "disk": 0.28,
            "edge-on": 0.17,
            "merger": 0.10,
            "agn-host": 0.05,
            "lens": 0.03,
            "star": 0.05,
            "artefact": 0.05,
        },
    },
}


def made(name: str, folder: Path) -> Path:
    """The folder of the trained encoder; what is there is taken."""
    cutouts, out = folder / f"{name}.cutouts", folder / name
    if not (cutouts / "manifest.json").exists():
        skytwin.simulate_survey(out=cutouts, **SURVEYS[name])
    if not (out / "manifest.json").exists():
        label = {"radio": "fr", "optical": "morphology"}[name]
        skytwin.train(cutouts, out, recipe=f"bundled-{name}", label=label, device="cpu")
    return out


def main() -> None:
    """Train and copy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(SURVEYS))
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    out = made(given.name, given.folder)
    place = bundled_home() / given.name
    place.mkdir(parents=True, exist_ok=True)
    for file in (ENCODER_FILE, WEIGHTS_FILE, CURVES):
        shutil.copyfile(out / file, place / file)
    print(f"{place}: {skytwin.open(out).fingerprint}")


if __name__ == "__main__":
    main()
