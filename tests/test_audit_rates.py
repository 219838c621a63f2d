"""How often an audit finds what was planted: the benchmark, at a fifth of its length.

The benchmark's 100 trials find at least 95 of each on Galaxy Zoo 1; the margin here is for 20, with
half the galaxies.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from audit_shortcuts import SIGNS, galaxy_zoo, simulated, state, trial

TRIALS = 20


def named(said: set[str], artefact: str) -> bool:
    return any(name.startswith(SIGNS[artefact]) for name in said)


@pytest.mark.slow
def test_simulated_shortcuts_are_found_and_clean_lists_are_not_blamed() -> None:
    survey = simulated()
    plain = state(survey, None)
    clean = [trial(survey, plain, None, seed) for seed in range(TRIALS)]
    assert sum(bool(one.listed) for one in clean) <= 3
    for artefact in ("offset", "seam"):
        planted = state(survey, artefact, survey.strengths[artefact][0])
        done = [trial(survey, plain, planted, seed) for seed in range(TRIALS)]
        assert sum(named(one.listed, artefact) for one in done) >= 17
        assert sum(named(one.labels, artefact) for one in done) == TRIALS


@pytest.mark.slow
@pytest.mark.real
def test_shortcuts_planted_into_galaxy_zoo(made: Path) -> None:
    survey = galaxy_zoo(made, "pca:48", None, share=0.5)
    plain = state(survey, None)
    clean = [trial(survey, plain, None, seed) for seed in range(TRIALS)]
    for artefact in SIGNS:
        planted = state(survey, artefact, survey.strengths[artefact][0])
        done = [trial(survey, plain, planted, seed) for seed in range(TRIALS)]
        found = sum(named(one.listed, artefact) for one in done)
        blamed = sum(named(one.listed, artefact) for one in clean)
        print(f"gz1, {artefact}: found in {found} of {TRIALS}, blamed in {blamed} clean ones")
        assert found >= 17
        assert blamed <= 3
