"""Training a masked autoregressive flow with zuko: torch comes in here and nowhere else.

The batches of an epoch follow from seed and epoch alone, and everything that training remembers is
saved now and then, so that a killed run goes on to the same flow. Shapes: ``y_NP`` coordinates.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import zuko
from safetensors.torch import load_file, save

from skytwin.densities.flow import FlowSettings
from skytwin.errors import DataError
from skytwin.files import write_atomically
from skytwin.progress import Progress

__all__ = ["Trained", "make_maf", "train", "weights_of"]

_SAVE_SECONDS = 30.0
_SMALL = 256  # hidden units
_FACTS = "facts"


@dataclass(frozen=True, eq=False, kw_only=True)
class Trained:
    """What training leaves.

    Attributes
    ----------
    weights : dict of str to ndarray
        As in `skytwin.densities.flow.Flow`.
    curve : tuple of tuple of float
    best : int
    """

    weights: dict[str, np.ndarray]
    curve: tuple[tuple[float, float], ...]
    best: int


@dataclass(kw_only=True)
class _Memory:
    """Where training stands."""

    epoch: int = 0
    best: int = 0
    best_value: float = -math.inf
    done: bool = False
    curve: list[tuple[float, float]]


def make_maf(dim: int, settings: FlowSettings) -> Any:
    """An untrained flow of zuko over ``dim`` coordinates."""
    if dim == 1:
        raise DataError("vectors of 1 number; a flow needs at least 2")
    return zuko.flows.MAF(dim, transforms=settings.blocks, hidden_features=settings.hidden)


def weights_of(maf: Any) -> dict[str, np.ndarray]:
    """Weights times masks, and biases, of a flow of zuko."""
    found: dict[str, np.ndarray] = {}
    for block, transform in enumerate(maf.transform.transforms):
        linear = [part for part in transform.hyper if hasattr(part, "mask")]
        for number, part in enumerate(linear):
            weight = (part.mask * part.weight).detach().float().cpu().numpy()
            found[f"{block}.{number}.weight"] = np.ascontiguousarray(weight)
            found[f"{block}.{number}.bias"] = part.bias.detach().float().cpu().numpy().copy()
    return found


def train(
    y_NP: np.ndarray,
    held_MP: np.ndarray,
    settings: FlowSettings,
    *,
    seed: int = 0,
    state: Path | None = None,
    what: str = "flow",
    device: str = "auto",
    quiet: bool = True,
) -> Trained:
    """Fit a flow by maximum likelihood; keep the epoch that held-back rows find most likely.

    Parameters
    ----------
    y_NP, held_MP : ndarray, float32
        Coordinates that train, and that decide when to stop.
    settings : FlowSettings
    seed : int
        Of the first weights and of the batches.
    state : Path, optional
        File where training keeps what it takes to go on.
    what : str
        Shown with the progress.
    device : {"auto", "cpu", "cuda"}
    quiet : bool

    Raises
    ------
    DataError
        The likelihood was no number from the first epoch on.
    """
    # A small flow has no work for two threads: they would only wait for each other.
    alone = max(settings.hidden) <= _SMALL
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if alone else threads)
    try:
        return _train(y_NP, held_MP, settings, seed, state, what, device, quiet)
    finally:
        torch.set_num_threads(threads)


def _train(
    y_NP: np.ndarray, held_MP: np.ndarray, settings: FlowSettings, seed: int, state: Path | None,
    what: str, device: str, quiet: bool,
) -> Trained:  # fmt: skip
    place = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        maf = make_maf(y_NP.shape[1], settings).to(place)
    optimizer = torch.optim.Adam(maf.parameters(), lr=settings.lr)
    memory = _Memory(curve=[])
    kept = _copied(maf)
    if state is not None and state.is_file():
        memory, kept = _resume(state, maf, optimizer)
    y, held = torch.from_numpy(y_NP).to(place), torch.from_numpy(held_MP).to(place)
    saved = time.monotonic()
    with Progress(what, settings.epochs, done=memory.epoch, unit="epochs", quiet=quiet) as progress:
        while not memory.done:
            memory.epoch += 1
            mean = _epoch(maf, optimizer, y, settings, seed, memory.epoch)
            value = _mean_log_prob(maf, held, settings.batch)
            memory.curve.append((mean, value))
            finite = math.isfinite(mean) and math.isfinite(value)
            if finite and value > memory.best_value:
                memory.best, memory.best_value, kept = memory.epoch, value, _copied(maf)
            waited = memory.epoch - memory.best
            memory.done = (
                not finite or waited >= settings.patience or memory.epoch >= settings.epochs
            )
            due = memory.done or time.monotonic() - saved > _SAVE_SECONDS
            if state is not None and due:
                _save(state, maf, optimizer, memory, kept)
                saved = time.monotonic()
            progress.advance(
                1, f"held-back log-likelihood {value:.2f} (best {memory.best_value:.2f})"
            )
    if memory.best == 0:
        raise DataError(
            "the likelihood is no number from the first epoch on; lower the learning rate"
        )
    maf.load_state_dict(kept)
    return Trained(weights=weights_of(maf), curve=tuple(memory.curve), best=memory.best)


def _epoch(
    maf: Any, optimizer: torch.optim.Optimizer, y: torch.Tensor, settings: FlowSettings,
    seed: int, epoch: int,
) -> float:  # fmt: skip
    """One pass over the training rows; their mean log-density along the way."""
    order = np.random.default_rng([seed, 3, epoch]).permutation(len(y))
    total, seen = 0.0, 0
    for start in range(0, len(order), settings.batch):
        rows = torch.from_numpy(order[start : start + settings.batch]).to(y.device)
        loss = -maf().log_prob(y[rows]).mean()
        if not torch.isfinite(loss):
            return math.nan
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(maf.parameters(), settings.clip)
        if torch.isfinite(norm):
            optimizer.step()
        total -= float(loss.detach()) * len(rows)
        seen += len(rows)
    return total / seen


def _mean_log_prob(maf: Any, y: torch.Tensor, batch: int) -> float:
    with torch.inference_mode():
        parts = [maf().log_prob(part) for part in torch.split(y, max(batch, 1024))]
        return float(torch.cat(parts).double().mean())


def _copied(maf: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in maf.state_dict().items()}


def _save(
    path: Path, maf: Any, optimizer: torch.optim.Optimizer, memory: _Memory,
    kept: dict[str, torch.Tensor],
) -> None:  # fmt: skip
    tensors = {f"now/{name}": value for name, value in maf.state_dict().items()}
    tensors |= {f"kept/{name}": value for name, value in kept.items()}
    for number, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"adam/{number}/{name}": value for name, value in entry.items()}
    facts = json.dumps(vars(memory))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, save(whole, metadata={_FACTS: facts}))


def _resume(
    path: Path, maf: Any, optimizer: torch.optim.Optimizer
) -> tuple[_Memory, dict[str, torch.Tensor]]:
    tensors = load_file(path)
    with safetensors.safe_open(path, framework="pt") as stream:
        facts = json.loads(stream.metadata()[_FACTS])
    groups: dict[str, dict[str, torch.Tensor]] = {"now": {}, "kept": {}, "adam": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition("/")
        groups[kind][rest] = value
    maf.load_state_dict(groups["now"])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in groups["adam"].items():
        number, _, entry = name.partition("/")
        state.setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    facts["curve"] = [tuple(pair) for pair in facts["curve"]]
    return _Memory(**facts), groups["kept"]
