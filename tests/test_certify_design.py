"""Drawing and designing rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from skytwin.answers.certify_bounds import Round, Sample
from skytwin.answers.certify_design import SCHEDULE, decisive, draw, pilot, refine


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 60).flatmap(
        lambda size: st.tuples(
            st.just(size),
            st.sets(st.integers(1, size)),
            st.lists(st.tuples(st.integers(1, size), st.integers(1, 20)), min_size=1, max_size=4),
            st.integers(0, 2**32),
        )
    )
)
def test_draw_takes_what_is_free_and_within_depth(
    case: tuple[int, set[int], list[tuple[int, int]], int],
) -> None:
    _, taken, layers, seed = case
    layers = sorted(layers)
    known = np.array(sorted(taken), dtype=np.int64)
    rank, depth = draw(Round(layers=tuple(layers)), known, np.random.default_rng(seed))
    assert len(set(rank) | taken) == len(rank) + len(taken)
    assert (rank >= 1).all()
    assert (rank <= depth).all()
    free = set(range(1, 61)) - taken
    at = 0
    for deep, count in layers:
        want = min(count, sum(r <= deep for r in free))
        got = set(rank[at : at + want].tolist())
        assert len(got) == want
        free -= got
        at += want
    assert at == len(rank)


def test_every_free_rank_is_equally_likely() -> None:
    rng = np.random.default_rng(5)
    taken = np.array([2, 3, 7, 11, 20])
    count = np.zeros(21, dtype=int)
    for _ in range(4000):
        rank, _ = draw(Round(layers=((12, 2), (20, 3))), taken, rng)
        count[rank] += 1
    assert not count[taken].any()
    inner = [r for r in range(1, 13) if r not in taken]
    outer = list(range(13, 20))
    assert chisquare(count[inner]).pvalue > 1e-4
    assert chisquare(count[outer]).pvalue > 1e-4
    assert count[inner].min() > 1.5 * count[outer].max()


def test_draw_from_a_billion_takes_no_memory_for_them() -> None:
    rank, depth = draw(Round(layers=((10**9, 50),)), np.array([1, 10**9]), np.random.default_rng(0))
    assert len(np.unique(rank)) == 50
    assert (depth == 10**9).all()


@pytest.mark.parametrize("size", [1, 3, 20, 21, 500, 10**6])
def test_rounds_ask_for_what_they_were_given(size: int) -> None:
    rng = np.random.default_rng(1)
    first = pilot(size, 27, 5)
    assert first.count == 27
    rank, depth = draw(first, np.empty(0, dtype=np.int64), rng)
    assert len(rank) <= min(27, size)
    sample = Sample.empty().with_round(rank, depth, (rank < size // 10).astype(np.int8))
    second = refine(size, sample, 36, 0.9, 5)
    assert second.count == 36
    last = decisive(
        size, sample, 117, 20, purity=0.9, error=0.05, share=0.9, smallest=5, certified=0, rng=rng
    )
    assert list(last.chain) == sorted(last.chain)
    assert last.chain[-1] == last.layers[0][0] <= size
    assert max(depth for depth, _ in last.layers) == size
    assert len(draw(last, rank, rng)[0]) == min(137, size - len(rank))


def test_schedules_spend_the_budget_once() -> None:
    for rounds, shares in SCHEDULE.items():
        assert len(shares) == rounds
        assert sum(shares) == pytest.approx(1)


def test_design_looks_where_purity_falls() -> None:
    rng = np.random.default_rng(2)
    size, edge = 100_000, 2000
    sample = Sample.empty()
    for count in (30, 40):
        step = (
            pilot(size, count, 5) if not len(sample.rank) else refine(size, sample, count, 0.9, 5)
        )
        rank, depth = draw(step, sample.rank, rng)
        sample = sample.with_round(rank, depth, (rank <= edge).astype(np.int8))
    last = decisive(
        size, sample, 117, 20, purity=0.9, error=0.05, share=0.9, smallest=5, certified=0, rng=rng
    )
    assert edge / 2 < last.chain[-1] < 2 * edge
    more = decisive(
        size, sample, 117, 0, purity=0.9, error=0.05, share=0.09, smallest=5, certified=1900,
        rng=rng,
    )  # fmt: skip
    assert min(more.chain) > 1900
