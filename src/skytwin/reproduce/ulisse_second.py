"""Other sets of a ULISSE study: SDSS frames with their bands, and a second survey."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from skytwin.answers.export import write_table
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError
from skytwin.images.cutouts import Cutouts
from skytwin.images.simulate import simulate_survey
from skytwin.images.stretch import Stretch
from skytwin.reproduce.places import embedded, ingested, stage
from skytwin.reproduce.ulisse_inputs import COUNT, LUPTON, Asked, Network, Survey, data_folder
from skytwin.run import result_folder

__all__ = ["Frames", "frames", "second"]

_FRAME = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """Galaxies and stars cut from FITS frames in g, r and i."""

    cutouts: Cutouts
    colour: Embeddings
    alone: Embeddings


def frames(home: Path, chosen: Network, quiet: bool) -> Frames | None:
    """SDSS FITS frames as cutouts and as vectors, in three bands and in i alone; None: not at hand.

    The frame of each cutout is the paper's, 64 pixels of 0.396 arcsec.
    """
    data = data_folder()
    folder = data / "sdss_frames" if data is not None else None
    bands = sorted(folder.glob("frame-[gri]-*.fits.bz2")) if folder is not None else []
    if folder is None or len(bands) != 3:
        return None
    order = {"g": 0, "r": 1, "i": 2}
    bands.sort(key=lambda path: order[path.name.split("-")[1]])
    made = ingested(
        home,
        "frames",
        bands,
        positions=(folder / "galaxies.csv", folder / "stars.csv"),
        position_band="r",
        size=_FRAME,
        quiet=quiet,
    )
    colour, alone = (
        embedded(
            home,
            f"frames-{name}",
            made,
            chosen.spec,
            weights=chosen.weights,
            quiet=quiet,
            **{**chosen.recipe, "bands": mix, "stretch": LUPTON},
        )
        for name, mix in (("gri", "i,r,g"), ("i", "i,i,i"))
    )
    return Frames(cutouts=made, colour=colour, alone=alone)


def second(
    asked: Asked, home: Path, first: Survey, found: Frames | None
) -> tuple[Cutouts, str] | None:
    """Another survey, as the first one's encoder can read it, and what it is; None: not at hand."""
    if asked.second is not None:
        made = ingested(
            home, "second", asked.second, catalog=asked.second_catalog, quiet=asked.quiet
        )
        return made, f"{len(made)} images of {made.folder.name}, as given"
    if first.simulated:
        folder = stage(home, "simulated-second", {"count": COUNT, "seed": asked.seed + 1})
        made = (
            Cutouts(folder)
            if (folder / "manifest.json").is_file()
            else simulate_survey(
                "optical", COUNT, folder, seed=asked.seed + 1, depth=0.4, quiet=asked.quiet
            )
        )
        return made, f"{len(made)} simulated objects under noise 2.5 times as high"
    if found is None or first.cutouts.bands != ("red", "green", "blue"):
        return None
    made = _pictures(home, found.cutouts, first.cutouts.shape[2], asked.quiet)
    return made, (
        f"{len(made)} galaxies and stars cut from SDSS FITS frames and drawn as 8-bit colour "
        "pictures by us, resampled to the first survey's number of pixels"
    )


def _pictures(home: Path, cutouts: Cutouts, side: int, quiet: bool) -> Cutouts:
    """FITS cutouts as a folder of 8-bit pictures, ingested: what a picture survey would hold."""
    asked = {"cutouts": cutouts.manifest.fingerprint, "side": side, "stretch": LUPTON}
    folder = stage(home, "frames-drawn", asked)
    if not (folder / "manifest.json").is_file():
        flux = cutouts.flux(slice(None))[:, [cutouts.bands.index(b) for b in "irg"]]
        stretched = np.nan_to_num(Stretch.parse(LUPTON).resolve(cutouts.dtype)(flux))
        with result_folder(
            folder,
            kind="pictures",
            recipe=asked,
            summary={"pictures": len(cutouts)},
            inputs={},
            parents={"cutouts": cutouts.as_parent()},
        ) as where:
            (where / "pictures").mkdir()
            for name, picture in zip(cutouts.ids, stretched, strict=True):
                pixels = np.rint(255 * picture.transpose(1, 2, 0)[::-1, :, ::-1]).astype(np.uint8)
                target = where / "pictures" / f"{_safe(str(name))}.png"
                if not cv2.imwrite(str(target), np.ascontiguousarray(pixels)):
                    raise DataError(f"cannot write {str(target)!r}")
            table = cutouts.catalog.select(["id", "source_table"])
            named = [_safe(str(name)) for name in cutouts.ids]
            write_table(table.set_column(0, "id", [named]), where / "catalogue.csv", {})
    return ingested(
        home,
        "frames-pictures",
        folder / "pictures",
        catalog=folder / "catalogue.csv",
        size=side,
        quiet=quiet,
    )


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name)
