"""Galaxy Zoo 1: the default finds what it must, and D4 loses handedness by construction.

The floors are those that were asked for, less a margin for the draws; what is measured is printed.
The network sees 192 pixels in place of 224 and counts in bfloat16 where the processor can: a third
of the time, and the purities are 0.800, 0.628, 0.074 and 0.141 where float32 has 0.813, 0.627,
0.078 and 0.144.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from query_algebra import CLASSES, embedding

import skytwin
from skytwin.answers.compare import compare
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.load import load_saved

pytestmark = [pytest.mark.real, pytest.mark.slow]
#: Purity of the nearest 100 with five references: floor, margin, and what the recipe of
#: Doorenbos et al. 2022 gives with one reference.
WANTED = {
    "EdgeOn": (0.80, 0.03, 0.38),
    "Spiral": (0.62, 0.03, 0.33),
    "Merger": (0.075, 0.01, 0.02),
    "DontKnow": (0.13, 0.01, 0.03),
}


@pytest.fixture(scope="module")
def gz1(made: Path) -> Embeddings:
    return embedding(made, "small")


@pytest.mark.parametrize("name", CLASSES)
def test_the_default_holds_every_floor(gz1: Embeddings, name: str) -> None:
    assert len(gz1) == 3380
    found = compare(gz1, CLASSES[name], ways=[("standardized", "auto")], draws=30)
    (row,) = found.table.to_pylist()
    print(
        f"gz1 {name} (base rate {found.base}): purity at 100, 5 references, 30 draws: "
        f"{row['purity']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"
    )
    floor, margin, recipe = WANTED[name]
    assert row["purity"] >= floor - margin
    assert row["purity"] > recipe


def test_the_mirror_image_has_the_same_vector(gz1: Embeddings, tmp_path: Path) -> None:
    cutouts = gz1.cutouts()
    spiral = str(gz1.ids[gz1.catalog["morphology"].to_pylist().index("SpiralCW")])
    flux = cutouts.flux([cutouts.index[spiral]])[0]
    mirrored = tmp_path / "mirrored.npy"
    np.save(mirrored, flux[:, :, ::-1].astype(np.uint8))
    found = skytwin.search(gz1, mirrored, k=2, combine="mean", include_self=True)
    assert found.ids[0] == spiral
    # bfloat16 has three digits; that the rest is rounding, float32 shows.
    assert found.distance[0] < 0.1 * found.distance[1]
    assert gz1.folder is not None
    exact = load_saved(gz1.folder / "encoder", precision="f32")
    one, other = exact.encode(np.stack([flux, flux[:, :, ::-1]]))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(one).max() > 0.1
