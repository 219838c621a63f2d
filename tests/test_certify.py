"""Certificates from plan to list, on surveys whose truth is known."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytwin.answers.certify import Certificate, certify
from skytwin.answers.certify_plan import CertifyPlan
from skytwin.answers.certify_rounds import fewest_labels, next_round, plan
from skytwin.answers.certify_sheet import plan_sheet
from skytwin.answers.search import Matches, search
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DamagedArtefact, DataError, UnknownName, UsageError
from skytwin.images.ingest import ingest_source
from toys import MemorySource, labelled, raw

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks" / "science"))
import certify_simulation as simulation


def names(count: int) -> list[str]:
    return [f"o{i}" for i in range(1, count + 1)]


def answers(given: CertifyPlan, positive: int | set[str]) -> dict[str, str]:
    """What a faultless person says, where the first so many or these are positive."""
    if isinstance(positive, int):
        positive = set(names(positive))
    return {str(name): "yes" if name in positive else "no" for name in given.ids}


def all_rounds(first: CertifyPlan, positive: int | set[str]) -> tuple[CertifyPlan, Certificate]:
    now = first
    while not now.finished:
        now = next_round(now, answers(now, positive))
    return now, certify(now, answers(now, positive))


@pytest.fixture(scope="module")
def survey() -> tuple[Matches, set[str]]:
    embeddings = labelled(8000, 24, 0.04)
    kinds = embeddings.catalog["kind"].to_pylist()
    positive = {str(n) for n, kind in zip(embeddings.ids, kinds, strict=True) if kind == "a"}
    like = sorted(positive)[:5]
    return search(embeddings, like, k=len(embeddings)), positive


def test_from_plan_to_list(survey: tuple[Matches, set[str]]) -> None:
    matches, positive = survey
    done, found = all_rounds(plan(matches, seed=1), positive)
    in_order = np.array([name in positive for name in done.objects["id"].to_pylist()])
    assert len(done.rank) == 200 == found.yes + found.no
    assert found.size > 150
    assert found.list["id"].to_pylist() == done.objects["id"].to_pylist()[: found.size]
    assert in_order[: found.size].mean() >= 0.9
    assert found.purity_estimate == pytest.approx(in_order[: found.size].mean(), abs=0.06)
    assert found.total.lower <= in_order.sum() <= found.total.upper
    assert found.base_rate.lower <= in_order.mean() <= found.base_rate.upper
    assert found.completeness is not None
    assert found.lift is not None
    truth = in_order[: found.size].sum() / in_order.sum()
    assert found.completeness.lower <= truth <= found.completeness.upper
    lift = in_order[: found.size].mean() / in_order.mean()
    assert found.lift.lower <= lift <= found.lift.upper
    # The labels that came back stand beside their objects, and nowhere else.
    told = {r["id"]: r["label"] for r in found.list.to_pylist() if r["label"]}
    assert told
    assert all((label == "yes") == (name in positive) for name, label in told.items())


def test_table_by_rank_is_below_the_truth(survey: tuple[Matches, set[str]]) -> None:
    matches, positive = survey
    done, found = all_rounds(plan(matches, seed=2), positive)
    truth = np.cumsum([name in positive for name in done.objects["id"].to_pylist()])
    table = found.table
    rank = table["rank"].to_numpy()
    assert (np.diff(rank) > 0).all()
    assert rank[-1] == done.size
    assert (table["lower"].to_numpy() <= truth[rank - 1] / rank + 1e-12).all()
    certified = rank[table["certified"].to_numpy(zero_copy_only=False)]
    assert certified[-1] == found.size
    assert (truth[certified - 1] / certified >= 0.9).all()
    assert (table["positives"].to_numpy() <= table["labelled"].to_numpy()).all()
    assert found.to_astropy().meta["certificate"] == found.headline
    assert len(found.to_pandas()) == len(rank)


def test_references_are_in_nothing(survey: tuple[Matches, set[str]]) -> None:
    matches, _ = survey
    ids = plan(matches).objects["id"].to_pylist()
    assert not {reference.id for reference in matches.references} & set(ids)
    assert len(ids) == len(set(ids)) <= len(matches)


def test_one_object_of_the_sky_is_one_entry() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 6))
    dec = np.full(300, 60.0)
    ra = np.arange(300) * 0.01
    # Entry 2i + 1 lies 1 arcsec of sky from entry 2i, of the first hundred; RA shrinks by cos dec.
    ra[1:100:2] = ra[0:100:2] + 1 / 3600 / np.cos(np.radians(60))
    ra[200], dec[200] = np.nan, np.nan
    embeddings = Embeddings.from_arrays(x, names(300), {"ra": ra, "dec": dec})
    matches = search(embeddings, np.ones(6), k=300)
    assert plan(matches).size == 250
    assert plan(matches, group_arcsec=0.9).size == 300
    assert plan(matches, group_arcsec=0).size == 300
    order = {name: place for place, name in enumerate(matches.ids)}
    kept = set(plan(matches).objects["id"].to_pylist())
    for i in range(0, 100, 2):
        pair = sorted((f"o{i + 1}", f"o{i + 2}"), key=order.__getitem__)
        assert pair[0] in kept
        assert pair[1] not in kept


def test_the_table_is_blind(survey: tuple[Matches, set[str]]) -> None:
    given = plan(survey[0], seed=5)
    assert given.table.column_names == ["order", "id", "ra", "dec", "label"]
    assert given.table["label"].null_count == len(given)
    assert given.table["id"].to_pylist() == given.ids.tolist()
    assert (survey[0].embeddings.ids[given.rows] == given.ids).all()
    # The order shown tells nothing of the rank, over seeds.
    order = [
        np.corrcoef(np.arange(27), np.argsort(np.argsort(plan(names(5000), seed=s).rank)))[0, 1]
        for s in range(60)
    ]
    assert abs(np.mean(order)) < 4 / np.sqrt(26 * 60)


def test_a_seed_is_a_plan(survey: tuple[Matches, set[str]]) -> None:
    one, two, other = (plan(survey[0], seed=seed) for seed in (7, 7, 8))
    assert one.ids.tolist() == two.ids.tolist() != other.ids.tolist()
    assert one.fingerprint == two.fingerprint == other.fingerprint


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    count=st.integers(40, 400),
    purity=st.floats(0.3, 0.9),
    seed=st.integers(0, 2**31),
    positives=st.integers(0, 60),
)
def test_plans_come_back_as_they_were_stored(
    tmp_path_factory: pytest.TempPathFactory, count: int, purity: float, seed: int, positives: int
) -> None:
    now = plan(names(count), purity=purity, seed=seed, budget=60, group_arcsec=0)
    for _ in range(3):
        folder = tmp_path_factory.mktemp("plans") / "plan"
        now.save(folder)
        again = CertifyPlan.open(folder)
        for entry in dataclasses.fields(CertifyPlan):
            one, two = getattr(now, entry.name), getattr(again, entry.name)
            if isinstance(one, np.ndarray):
                assert one.tolist() == two.tolist()
            elif isinstance(one, pa.Table):
                assert one.equals(two)
            else:
                assert one == two
        assert again.fingerprint == now.fingerprint
        if not now.finished:
            now = next_round(again, answers(again, positives))


def test_labels_through_files(tmp_path: Path) -> None:
    now = plan(names(2000), seed=3)
    while True:
        now.save(tmp_path / f"round{now.number}")
        now = CertifyPlan.open(tmp_path / f"round{now.number}")
        table = pa.csv.read_csv(tmp_path / f"round{now.number}" / "to_label.csv")
        filled = [f"{r['id']},{'Y' if int(r['id'][1:]) <= 300 else 'N'}" for r in table.to_pylist()]
        path = tmp_path / f"labels{now.number}.csv"
        path.write_text("\n".join(["id,label", *filled]))
        if now.finished:
            break
        now = next_round(now, path)
    found = certify(now, path)
    assert 200 <= found.size <= 333
    assert "0.9 pure" in found.summary
    with (tmp_path / "round1" / "to_label.csv").open("a") as stream:
        stream.write("x")
    with pytest.raises(DamagedArtefact):
        CertifyPlan.open(tmp_path / "round1")


def test_rounds_can_be_added_for_ever() -> None:
    done, before = all_rounds(plan(names(20_000), seed=4), 1000)
    with pytest.raises(UsageError, match="all 3 rounds are drawn; give --budget"):
        next_round(done, answers(done, 1000))
    spent = [r.share for r in done.rounds]
    for extra in (100, 60):
        done = next_round(done, answers(done, 1000), budget=extra)
        assert len(done) == extra
        found = certify(done, answers(done, 1000))
        assert found.size >= before.size
        assert found.size <= 1000 / 0.9
        spent.append(done.rounds[-1].share)
        before = found
    assert spent[:2] == [0, 0]
    assert all(share > 0 for share in spent[2:])
    assert sum(spent) < 1


def test_before_the_last_round_it_says_so() -> None:
    now = plan(names(20_000))
    found = certify(now, answers(now, 1000))
    assert "round 1 of 3 finds out where to look" in found.summary
    assert found.total.upper > 19_000


def test_shuffled_labels_certify_nothing() -> None:
    rng = np.random.default_rng(0)
    certified = 0
    for seed in range(60):
        positive = {f"o{i}" for i in rng.choice(5000, 100, replace=False)}
        certified += all_rounds(plan(names(5000), purity=0.5, seed=seed), positive)[1].size > 0
    assert certified == 0


def test_purity_out_of_reach_names_the_best() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(5000) < np.where(np.arange(5000) < 1000, 0.75, 0.0)
    positive = {f"o{i + 1}" for i in np.flatnonzero(truth)}
    _, found = all_rounds(plan(names(5000), purity=0.97, seed=2), positive)
    assert found.size == 0
    assert found.list.num_rows == 0
    assert found.completeness is None
    assert 0.4 < found.best_purity <= truth[: found.best_size].mean()
    assert f"the top {found.best_size} is at least 0." in found.headline


def test_all_positive_and_all_negative() -> None:
    everything = set(names(3000))
    done, found = all_rounds(plan(names(3000)), everything)
    assert found.size > 1000
    assert any("every label is yes" in note for note in found.notes)
    _, found = all_rounds(plan(names(3000)), set())
    assert (found.size, found.total.value, found.yes) == (0, 0, 0)
    assert found.total.lower == 0
    assert any("no label is yes" in note for note in found.notes)
    assert "no list is certified as 0.9 pure" in found.summary
    assert len(done.rank) == 200


def test_the_unlabelled_tail_is_not_kept_quiet() -> None:
    _, found = all_rounds(plan(names(100_000)), 50)
    assert found.total.upper > 10_000
    assert any("objects beyond rank" in note for note in found.notes)
    _, more = all_rounds(plan(names(100_000), budget=600, controls=400), 50)
    assert more.total.upper < found.total.upper / 8


def test_rare_positives_are_known_one_by_one() -> None:
    _, found = all_rounds(plan(names(100_000), seed=6), 10)
    assert 10 <= found.size <= 11
    assert found.certain
    assert "known positives prove it" in found.headline


def test_labels_for_other_objects() -> None:
    now = plan(names(2000))
    wrong = {**answers(now, 100), "o999999": "yes", "spiral": "no"}
    with pytest.raises(UnknownName, match=r"2 label\(s\) for objects that this plan does not ask"):
        certify(now, wrong)


def test_labels_that_contradict_an_earlier_round() -> None:
    now = plan(names(2000))
    first = answers(now, 100)
    second = next_round(now, first)
    name = next(iter(first))
    flipped = {"yes": "no", "no": "yes"}[first[name]]
    both = {**answers(second, 100), **first}
    assert certify(second, both).yes == certify(second, answers(second, 100)).yes
    with pytest.raises(DataError, match=f"conflicting labels for '{name}'"):
        certify(second, {**both, name: flipped})


def test_too_few_labels() -> None:
    now = plan(names(2000))
    one = {str(now.ids[0]): "yes"}
    now = next_round(now, one)
    with pytest.raises(DataError, match=f"no label for any of the {len(now)} objects of round 2"):
        certify(now, one)
    now = next_round(now, {**one, str(now.ids[0]): "yes"})
    with pytest.raises(DataError, match="3 of 200 objects labelled.*at least 30.*label 27 more"):
        certify(now, {str(now.ids[0]): "yes"})


def test_missing_and_unsure_count_against() -> None:
    done = plan(names(5000), seed=9)
    while not done.finished:
        done = next_round(done, answers(done, 500))
    full = answers(done, 500)
    found = certify(done, full)
    some = dict(list(full.items())[:-6])
    less = certify(done, some)
    unsure = certify(done, {**some, **dict.fromkeys(list(full)[-6:], "unsure")})
    assert less.unclear == unsure.unclear == 6
    assert less.size == unsure.size <= found.size
    assert less.total.lower <= found.total.lower <= found.total.upper <= less.total.upper
    assert "6 object(s) unsure or without a label" in less.summary


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"purity": 1.0}, "purity 1.0; expected a number between 0 and 1"),
        ({"confidence": 95}, "confidence 95; expected"),
        ({"rounds": 7}, "7 rounds; expected 2 or 3"),
        ({"smallest": 0}, "smallest list 0"),
        ({"controls": -1}, "controls -1"),
        ({"group_arcsec": -1}, "group-arcsec -1"),
        ({"budget": 30}, "takes at least 33 labels, even if all are positive"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(names(2000), **settings)  # type: ignore[arg-type]


def test_rankings_that_cannot_be_used(survey: tuple[Matches, set[str]]) -> None:
    matches, _ = survey
    few = search(matches.embeddings, "s1", k=100)
    with pytest.raises(UsageError, match="a ranking of 100 among 8000 objects"):
        plan(few)
    with pytest.raises(DataError, match="duplicate id 'a'"):
        plan(["a", "b", "a"])
    with pytest.raises(DataError, match="nothing is ranked"):
        plan([])


def test_fewest_labels_is_the_first_number_that_convinces() -> None:
    assert fewest_labels(0.9, 0.95) == 30
    assert 0.9**30 <= 0.045 < 0.9**29


def test_a_tiny_survey_is_labelled_whole() -> None:
    now = plan(names(12), budget=60, purity=0.8)
    while len(now.rank) < 12:
        now = next_round(now, answers(now, 8))
    found = certify(now, answers(now, 8))
    assert (found.size, found.certain) == (10, True)
    with pytest.raises(DataError, match="all 12 objects are labelled"):
        next_round(now, answers(now, 8))


def test_contact_sheet_is_in_the_blind_order(tmp_path: Path) -> None:
    count = 60
    images = []
    for number in range(count):
        pixels = np.full((1, 8, 8), number, dtype=np.uint8)
        pixels[0, 0, 0] = 255  # an image of one value is refused
        images.append(raw(pixels, bands=("gray",)))
    cutouts = ingest_source(
        MemorySource(images, ids=names(count)), tmp_path / "cutouts", quiet=True
    )
    given = plan(names(count), budget=60)
    picture = cv2.imdecode(
        np.frombuffer(plan_sheet(given, cutouts, columns=4), np.uint8), cv2.IMREAD_COLOR
    )
    rows = -(-len(given) // 4)
    assert picture.shape == (rows * 150, 4 * 132, 3)
    for place, name in enumerate(given.ids):
        top, left = place // 4 * 150 + 18, place % 4 * 132
        assert (picture[top + 20 : top + 108, left + 20 : left + 108] == int(name[1:]) - 1).all()


CELLS = [
    ("good (AUC 0.983)", 0.01, 0.9, 200),
    ("excellent (AUC 0.998)", 0.01, 0.9, 200),
    ("rises again", 0.01, 0.8, 200),
    ("cliff", 0.1, 0.5, 100),
    ("just short of P", 0.01, 0.9, 200),
    ("just short of P", 0.1, 0.5, 100),
]


@pytest.mark.parametrize(("name", "prevalence", "purity", "budget"), CELLS)
def test_simulated_surveys(name: str, prevalence: float, purity: float, budget: int) -> None:
    cell = simulation.run(simulation.SURVEYS[name], prevalence, purity, budget, 60, seed=11)
    assert cell.false.sum() <= simulation.most_false(60)
    assert cell.total_missed.sum() <= simulation.most_false(60)
    if name == "excellent (AUC 0.998)":
        assert cell.share.mean() > 0.65
    if name == "good (AUC 0.983)":
        assert cell.share.mean() > 0.42


@pytest.mark.slow
@pytest.mark.parametrize("prevalence", list(simulation.SIZES))
@pytest.mark.parametrize("name", list(simulation.SURVEYS))
def test_simulated_surveys_at_length(name: str, prevalence: float) -> None:
    survey = simulation.SURVEYS[name]
    for purity in simulation.PURITIES:
        cell = simulation.run(survey, prevalence, purity, 200, 120, seed=12)
        assert cell.false.sum() <= simulation.most_false(120)
        assert cell.total_missed.sum() <= simulation.most_false(120)
        if name == "excellent (AUC 0.998)" and prevalence == 0.01:
            assert cell.share.mean() > 0.7
