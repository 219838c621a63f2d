"""FRI or FRII from frozen vectors: how far crops, scales, encoders and classifiers together come.

    SKYTWIN_DATA=... python benchmarks/science/class_goals.py FOLDER  # 3/4 hour

Embeds MiraBest (confident) and FR-DEEP NVSS with ImageNet MobileNetV2 through several crops,
through one whose size follows the source's, and with ``skytwin:radio``, each averaged over the
eight flips and turns; each as it is and whitened. Representations are put side by side greedily,
whichever helps most in cross-validation of the training rows alone; so are the kernel and its
constants. Prints what was best at each size, how many choices were tried, what nested
cross-validation says of the whole procedure, and, once, the official test rows. Killed and repeated
it embeds no more.

A linear machine on vectors side by side needs only the sum of their products, so these are made
once for every fold; means, deviations and covariances come from that fold's own training rows.
"""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

import skytwin
from skytwin.answers.export import write_table
from skytwin.answers.intervals import Proportion
from skytwin.embeddings.table import Embeddings
from skytwin.images.cutouts import Cutouts
from skytwin.images.folds import grouped_folds
from skytwin.images.groups import sky_groups

SETS = {
    "mirabest": ("mirabest", "confident", ("48", "64", "96", "128", "150")),
    "frdeep": ("frdeep-nvss", None, ("24", "32", "48", "64", "96")),
}
#: Sides of the frame that is cut around a source, over its radius.
SIZED = (2.5, 4.0)
FOLDS, REPEATS, MOST = 10, 3, 3


@dataclass(frozen=True, order=True)
class Machine:
    """A kernel machine: ``linear`` and ``rbf`` support vectors, ``ridge`` least squares.

    ``cost`` for kernels of mean diagonal 1, ``width`` over the mean squared distance.
    """

    kind: str
    cost: float
    width: float = 0.0


MACHINES = (
    *(Machine("linear", cost) for cost in (0.1, 1.0, 10.0, 100.0)),
    *(Machine("ridge", cost) for cost in (0.1, 1.0, 10.0, 100.0)),
    *(Machine("rbf", c, w) for c, w in itertools.product((1.0, 10.0, 100.0), (0.1, 0.3, 1.0))),
)


def extent(image: np.ndarray) -> float:
    """How far from the middle a source reaches, pixels: 98 % of its light lie within."""
    side = len(image)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius, light = np.hypot(x, y).ravel(), image.astype(float).ravel()
    order = np.argsort(radius)
    total = np.cumsum(light[order])
    if total[-1] <= 0:
        return side / 4
    return float(radius[order][np.searchsorted(total, 0.98 * total[-1])])


def sized(cutouts: Cutouts, times: float, out: Path) -> Cutouts:
    """The same sources, each in a frame of so many times its own radius, 96 pixels across."""
    if (out / "manifest.json").exists():
        return Cutouts(out)
    folder = out.with_name(f"{out.name}.png")
    folder.mkdir(exist_ok=True)
    for name, frame in zip(cutouts.ids, cutouts.pixels(slice(None)), strict=True):
        image = np.asarray(frame[0])
        side = float(np.clip(times * extent(image), 12, len(image)))
        zoom, middle = 96 / side, (len(image) - 1) / 2
        turn = np.array([[zoom, 0, 47.5 - zoom * middle], [0, zoom, 47.5 - zoom * middle]])
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        cv2.imwrite(str(folder / f"{name}.png"), cv2.warpAffine(image, turn, (96, 96), flags=how))
    table = out.with_name(f"{out.name}.csv")
    table.unlink(missing_ok=True)
    write_table(cutouts.catalog, table, {})
    return skytwin.ingest(folder, out, catalog=table, bands=list(cutouts.bands))


