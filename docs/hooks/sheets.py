"""Simulated images above real ones of the same class, as one picture; real ones where they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import galaxy_zoo
import numpy as np
import page
from matplotlib.figure import Figure

import skytwin
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import to_rgb

EACH = 8
#: Class: the columns and values that mean it, simulated and in MiraBest.
RADIO: Mapping[str, tuple[dict[str, str], dict[str, str]]] = {
    "FRI": ({"morphology": "FRI"}, {"fr": "FRI", "morphology": "standard"}),
    "FRII": ({"morphology": "FRII"}, {"fr": "FRII", "morphology": "standard"}),
    "wide-angle tail": ({"morphology": "wide-angle-tail"},) * 2,
    "hybrid": ({"morphology": "hybrid"}, {"fr": "Hybrid"}),
}
OPTICAL = {
    "elliptical": ({"morphology": "elliptical"}, {"morphology": "Elliptical"}),
    "disk, spiral": ({"morphology": "disk"}, {"morphology": "SpiralCW"}),
    "edge-on": ({"morphology": "edge-on"}, {"morphology": "EdgeOn"}),
    "merger": ({"morphology": "merger"}, {"morphology": "Merger"}),
}


def radio() -> str:
    """MiraBest's classes, 8-bit images cut at 3 sigma."""
    made = skytwin.simulate_survey(
        "radio", 160, "sheet-radio", seed=11, eight_bit=True, workers=1, quiet=True,
        mix={"FRI": 0.3, "FRII": 0.3, "wide-angle-tail": 0.2, "hybrid": 0.2},
    )  # fmt: skip
    real = None
    if os.environ.get("SKYTWIN_DATA"):
        real = skytwin.ingest("mirabest", "sheet-mirabest", quiet=True)
    return _picture("sheet-radio.png", RADIO, made, real, "MiraBest", 96)


def optical() -> str:
    """Galaxy Zoo's classes, in colour."""
    made = skytwin.simulate_survey(
        "optical", 160, "sheet-optical", seed=11, size=128, workers=1, quiet=True,
        mix={"elliptical": 0.25, "disk": 0.25, "edge-on": 0.25, "merger": 0.25},
    )  # fmt: skip
    real = None
    if galaxy_zoo.classes():
        galaxy_zoo.prepare()
        real = Cutouts(galaxy_zoo.BUILD / "gz1.cutouts")
    return _picture("sheet-optical.png", OPTICAL, made, real, "Galaxy Zoo 1", 96)


def _picture(
    name: str,
    classes: Mapping[str, tuple[dict[str, str], dict[str, str]]],
    made: Cutouts,
    real: Cutouts | None,
    survey: str,
    crop: int,
) -> str:
    rows = []
    for title, (here, there) in classes.items():
        rows.append((f"{title}\nsimulated", _tiles(made, here, crop)))
        if real is not None:
            rows.append((f"{title}\n{survey}", _tiles(real, there, crop)))
    figure = Figure(figsize=(EACH * 1.15, len(rows) * 1.15), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01)
    axes = figure.subplots(len(rows), EACH)
    for line, (title, tiles) in zip(axes, rows, strict=True):
        for number, axis in enumerate(line):
            axis.set_axis_off()
            if number < len(tiles):
                axis.imshow(tiles[number], origin="upper", interpolation="nearest")
        line[0].text(
            -0.08, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=8
        )
    figure.savefig(name, dpi=110)
    what = "simulated images" if real is None else f"simulated images above those of {survey}"
    return page.picture(str(Path(name)), f"{what}, eight of each class")


def _tiles(cutouts: Cutouts, wanted: Mapping[str, str], crop: int) -> np.ndarray:
    """The first ones of a class, not chosen."""
    fits = np.ones(len(cutouts), dtype=bool)
    for column, value in wanted.items():
        fits &= np.array(cutouts.catalog[column].to_pylist(), dtype=object) == value
    flux = cutouts.pixels(np.flatnonzero(fits)[:EACH])
    edge = (flux.shape[2] - crop) // 2
    return to_rgb(flux[:, :, edge : edge + crop, edge : edge + crop], cutouts.bands)
