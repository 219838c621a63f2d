"""Fitting a flow: which rows train, which stop, which test. NumPy in, `Flow` out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.densities.flow import Flow, FlowSettings, fit_coordinates
from skytwin.densities.flow_likelihood import Likelihood
from skytwin.errors import DataError, UsageError
from skytwin.images.folds import grouped_split

__all__ = ["fit_flow", "require_enough"]

_FEWEST = 100


def require_enough(count: int) -> None:
    """Refuse to fit a flow to too few objects (`DataError`)."""
    if count < _FEWEST:
        raise DataError(
            f"{count} objects to fit a flow to; expected at least {_FEWEST}: leave flow out of "
            "--methods"
        )


def fit_flow(
    x_ND: np.ndarray,
    ids: np.ndarray,
    groups: np.ndarray,
    test: np.ndarray,
    settings: FlowSettings,
    *,
    encoder: Mapping[str, Any],
    places: np.ndarray | None = None,
    seed: int = 0,
    state: Path | None = None,
    what: str = "flow",
    device: str = "auto",
    quiet: bool = True,
) -> Flow:
    """Fit a flow to the rows that are not test rows.

    Parameters
    ----------
    x_ND : ndarray, shape (N, D)
    ids : ndarray of str, shape (N,)
    groups : ndarray, shape (N,), int
        Objects on the sky; no group is on two sides.
    test : ndarray, shape (N,), bool
        Rows that neither train nor stop; whole groups.
    settings : FlowSettings
    encoder : mapping
        As in `Flow`.
    places : ndarray, shape (N, 2), optional
        RA and Dec, degrees.
    seed : int
        The same seed gives the same flow on the same machine.
    state : Path, optional
        File that lets a killed training go on; one that is there is gone on from.
    what, device, quiet
        As in `skytwin.densities.flow_train.train`.

    Raises
    ------
    UsageError
        zuko or torch is not installed.
    DataError
        Too few rows, NaN among them, or a likelihood that is no number.
    """
    rest = np.flatnonzero(~test)
    require_enough(len(rest))
    held = grouped_split(groups[rest], settings.validation_share, seed)
    train_rows, held_rows = rest[~held], rest[held]
    # torch takes seconds to load, and only fitting needs it.
    try:
        from skytwin.densities.flow_train import train
    except ModuleNotFoundError as error:
        raise UsageError(
            f"a flow needs {error.name}, which is not installed; install skytwin[density], or "
            "leave flow out of --methods"
        ) from None
    coordinates = fit_coordinates(x_ND[train_rows], settings.most)
    trained = train(
        coordinates(x_ND[train_rows]),
        coordinates(x_ND[held_rows]),
        settings,
        seed=seed,
        state=state,
        what=what,
        device=device,
        quiet=quiet,
    )
    seen = np.sort(rest)
    flow = Flow(
        settings=settings,
        coordinates=coordinates,
        weights=trained.weights,
        curve=trained.curve,
        best=trained.best,
        rows={"train": len(train_rows), "validation": len(held_rows), "test": int(test.sum())},
        held_out=np.empty(0),
        ids=np.asarray(ids)[seen],
        places=None if places is None else np.asarray(places, dtype=np.float64)[seen],
        encoder=dict(encoder),
        seed=seed,
    )
    held_out = Likelihood(flow)(x_ND[test])
    return Flow(**{**vars(flow), "held_out": held_out})
