"""A few damaged inputs of every format; ``python -m tests.damage`` does thousands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .__main__ import fault_lines, outcomes, table
from .bits import BLIND
from .case import Outcome
from .formats import FORMATS

pytestmark = pytest.mark.slow

SEED, EACH = 1, 8


@pytest.fixture(scope="module")
def found() -> dict[str, list[Outcome]]:
    """The first cases of every format, from one server."""
    plan = {name: range(EACH) for name in FORMATS}
    ended: dict[str, list[Outcome]] = {name: [] for name in FORMATS}
    for one in outcomes(plan, seed=SEED):
        ended[one.format].append(one)
    return ended


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_used_listed_or_refused(name: str, found: dict[str, list[Outcome]]) -> None:
    mine = found[name]
    assert [one.number for one in mine] == list(range(EACH))
    assert not fault_lines(mine, SEED), table(mine)
    assert {one.ended for one in mine} <= {"accepted", "listed", "refused"}


def test_a_case_is_the_same_each_time(tmp_path: Path) -> None:
    kept = []
    for number in range(2):
        folder = tmp_path / str(number)
        (one,) = outcomes({"png": [3]}, seed=7, keep=folder)
        kept.append((one.damage, one.ended, (folder / "in" / "bad.png").read_bytes()))
    assert kept[0] == kept[1]


def test_blind_damage_changes_most_inputs() -> None:
    data = bytes(range(256)) * 20
    for damage in BLIND:
        changed = [damage(data, data[::-1], np.random.default_rng(n))[0] != data for n in range(20)]
        assert sum(changed) >= 5, damage.__name__


def test_a_fault_is_said_with_the_command_that_repeats_it() -> None:
    one = Outcome(format="png", number=5, damage="a bit", ended="FAULT", said="died", where="x",
                  seconds=1.0, megabytes=2.0)  # fmt: skip
    (line,) = fault_lines([one, Outcome(**{**vars(one), "ended": "listed"})], 9)
    assert "--seed 9 --format png --only 5" in line
    assert "| png | 1 | 0 | 0 | 0 | 1 |" in table([one])
    assert json.loads(json.dumps(vars(one))) == vars(one)
