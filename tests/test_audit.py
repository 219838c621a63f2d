"""Audits: statistics against independent truths, and surveys whose shortcut is known."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import mannwhitneyu, permutation_test

from skytwin.answers.audit import Audit, audit
from skytwin.answers.audit_covariates import CATALOGUE, catalogue_covariates
from skytwin.answers.audit_groups import Rules, compare
from skytwin.answers.audit_images import DEFECT, FRAME, OBJECT
from skytwin.answers.audit_purity import matched_purity
from skytwin.answers.audit_stability import other_stretch, shifted, turned
from skytwin.answers.audit_tests import effects, explained, permutation_p, scores
from skytwin.answers.figures_audit import audit_effects, audit_stability
from skytwin.answers.search import Matches, search
from skytwin.embeddings.embed import embed_cutouts
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.load import open_encoder
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from skytwin.images.stretch import Stretch
from toys import MemorySource, raw

POSITIVES, OTHERS, SIZE = 60, 260, 32


def test_delta_is_that_of_mann_whitney() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 9, (40, 5)) + 0.0, rng.integers(1, 10, (70, 5)) + 0.0
    one[3:6, 2], other[::7, 2] = np.nan, np.nan
    found = effects(one, other, permutations=99)
    for place in range(5):
        a, b = (x[np.isfinite(x[:, place]), place] for x in (one, other))
        share = mannwhitneyu(a, b).statistic / (len(a) * len(b))
        assert found.delta[place] == pytest.approx(2 * share - 1)
        assert found.lower[place] < found.delta[place] < found.upper[place]


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_intervals_of_delta_cover_the_truth(shift: float) -> None:
    rng = np.random.default_rng(1)
    # For normal distributions P(a > b) is Phi(shift / sqrt 2).
    truth = 2 * float(mannwhitneyu(rng.normal(shift, 1, 20_000), rng.normal(0, 1, 20_000))[0])
    truth = truth / 20_000**2 - 1
    one, other = rng.normal(shift, 1, (30, 400)), rng.normal(0, 1, (60, 400))
    found = effects(one, other, permutations=99)
    inside = (found.lower <= truth) & (truth <= found.upper)
    assert 0.92 <= inside.mean() <= 0.99


def test_intervals_where_groups_do_not_overlap() -> None:
    found = effects(np.arange(10.0)[:, None] + 100, np.arange(50.0)[:, None], permutations=99)
    assert found.delta[0] == found.upper[0] == 1
    # As many successes of as many: the Jeffreys lower end of 10 of 10, as a difference.
    assert found.lower[0] == pytest.approx(2 * 0.7829 - 1, abs=1e-3)
    same = effects(np.ones((10, 1)), np.ones((20, 1)), permutations=99)
    assert (same.delta[0], same.lower[0], same.upper[0], same.p[0]) == (0, 0, 0, 1)


def test_p_values_are_those_of_scipy() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(0.6, 1, (12, 1)), rng.normal(0, 1, (15, 1))
    p, adjusted = permutation_p(one, other, permutations=4999, seed=0)
    expected = permutation_test(
        (one[:, 0], other[:, 0]),
        lambda a, b, axis: (a[..., None] > b[..., None, :]).sum(axis=(-1, -2)) - a.shape[-1] * 7.5,
        vectorized=True,
        n_resamples=4999,
        rng=np.random.default_rng(3),
    ).pvalue
    assert p[0] == pytest.approx(expected, abs=0.02)
    assert adjusted[0] == p[0]


def test_family_wise_error_is_kept_and_power_is_not_thrown_away() -> None:
    rng = np.random.default_rng(4)
    false = found = 0
    for seed in range(150):
        one, other = rng.standard_normal((20, 12)), rng.standard_normal((30, 12))
        p, adjusted = permutation_p(one, other, permutations=199, seed=seed)
        assert (adjusted >= p - 1e-12).all()
        false += bool((adjusted <= 0.05).any())
        # Twelve copies of one covariate are one covariate: no price for looking at all.
        copies = np.repeat(one[:, :1] + 0.9, 12, axis=1), np.repeat(other[:, :1], 12, axis=1)
        p, adjusted = permutation_p(*copies, permutations=199, seed=seed)
        assert adjusted == pytest.approx(p)
        found += bool(adjusted[0] <= 0.05)
    assert false <= 15
    assert found > 100


def test_scores_are_places_among_others() -> None:
    values, among = np.array([[0.0], [2.0], [9.0], [np.nan]]), np.array([[1.0], [2.0], [3.0]])
    assert scores(values, among)[:3, 0].tolist() == [0, 0.5, 1]
    assert np.isnan(scores(values, among)[3, 0])


def test_what_an_object_explains_is_taken_away_and_no_more() -> None:
    rng = np.random.default_rng(5)
    size, other_size = rng.normal(1.5, 1, (150, 1)), rng.normal(0, 1, (600, 1))
    noise, other_noise = rng.normal(0, 0.3, (150, 1)), rng.normal(0, 0.3, (600, 1))
    follows = size**3 + noise, other_size**3 + other_noise
    shifted_too = follows[0] + 8, follows[1]
    rest = explained((size, other_size), follows)
    left = explained((size, other_size), shifted_too)
    raw_effect = effects(*follows, permutations=99).delta[0]
    assert raw_effect > 0.6
    assert abs(effects(*rest, permutations=99).delta[0]) < 0.2
    assert effects(*left, permutations=99).delta[0] > 0.5


KINDS = (DEFECT, FRAME, FRAME, OBJECT, CATALOGUE)
NAMES = ("gaps", "background g", "noise g", "half-light radius", "z")


def verdicts(one: np.ndarray, other: np.ndarray, lead: np.ndarray | None) -> dict[str, str]:
    found = compare(NAMES, KINDS, one, other, lead, Rules(permutations=199), 0).table
    return dict(zip(found["covariate"].to_pylist(), found["verdict"].to_pylist(), strict=True))


def test_verdicts() -> None:
    rng = np.random.default_rng(6)
    other, one = rng.standard_normal((400, 5)), rng.standard_normal((80, 5))
    other[:, 0] = one[:, 0] = 0.0
    lead = rng.standard_normal((5, 5)) * 0.1
    lead[:, 0] = 0.0
    assert set(verdicts(one, other, lead).values()) == {"no difference"}
    one[:30, 0] = 0.2
    one[:, 1] += 2
    one[:, 3] += 1.5
    one[:, 4] -= 2
    # The noise goes with the size.
    one[:, 2], other[:, 2] = one[:, 3] * 2, other[:, 3] * 2
    lead[:3, 0], lead[:, 1:] = 0.2, one[:5, 1:]
    assert verdicts(one, other, lead) == {
        "gaps": "shortcut",
        "background g": "shortcut",
        "noise g": "with the object",
        "half-light radius": "shared",
        "z": "shared",
    }
    lead[:, [0, 1, 4]] = 0
    said = verdicts(one, other, lead)
    assert said["gaps"] == said["background g"] == said["z"] == "matches only"
    one[:30, 0], lead[:, 0] = 0.0, 0.2
    assert verdicts(one, other, lead)["gaps"] == "references only"
    one[:30, 0] = 0.2
    # Without references nothing is acquitted.
    assert verdicts(one, other, np.full((1, 5), np.nan))["gaps"] == "shortcut"
    assert verdicts(one, other, None)["background g"] == "shortcut"


def test_fewer_gaps_than_usual_are_no_artefact() -> None:
    rng = np.random.default_rng(7)
    other = rng.random((300, 5))
    one = rng.random((80, 5)) * np.array([0.1, 1, 1, 1, 1])
    assert verdicts(one, other, one[:5])["gaps"] == "no difference"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"effect": 0.0}, "effect 0.0; expected a number between 0 and 1"),
        ({"alpha": 1.0}, "alpha 1.0"),
        ({"permutations": 50}, "takes at least 99"),
        ({"alpha": 0.001, "permutations": 500}, "takes at least 999"),
    ],
)
def test_rules_that_cannot_be(setting: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Rules(**setting)  # type: ignore[arg-type]


def test_catalogue_columns() -> None:
    table = pa.table(
        {
            "id": ["7", "8", "9", "10"],
            "objid": [7, 8, 9, 10],
            "origin": ["a", "b", "c", "d"],
            "ra": [359.0, 1.0, 0.0, None],
            "z": [0.1, float("nan"), float("inf"), 0.4],
            "n": pa.array([1, 2, 3, 4], pa.int16()),
            "good": [True, False, True, None],
            "when": pa.array([dt.date(2020, 1, d) for d in (1, 2, 3, 4)]),
            "text": ["x", "y", "z", "w"],
            "flat": [5, 5, 5, 5],
            "empty": pa.nulls(4, pa.float32()),
            "mag_r": [19.0, 20.0, 21.0, 22.0],
        }
    )
    found = catalogue_covariates(table, np.arange(4), ["mag_r < 21 and mag_rx > 2"])
    kinds = dict(zip(found.names, found.kinds, strict=True))
    values = dict(zip(found.names, found.values.T, strict=True))
    assert kinds == {
        "ra": FRAME,
        "ra from the middle": FRAME,
        "ra missing": FRAME,
        "z": CATALOGUE,
        "z missing": CATALOGUE,
        "n": CATALOGUE,
        "good": CATALOGUE,
        "good missing": CATALOGUE,
        "when": CATALOGUE,
    }
    assert np.ptp(values["ra"][:3]) == pytest.approx(2)
    assert values["z missing"].tolist() == [0, 1, 1, 0]
    assert values["when"][1] - values["when"][0] == 86400e6
    assert dict(found.skipped) == {
        "objid": "the identifier",
        "flat": "one value throughout",
        "empty": "no value",
        "mag_r": "part of a condition",
    }


def test_a_list_that_a_column_alone_makes_has_no_purity_left() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2000, 2)), rng.standard_normal((300, 2))
    y[:, 0] += 2
    # Who is positive hangs on the first column only.
    table = matched_purity(
        ("a", "b"),
        (y, rng.random(300) < 1 / (1 + np.exp(-3 * (y[:, 0] - 1)))),
        (x, rng.random(2000) < 1 / (1 + np.exp(-3 * (x[:, 0] - 1)))),
    )
    rows = {row["covariate"]: row for row in table.to_pylist()}
    assert list(rows) == ["(none)", "a", "b", "(all)"]
    assert rows["(none)"]["difference_lower"] > 0.5
    assert rows["b"]["difference_lower"] > 0.5
    # 300 of 2000 controls reach not quite as far up as 300 matches do.
    assert abs(rows["a"]["difference"]) < 0.25
    assert rows["a"]["lift"] == pytest.approx(rows["a"]["purity"] / rows["a"]["controls"])


def test_turns_and_moves() -> None:
    rng = np.random.default_rng(9)
    flux = rng.random((3, 2, 17, 17)).astype(np.float32)
    # Odd frames: the centre pixel stays; a right angle is exact away from the mirrored edge.
    assert turned(flux, 90.0) == pytest.approx(np.rot90(flux, axes=(2, 3)), abs=1e-4)
    flux[0, 0, 3, 3] = np.nan
    assert 1 <= np.isnan(turned(flux, 33.0)).sum() <= 9
    whole = turned(flux, 33.0)
    assert not np.isnan(whole[1:]).any()
    moved = shifted(flux, 2, seed=0)
    assert moved.shape == flux.shape
    for one, other in zip(flux[1:], moved[1:], strict=True):
        inner = other[:, 4:-4, 4:-4]
        steps = [
            (y, x)
            for y in (-2, 0, 2)
            for x in (-2, 0, 2)
            if np.array_equal(one[:, 4 - y : 13 - y, 4 - x : 13 - x], inner)
        ]
        assert len(steps) == 1
        assert steps != [(0, 0)]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("range:0,255", "range:0,255+sqrt"),
        ("minmax+sqrt", "minmax"),
        ("zscale+asinh:0.1", "zscale+asinh:0.3"),
        ("minmax+log:1000", "minmax+log:300"),
        ("lupton:stretch=5,Q=8,minimum=0", "lupton:stretch=7.5,Q=8,minimum=0"),
    ],
)
def test_other_stretches(text: str, other: str) -> None:
    assert other_stretch(Stretch.parse(text)) == Stretch.parse(other)


def survey(folder: Path, artefact: str | None, seed: int = 0) -> Embeddings:
    """Crosses among discs of two bands, the crosses with an artefact."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    images = []
    for number in range(POSITIVES + OTHERS):
        light = rng.uniform(40, 60) * np.exp(-np.hypot(x, y) / rng.uniform(1.8, 2.4))
        pixels = light + rng.standard_normal((2, SIZE, SIZE)) + 10
        if number < POSITIVES:
            if artefact == "offset":
                pixels += 6
            elif artefact == "seam":
                pixels[:, rng.integers(10, 22) :] += 6
            elif artefact == "gap":
                pixels[:, :, :6] = np.nan
        images.append(raw(pixels.astype(np.float32), bands=("g", "r")))
    positive = np.arange(POSITIVES + OTHERS) < POSITIVES
    table = pa.table(
        {
            "kind": np.where(positive, "a", "b"),
            "z": rng.uniform(0, 1, len(images)),
            "x": rng.uniform(0, 1000, len(images)),
        }
    )
    cutouts = ingest_source(MemorySource(images, table=table), folder / "cut", quiet=True)
    encoder = open_encoder("pca:12", cutouts_like=cutouts, stretch="range:0,70", orbit="d4")
    return embed_cutouts(cutouts, encoder, folder / "emb", quiet=True)


