"""Audits of lists of real galaxies, with and without a planted artefact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from query_algebra import images as published

import skytwin
from skytwin.answers.audit import Audit, audit
from skytwin.embeddings.embed import embed_cutouts
from skytwin.encoders.load import open_encoder
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from toys import MemorySource, raw

pytestmark = [pytest.mark.real, pytest.mark.slow]
COUNT = 500


@pytest.fixture(scope="module")
def galaxies(made: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3, 128, 128) uint8 and classes of some Galaxy Zoo galaxies."""
    cutouts = Cutouts(published(made))
    rows = np.sort(np.random.default_rng(0).permutation(len(cutouts))[:COUNT])
    kind = np.array(cutouts.catalog["morphology"].to_pylist())[rows]
    return cutouts.pixels(rows), kind


def audited(pixels: np.ndarray, kind: np.ndarray, folder: Path) -> Audit:
    images = [raw(image, bands=("red", "green", "blue")) for image in pixels]
    source = MemorySource(images, table=pa.table({"kind": kind}))
    cutouts = ingest_source(source, folder / "cutouts", quiet=True)
    encoder = open_encoder("pca:32", cutouts_like=cutouts, orbit="d4")
    embeddings = embed_cutouts(cutouts, encoder, folder / "emb", quiet=True)
    like = [str(n) for n in embeddings.ids[np.flatnonzero(kind == "EdgeOn")[:5]]]
    matches = skytwin.search(embeddings, like, k=40)
    found = audit(matches, positive="kind=EdgeOn", controls=300, stability=8, quiet=True)
    print(found.summary)
    return found


def test_edge_on_galaxies_share_their_shape(
    galaxies: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    pixels, kind = galaxies
    found = audited(pixels, kind, tmp_path)
    assert "axis ratio" in found.shared
    assert found.differences.row("axis ratio")["delta"] < -0.3
    assert found.shortcuts == []
    assert found.stability is not None
    changes = {row["change"]: row for row in found.stability.to_pylist()}
    assert changes["nothing"]["share"] == changes["turned by 90 deg"]["share"] == 1.0
    assert {"without red", "without green", "without blue"} <= set(changes)


def test_a_brighter_sky_under_all_edge_on_galaxies_is_found(
    galaxies: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    pixels, kind = galaxies
    made = pixels.copy()
    here = kind == "EdgeOn"
    made[here] = np.minimum(made[here].astype(int) + 12, 255).astype(np.uint8)
    found = audited(made, kind, tmp_path)
    assert {f"background {band}" for band in ("red", "green", "blue")} <= set(found.shortcuts)
    assert found.purity is not None
    rows = {row["covariate"]: row for row in found.purity.to_pylist()}
    # Controls as bright as the matches are edge-on too: the offset alone makes the list.
    assert rows["background green"]["controls"] > 3 * rows["(none)"]["controls"]
