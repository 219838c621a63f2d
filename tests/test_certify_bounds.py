"""The exact parts of a certificate, against scipy, brute force and full enumeration."""

from __future__ import annotations

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy.stats import hypergeom

from skytwin.answers.certify_bounds import (
    UNKNOWN,
    Round,
    Sample,
    enough_positives,
    evidence,
    joint_lower,
    judge,
    lower_alone,
)
from skytwin.answers.certify_design import draw
from skytwin.answers.certify_total import positives_within, total_positives
from skytwin.answers.hypergeometric import chance_of_at_least, fewest_positives


def sample(rank: list[int], label: list[int], depth: int | list[int], round_: int = 0) -> Sample:
    n = len(rank)
    return Sample(
        rank=np.array(rank),
        label=np.array(label, dtype=np.int8),
        round=np.full(n, round_),
        depth=np.broadcast_to(np.asarray(depth), n),
    )


def test_tail_probability_is_scipys() -> None:
    rng = np.random.default_rng(0)
    pool = rng.integers(1, 5000, 400)
    draws = np.minimum(rng.integers(0, 300, 400), pool)
    positives = (rng.random(400) * (pool + 1)).astype(int)
    hits = (rng.random(400) * (draws + 1)).astype(int)
    want = hypergeom.sf(hits - 1, pool, positives, draws)
    np.testing.assert_allclose(
        chance_of_at_least(hits, draws, positives, pool), want, rtol=1e-7, atol=1e-13
    )


@pytest.mark.parametrize("pool", [10**6, 10**9])
def test_tail_probability_of_a_large_pool_is_the_exact_fraction(pool: int) -> None:
    positives, draws, hits = pool // 10 * 9 - 1, 40, 38
    exact = sum(
        Fraction(comb(positives, i) * comb(pool - positives, draws - i), comb(pool, draws))
        for i in range(hits, draws + 1)
    )
    found = chance_of_at_least(*map(np.array, (hits, draws, positives, pool)))
    assert found[0] == pytest.approx(float(exact), rel=1e-6)


def test_lower_limit_is_the_smallest_number_that_is_not_excluded() -> None:
    for pool, draws, error in ((30, 9, 0.05), (12, 12, 0.05), (50, 20, 0.3)):
        for hits in range(draws + 1):
            possible = range(hits, pool - (draws - hits) + 1)
            want = next(m for m in possible if hypergeom.sf(hits - 1, pool, m, draws) > error)
            assert fewest_positives(*map(np.array, (hits, draws, pool)), error)[0] == want


def test_nothing_drawn_nothing_known() -> None:
    assert fewest_positives(np.array([0]), np.array([0]), np.array([9]), 0.05)[0] == 0


def test_binary_fractions_do_not_cost_a_positive() -> None:
    assert enough_positives(np.arange(10, 1000, 10), 0.9).tolist() == list(range(9, 900, 9))
    assert enough_positives(11, 0.9) == 10


@pytest.mark.parametrize("labels", ["1101101011", "1110111000", "0000011111", "1111111110"])
def test_error_rate_by_enumerating_every_possible_draw(labels: str) -> None:
    """All samples of one layer, each as likely: at most 30 % of them certify what is not so."""
    truth = np.array([int(c) for c in labels])
    size, purity, error = len(truth), 0.8, 0.3
    planned = (Round(layers=((8, 6),), chain=(3, 5, 6, 8), share=1.0),)
    false = total = 0
    for ranks in itertools.combinations(range(1, 9), 6):
        drawn = sample(list(ranks), truth[np.array(ranks) - 1].tolist(), 8)
        found = judge(drawn, planned, size, purity=purity, error=error, smallest=2)
        total += 1
        false += found.size > 0 and truth[: found.size].mean() < purity
        false += found.size == 0 and truth[: found.best_size].mean() < found.best_purity - 1e-9
        limits = joint_lower(drawn, planned, np.arange(1, size + 1), 1e-9)
        assert (limits <= np.cumsum(truth)).all()
    assert total == 28
    assert false <= error * total


