"""Artefacts among Galaxy Zoo 1 and spoilt images of MiraBest are odd."""

from __future__ import annotations

from pathlib import Path

import pytest
from outliers import SPOILT, embedded, rows

from skytwin.answers.outliers import outliers
from skytwin.answers.outliers_settings import OutlierSettings

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_artefacts_of_galaxy_zoo_are_odd(made: Path) -> None:
    emb = embedded(made, "pca", "gz1", {})
    settings = OutlierSettings(positive=("morphology=DontKnow",))
    found = outliers(emb, settings, label="morphology")
    print(found.summary)
    assert len(found.table) == 3380
    assert found.checks[0].base.hits == 35
    assert max(check.auc.lower for check in found.checks) > 0.5
    # What trained a flow is likelier under it, and not by much: it has not learnt rows by heart.
    for flow in found.flows:
        assert flow.held_out.mean() > flow.curve[flow.best - 1][0] - 15


def test_spoilt_images_are_odd(made: Path) -> None:
    found = list(rows(made, "pca", ["planted"], {}, ("knn", "mahalanobis")))
    for check in found:
        print(check.what, check.method, check.auc)
    assert len(found) == 3 * len(SPOILT)
    by = {(check.what.split()[0], check.method): check.auc.value for check in found}
    for kind in ("saturated", "noise"):
        assert by[kind, "knn"] > 0.95