REFS = [f"obj{i:04d}" for i in range(5)]


def audited(embeddings: Embeddings, **settings: object) -> Audit:
    matches = search(embeddings, REFS, k=40)
    rules = Rules(permutations=199)
    given = {"controls": 150, "stability": 8, "rules": rules, "quiet": True, **settings}
    return audit(matches, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def offset(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    return survey(tmp_path_factory.mktemp("offset"), "offset")


def test_a_planted_offset_is_found_and_named(offset: Embeddings) -> None:
    found = audited(offset, positive="kind=a")
    assert {"background g", "background r"} <= set(found.shortcuts)
    assert {"background g", "background r"} <= set(found.in_labels)
    row = found.differences.row("background g")
    assert row["delta"] > 0.6
    assert row["references"] > 0.6
    assert row["matches"] == pytest.approx(16, abs=0.5)
    assert "SUSPECT" in found.summary
    assert found.purity is not None
    assert found.stability is not None
    rows = {r["covariate"]: r for r in found.purity.to_pylist()}
    assert rows["(none)"]["purity"] > 0.7
    assert rows["background g"]["controls"] > 2 * rows["(none)"]["controls"]
    changes = {r["change"]: r for r in found.stability.to_pylist()}
    assert changes["nothing"]["share"] == changes["nothing"]["close"] == 1
    assert changes["turned by 90 deg"]["share"] == 1  # the vectors are averaged over such turns
    # With all backgrounds alike, nothing is left to draw them.
    assert changes["background levelled"]["share"] <= 0.75
    assert changes["without g"]["references"] is True
    assert found.to_astropy().meta["shortcuts"].startswith("background")
    assert len(found.to_pandas()) == found.differences.table.num_rows
    assert audit_effects(found).get_xlabel().startswith("Cliff")
    assert len(audit_stability(found).get_yticklabels()) == len(changes)


@pytest.mark.parametrize(
    ("artefact", "names"),
    [("seam", {"seam step"}), ("gap", {"gaps", "gaps at border"})],
)
def test_other_planted_artefacts(artefact: str, names: set[str], tmp_path: Path) -> None:
    # With the labels: a gap is filled before the encoder sees it, so it draws no list by itself.
    found = audited(survey(tmp_path, artefact), positive="kind=a", stability=0)
    assert names & set(found.shortcuts if artefact == "seam" else found.in_labels)


def test_a_clean_survey_is_called_clean(tmp_path: Path) -> None:
    found = audited(survey(tmp_path, None), positive="kind=a", stability=0)
    assert found.shortcuts == found.in_labels == []
    assert "no shortcut found" in found.summary


def test_a_seed_is_an_audit(offset: Embeddings) -> None:
    one, two, other = (audited(offset, seed=s, controls=60, stability=0) for s in (3, 3, 4))
    assert one.summary == two.summary
    assert one.differences.table.equals(two.differences.table)
    assert not one.differences.table.equals(other.differences.table)


def test_vectors_from_arrays_have_their_catalogue_only() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 6))
    x[:60] += 2.5
    seeing = np.where(np.arange(500) < 60, rng.normal(1.6, 0.1, 500), rng.normal(1, 0.1, 500))
    table = {
        "psf_fwhm": seeing,
        "z": rng.random(500),
        "ra": rng.random(500),
        "dec": rng.random(500),
    }
    embeddings = Embeddings.from_arrays(x, [f"s{i}" for i in range(500)], table)
    found = audit(search(embeddings, [f"s{i}" for i in range(4)], k=40), controls=200)
    assert found.shortcuts == ["psf_fwhm"]
    assert found.stability is None
    assert any("catalogue columns only" in note for note in found.notes)
    with pytest.raises(UsageError, match="no stability test"):
        audit_stability(found)
    plain = Embeddings.from_arrays(x, [f"s{i}" for i in range(500)])
    with pytest.raises(DataError, match="nothing to compare"):
        audit(search(plain, ["s0"], k=40))


