"""Galaxy Zoo explained: exact on a real network, real weights, real galaxies."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

import skytwin
from skytwin.answers.explain import explain_each
from skytwin.answers.explain_features import separating_features
from skytwin.embeddings.table import Embeddings

pytestmark = [pytest.mark.real, pytest.mark.slow]
WEIGHTS = "weights/mobilenetv2_100.imagenet1k.safetensors"
OBJECTS = 160


@pytest.fixture(scope="module")
def gz1(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "images").mkdir()
    with zipfile.ZipFile(data_dir / "gz1" / "galaxies.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for name in random.Random(0).sample(names, OBJECTS):
            (folder / "images" / Path(name).name).write_bytes(archive.read(name))
    catalog = data_dir / "gz1" / "catalogue.csv"
    cutouts = skytwin.ingest(folder / "images", folder / "cut", catalog=catalog, quiet=True)
    return skytwin.embed(
        cutouts,
        "timm:mobilenetv2_100",
        folder / "emb",
        weights=data_dir / WEIGHTS,
        crop=64,
        orbit="d4",
        quiet=True,
    )


def test_edge_on_galaxies_explained(gz1: Embeddings) -> None:
    label = np.array(gz1.catalog["morphology"].to_pylist())
    like = [str(name) for name in gz1.ids[label == "EdgeOn"][:5]]
    matches = skytwin.search(gz1, like, k=20, metric="standardized", combine="mean")
    even, found = (explain_each(matches, [1, 2, 3], average=count, quiet=True) for count in (0, 32))
    for one in (*even, *found):
        assert one.map_match is not None
        assert one.map_match.cells.shape == (7, 7)
        assert one.score == pytest.approx(1 - matches.distance[one.rank - 1], abs=1e-9)  # type: ignore[operator]
        assert one.map_match.cells.sum() == pytest.approx(one.score, abs=1e-5)
        assert sum(one.features["part"].to_pylist()) == pytest.approx(one.score, abs=1e-9)
        assert one.residual < 1e-5
    central = [
        np.mean([one.map_match.central / one.score for one in each])  # type: ignore[union-attr]
        for each in (even, found)
    ]
    worst = max(one.residual for one in found)
    print(f"gz1, 3 matches: maps within {worst:.1e}; central quarter {central[0]:.2f} if compared")
    print(f"  with the mean of all places, {central[1]:.2f} with the average object")
    # The galaxy is in the middle: most of what the list is ordered by comes from it.
    assert central[1] > 0.4 > central[0]


def test_features_of_edge_on_galaxies(gz1: Embeddings) -> None:
    label = np.array(gz1.catalog["morphology"].to_pylist())
    like = [str(name) for name in gz1.ids[label == "EdgeOn"][:5]]
    matches = skytwin.search(gz1, like, k=25, metric="standardized", combine="mean")
    found = separating_features(matches, quiet=True)
    more = [row["feature"] for row in found.table.to_pylist() if row["auc"] > 0.5][:5]
    excited = found.matches.embeddings.vectors[:][:, more].argsort(axis=0)[::-1][:10]
    share, base = (label[excited] == "EdgeOn").mean(), (label == "EdgeOn").mean()
    print(f"edge-on among the 10 that excite each of 5 features most: {share:.2f}, base {base:.2f}")
    assert share > 2 * base
