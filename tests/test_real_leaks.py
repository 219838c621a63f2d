"""Copies in the published sets: what is known of them, and what was not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from query_algebra import images

import skytwin
from skytwin.answers.leaks import Twins, find_twins
from skytwin.embeddings.table import Embeddings
from skytwin.images.cutouts import Cutouts
from skytwin.images.folds import grouped_split, straddling

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def sets(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Embeddings]:
    folder = tmp_path_factory.mktemp("leaks")
    found = {}
    for name in ("frdeep-first", "frdeep-nvss", "mirabest"):
        # One encoder for both surveys of FIRST, so that their vectors can be compared.
        encoder = str(folder / "frdeep-first-emb") if name == "mirabest" else "pca:32:abs"
        found[name] = skytwin.embed(images(made, name), encoder, folder / f"{name}-emb", quiet=True)
    return found


def named(found: Twins) -> dict[frozenset[str], str]:
    second = found.embeddings if found.other is None else found.other
    return {
        frozenset((str(found.embeddings.ids[a]), str(second.ids[b]))): str(kind)
        for a, b, kind in zip(found.rows, found.others, found.kind, strict=True)
    }


def test_frdeep_first(sets: dict[str, Embeddings]) -> None:
    found = find_twins(sets["frdeep-first"], quiet=True)
    # One identical pair is published; FRICAT and CoNFIG share three sources besides.
    assert named(found) == {
        frozenset(("FRII_134_example", "FRII_182_example")): "identical image",
        frozenset(("FRI_44_example", "FRI_154_FRICAT_FR1_example")): "near-identical image",
        frozenset(("FRI_163_FRICAT_FR1_example", "FRI_30_example")): "near-identical image",
        frozenset(("FRI_151_FRICAT_FR1_example", "FRI_15_example")): "near-identical image",
    }
    leaks = found.differing("split").to_pylist()
    print(f"FR-DEEP FIRST, train and test share: {[(r['id'], r['other_id']) for r in leaks]}")
    assert {leaks[0]["id"], leaks[0]["other_id"]} == {
        "FRI_163_FRICAT_FR1_example",
        "FRI_30_example",
    }


def test_frdeep_nvss(sets: dict[str, Embeddings]) -> None:
    found = find_twins(sets["frdeep-nvss"], quiet=True)
    kinds = named(found)
    print(f"FR-DEEP NVSS: {found!r}, {found.objects} objects")
    assert kinds[frozenset(("FRI_30_CoNFIG_FR1_", "FRI_163_FRICAT_FR1_"))] == "identical image"
    assert kinds[frozenset(("FRI_44_CoNFIG_FR1_", "FRI_154_FRICAT_FR1_"))].startswith("near")
    assert kinds[frozenset(("FRII_381a", "FRII_384a"))] == "overlapping frames"
    assert found.count("identical image") == 1
    assert len(found) <= 12


def test_mirabest(sets: dict[str, Embeddings]) -> None:
    mirabest = sets["mirabest"]
    found = find_twins(mirabest, quiet=True)
    near = [names for names, kind in named(found).items() if kind == "near-identical image"]
    assert near == [
        frozenset(("102_169.640+031.253_0.2198_0060.00", "100_169.641+031.255_0.2181_0081.13"))
    ]
    assert found.count("overlapping frames") == 7
    # Positions tell how often different objects pass for one.
    print(f"MiraBest: alike but elsewhere on the sky: {found.count('alike elsewhere')}")
    assert found.count("alike elsewhere") <= 3
    assert len(found.straddling("split", frames=False)) == 0
    assert len(found.straddling("split")) == 2
    test = grouped_split(found.fields, 0.2, 0, mirabest.column("fr").to_pylist())
    assert len(straddling(found.fields, test)) == 0


def test_frdeep_and_mirabest_share_sources(sets: dict[str, Embeddings]) -> None:
    first, mirabest = sets["frdeep-first"], sets["mirabest"]
    found = find_twins(first, other=mirabest, quiet=True)
    kinds = list(found.kind)
    print(f"FR-DEEP FIRST in MiraBest: {len(found)} pairs, {found.shared.sum()} of 1256 shared")
    assert kinds.count("identical image") == 2
    assert kinds.count("near-identical image") >= 60
    same = np.isin(found.kind, ["identical image", "near-identical image"])
    ours = np.array(first.column("fr").to_pylist())[found.rows[same]]
    theirs = np.array(mirabest.column("fr").to_pylist())[found.others[same]]
    print(f"  their FR classes agree in {(ours == theirs).sum()} of {len(ours)}")
    # Chance would agree in about half.
    assert (ours == theirs).mean() > 0.9


def test_galaxy_zoo_has_no_copy(made: Path) -> None:
    cutouts = Cutouts(images(made))
    # The images alone, whatever the vectors are.
    vectors = np.random.default_rng(0).standard_normal((len(cutouts), 8))
    found = find_twins(Embeddings.from_arrays(vectors, cutouts.ids), cutouts=cutouts, quiet=True)
    assert len(found) == 0
    assert 0.5 <= found.threshold < 0.7