def test_controls_are_what_the_search_could_have_found(offset: Embeddings) -> None:
    matches = search(offset, REFS, k=40, where="z < 0.9")
    found = audit(matches, controls=1000, stability=0, quiet=True)
    # All that is left below 0.9, the references aside.
    free = (offset.catalog["z"].to_numpy() < 0.9).sum() - sum(
        offset.catalog["z"].to_numpy()[offset.index[name]] < 0.9 for name in REFS
    )
    assert (found.measured, found.controls) == (40, free - 40)
    assert "z" not in found.differences.table["covariate"].to_pylist()


def test_image_and_vector_references(offset: Embeddings) -> None:
    matches = search(offset, [offset.vectors[0], offset.vectors[1]], k=40)
    found = audit(matches, controls=200, stability=5, quiet=True)
    # Of a vector nothing else is known; what the matches share is still said.
    assert "background g" in found.shortcuts
    assert found.differences.row("background g")["references"] is None
    assert any("never changed: vector" in note for note in found.notes)


def test_bad_input(offset: Embeddings, tmp_path: Path) -> None:
    matches = search(offset, REFS, k=40)
    for settings, kind, said in (
        ({"controls": 5}, UsageError, "controls 5; expected at least 10"),
        ({"stability": -1}, UsageError, "stability -1"),
        ({"angle": float("nan")}, UsageError, "angle nan"),
        ({"seed": -1}, UsageError, "seed -1"),
        ({"positive": "kind=zebra"}, DataError, "no object fulfils kind=zebra"),
        ({"positive": "colour=red"}, UnknownName, "colour"),
    ):
        with pytest.raises(kind, match=said):
            audit(matches, quiet=True, **settings)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"3 match\(es\) to audit"):
        audit(search(offset, REFS, k=3))
    with pytest.raises(DataError, match="a shorter list"):
        audit(search(offset, REFS, k=len(offset)))
    other = survey(tmp_path, None, seed=5)
    with pytest.raises(Mismatch, match="do not give the vectors"):
        audit(matches, cutouts=Cutouts(tmp_path / "cut"), controls=50, quiet=True)
    assert len(other) == len(offset)


def test_moved_weights_do_not_lose_the_rest(
    offset: Embeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches = search(offset, REFS, k=40)
    moved = dataclasses.replace(matches, settings=matches.settings)
    assert isinstance(moved, Matches)
    encoder = offset.folder / "encoder"  # type: ignore[operator]
    kept = encoder.with_name("kept")
    encoder.rename(kept)
    try:
        found = audit(moved, controls=100, quiet=True)
    finally:
        kept.rename(encoder)
    assert found.stability is None
    assert any("without a stability test" in note for note in found.notes)
    assert "background g" in found.shortcuts