def representations(folder: Path, data: str) -> dict[str, Embeddings]:
    """Every way to see the set, by its name; what is there is taken."""
    published, _, crops = SETS[data]
    home = folder / f"{data}.cutouts"
    if not (home / "manifest.json").exists():
        skytwin.ingest(published, home)
    cutouts = Cutouts(home)
    weights = Path(os.environ["SKYTWIN_DATA"]) / "weights/mobilenetv2_100.imagenet1k.safetensors"
    found: dict[str, Embeddings] = {}

    def seen(name: str, given: Cutouts, encoder: str, **how: object) -> None:
        place = folder / f"{data}-{name.replace(':', '-')}.emb"
        if not (place / "manifest.json").exists():
            skytwin.embed(given, encoder, place, orbit="d4", **how)
        found[name] = Embeddings.open(place)

    network = {"encoder": "timm:mobilenetv2_100", "weights": weights, "root": True}
    for crop in crops:
        seen(f"crop {crop}", cutouts, crop=crop, **network)
    for times in SIZED:
        own = sized(cutouts, times, folder / f"{data}-sized-{times:g}.cutouts")
        seen(f"sized {times:g}", own, **network)
    seen("radio", cutouts, "skytwin:radio", any_scale=True)
    return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """One division of some rows: T that train, then H that are held out.

    ``kernels``: (R, T + H, T), of each representation; ``squares``: (R, T + H), squared lengths;
    the representations as they are, then whitened;
    ``y``: (T,), whether a row is an FRII; ``held``: (H,), which rows those are.
    """

    kernels: np.ndarray
    squares: np.ndarray
    y: np.ndarray
    held: np.ndarray

    def outputs(self, chosen: Sequence[int], machine: Machine) -> np.ndarray:
        """Decision values of the held rows, by representations side by side."""
        k = self.kernels[list(chosen)].mean(axis=0)
        count = k.shape[1]
        if machine.kind == "rbf":
            own = self.squares[list(chosen)].mean(axis=0)
            apart = own[:, None] + own[None, :count] - 2 * k
            k = np.exp(-machine.width * apart / apart[:count].mean())
        if machine.kind == "ridge":
            sign = np.where(self.y, 1.0, -1.0)
            middle = sign.mean()
            weight = np.linalg.solve(k[:count] + np.eye(count) / machine.cost, sign - middle)
            return np.asarray(k[count:] @ weight + middle)
        made = SVC(C=machine.cost, kernel="precomputed").fit(k[:count], self.y)
        return np.asarray(made.decision_function(k[count:]))