def test_evidence_takes_only_layers_that_reach() -> None:
    drawn = Sample(
        rank=np.array([1, 4, 2, 9, 3]),
        label=np.array([1, 0, 1, 0, 1], dtype=np.int8),
        round=np.array([0, 0, 1, 1, 1]),
        depth=np.array([4, 4, 3, 10, 10]),
    )
    found = evidence(drawn, 1, [3, 5])
    # Within 3: rank 1 was known, 2 and 3 are fresh. Within 5 the layer of depth 3 is known too.
    assert (found.draws.tolist(), found.hits.tolist()) == ([2, 1], [2, 1])
    assert (found.pool.tolist(), found.known.tolist()) == ([2, 2], [1, 2])


def test_unknown_labels_never_help() -> None:
    rng = np.random.default_rng(4)
    planned = (Round(layers=((100, 60),), chain=(60, 80, 100), share=1.0),)
    for _ in range(30):
        rank = 1 + rng.choice(100, 60, replace=False)
        label = (rng.random(60) < 0.93).astype(np.int8)
        full = sample(rank.tolist(), label.tolist(), 100)
        some = sample(rank.tolist(), np.where(rng.random(60) < 0.05, UNKNOWN, label).tolist(), 100)
        settings = {"purity": 0.8, "error": 0.05, "smallest": 5}
        assert (
            judge(some, planned, 100, **settings).size <= judge(full, planned, 100, **settings).size
        )
        k = np.arange(1, 101)
        assert (lower_alone(some, planned, k, 0.05) <= lower_alone(full, planned, k, 0.05)).all()
        less = total_positives(full, planned, 100, 0.05)
        more = total_positives(some, planned, 100, 0.05)
        assert more.lower <= less.lower <= less.upper <= more.upper


def test_everything_labelled_is_everything_known() -> None:
    truth = np.array([1] * 18 + [0, 1, 1, 0, 0, 0, 0, 0, 1, 0])
    size = len(truth)
    drawn = sample(list(range(1, size + 1)), truth.tolist(), size)
    planned = (Round(layers=((size, size),), chain=(size,), share=0.9),)
    found = judge(drawn, planned, size, purity=0.9, error=0.05, smallest=5)
    purity = np.cumsum(truth) / np.arange(1, size + 1)
    assert found.size == 1 + np.flatnonzero(purity >= 0.9 - 1e-9)[-1]
    assert found.certain
    total = total_positives(drawn, planned, size, 0.05)
    assert (total.value, total.lower, total.upper) == (21, 21, 21)
    np.testing.assert_allclose(positives_within(drawn, np.arange(1, size + 1)), np.cumsum(truth))


def test_a_list_never_reaches_beyond_the_survey() -> None:
    drawn = sample([1, 2, 3, 4, 5, 6], [1] * 6, 6)
    planned = (Round(layers=((6, 6),), chain=(6,), share=0.9),)
    assert judge(drawn, planned, 6, purity=0.5, error=0.05, smallest=5).size == 6
    assert judge(drawn, planned, 6, purity=0.5, error=0.05, smallest=7).best_size <= 6


def test_estimate_within_is_unbiased_over_draws() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(500) < np.linspace(1, 0, 500)
    planned = Round(layers=((50, 10), (200, 15), (500, 20)))
    k = np.array([50, 200, 500])
    found = []
    for _ in range(400):
        rank, depth = draw(planned, np.empty(0, dtype=np.int64), rng)
        drawn = Sample.empty().with_round(rank, depth, truth[rank - 1])
        found.append(positives_within(drawn, k))
    error = np.std(found, axis=0) / 20
    np.testing.assert_allclose(
        np.mean(found, axis=0), np.cumsum(truth)[k - 1], atol=4 * error.max()
    )