def whitened_products(
    products: np.ndarray, squares: np.ndarray, shrinkage: float, variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Products with T trained rows, and squared lengths, after whitening by these rows' covariance.

    The covariance is shrunk towards its mean ``variance`` (Ledoit & Wolf 2004); its inverse between
    two vectors needs only their products (Woodbury). The mean square of a trained row becomes 1.
    """
    count = products.shape[1]
    scale = (1 - shrinkage) / (shrinkage * variance)
    inner = np.linalg.solve(np.eye(count) * count + scale * products[:count], products.T)
    mapped = products - scale * inner.T @ products[:count]
    lengths = squares - scale * np.vecdot(products, inner.T)
    unit = lengths[:count].mean()
    return mapped / unit, lengths / unit


def part(vectors: Sequence[np.ndarray], y: np.ndarray, train: np.ndarray, held: np.ndarray) -> Part:
    """Kernels of some rows; scaled by the trained ones alone, to a mean square of 1."""
    plain, whitened = [], []
    for x in vectors:
        mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
        z = (x[np.concatenate([train, held])] - mean) / np.where(spread > 0, spread, 1)
        z /= np.sqrt(z.shape[1])
        own = z[: len(train)]
        plain.append((z @ own.T, np.vecdot(z, z)))
        shrinkage = ledoit_wolf_shrinkage(own, assume_centered=True)
        whitened.append(whitened_products(*plain[-1], shrinkage, own.var()))
    kernels, squares = zip(*plain, *whitened, strict=True)
    return Part(kernels=np.array(kernels), squares=np.array(squares), y=y[train], held=held)


def parts(
    vectors: Sequence[np.ndarray], y: np.ndarray, group: np.ndarray, rows: np.ndarray, repeats: int
) -> list[Part]:
    """Divisions of some rows into those that train and those that are held out."""
    made = []
    for seed in range(repeats):
        fold = grouped_folds(group[rows], FOLDS, seed, stratify=y[rows].astype(str))
        made += [
            part(vectors, y, rows[fold != number], rows[fold == number]) for number in range(FOLDS)
        ]
    return made


@dataclass(frozen=True)
class Choice:
    """Representations and a machine, with the accuracy that cross-validation gives them."""

    accuracy: float
    chosen: tuple[int, ...]
    machine: Machine


def searched(divided: Sequence[Part], y: np.ndarray, count: int, most: int) -> Iterator[Choice]:
    """Everything that is tried: one representation more at a time, to the best so far."""
    best: tuple[int, ...] = ()
    for _ in range(most):
        here = []
        for extra in (r for r in range(count) if r not in best):
            for machine in MACHINES:
                chosen = (*best, extra)
                hits = [(each.outputs(chosen, machine) > 0) == y[each.held] for each in divided]
                here.append(Choice(float(np.concatenate(hits).mean()), chosen, machine))
                yield here[-1]
        best = max(here, key=lambda one: one.accuracy).chosen


def told(found: Choice, names: Sequence[str]) -> str:
    """A choice in words."""
    machine = found.machine
    width = f", width {machine.width:g}" if machine.width else ""
    seen = " + ".join(names[r] for r in found.chosen)
    return f"{seen} | {machine.kind}, {machine.cost:g}{width} | {found.accuracy:.3f}"


def study(folder: Path, data: str, seed: int) -> None:
    """Print the table of one set."""
    seen = representations(folder, data)
    first = next(iter(seen.values()))
    names = [*seen, *(f"{name} whitened" for name in seen)]
    catalog = first.catalog
    label = np.array(catalog["fr"].to_pylist(), dtype=object)
    usable = np.isin(label.astype(str), ("FRI", "FRII"))
    if SETS[data][1] is not None:
        usable &= np.array(catalog["confidence"].to_pylist()) == SETS[data][1]
    y = label == "FRII"
    side = np.array(catalog["split"].to_pylist())
    train, test = (np.flatnonzero(usable & (side == name)) for name in ("train", "test"))
    group = sky_groups(first.positions, 2.0, len(first))
    order = [str(name) for name in first.ids]
    vectors = []
    for each in seen.values():
        place = {str(name): row for row, name in enumerate(each.ids)}
        vectors.append(each.vectors[:][[place[name] for name in order]].astype(np.float64))
    tried = list(searched(parts(vectors, y, group, train, REPEATS), y, len(names), MOST))
    best = max(tried, key=lambda one: one.accuracy)
    print(f"\n### {data}: {len(train)} training rows, {len(test)} test rows\n")
    print(f"| representations | machine | accuracy, {REPEATS} x {FOLDS} folds |\n|---|---|---|")
    for size in range(1, MOST + 1):
        of = [one for one in tried if len(one.chosen) == size]
        print(f"| {told(max(of, key=lambda one: one.accuracy), names)} |")
    for number, name in enumerate(names):
        of = [one for one in tried if one.chosen == (number,)]
        print(f"| {name} alone: {told(max(of, key=lambda one: one.accuracy), names)} |")
    # The whole procedure, held against rows that no choice has seen.
    outer = grouped_folds(group[train], 5, seed, stratify=y[train].astype(str))
    hits = 0
    for number in range(5):
        inner, held = train[outer != number], train[outer == number]
        own = max(
            searched(parts(vectors, y, group, inner, 1), y, len(names), 2),
            key=lambda one: one.accuracy,
        )
        outputs = part(vectors, y, inner, held).outputs(own.chosen, own.machine)
        hits += int(((outputs > 0) == y[held]).sum())
    nested = Proportion.of(hits, len(train))
    print(
        f"\n{len(tried)} choices tried. Nested (5 folds, up to 2 side by side): {nested.value:.3f} "
        f"[{nested.lower:.3f}, {nested.upper:.3f}]."
    )
    outputs = part(vectors, y, train, test).outputs(best.chosen, best.machine)
    right = Proportion.of(int(((outputs > 0) == y[test]).sum()), len(test))
    area = roc_auc_score(y[test], outputs)
    rng = np.random.default_rng(seed)
    again = [rng.integers(len(test), size=len(test)) for _ in range(2000)]
    areas = [roc_auc_score(y[test][r], outputs[r]) for r in again if len(set(y[test][r])) == 2]
    lower, upper = np.quantile(areas, (0.025, 0.975))
    print(
        f"The test rows, once: {told(best, names)} in cross-validation; accuracy {right.value:.3f} "
        f"[{right.lower:.3f}, {right.upper:.3f}] ({right.hits} of {right.total}), "
        f"AUC {area:.3f} [{lower:.3f}, {upper:.3f}], base rate {y[test].mean():.3f}."
    )


def main() -> None:
    """Both sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        for data in given.sets:
            study(given.folder, data, given.seed)


if __name__ == "__main__":
    main()
