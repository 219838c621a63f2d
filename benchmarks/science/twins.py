"""How many planted copies are found, how many pairs are false, and how long it takes.

    python benchmarks/science/twins.py recall CUTOUTS     # any folder that skytwin ingest wrote
    python benchmarks/science/twins.py vectors            # 100 000 x 1280, neighbours and recall

*recall* takes 8-bit cutouts, adds a changed copy of 60 of them to each set, and looks for
the pairs in the pixels alone. A pair is false if neither of its images was planted; pairs that
the set holds already are counted there, too, so look at them. *vectors* makes clustered random
vectors and perturbs a copy of 1000 of them, by so much of each feature's scatter: *nearest* is
the share of copies whose nearest is their original, *found* that of pairs near enough to be
listed without images.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import skytwin
from skytwin.answers.leaks import find_twins
from skytwin.answers.leaks_vectors import nearest_vectors
from skytwin.embeddings.table import Embeddings
from skytwin.images.cutouts import Cutouts

PLANTED, CROP = 60, 4
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def central(image: np.ndarray, dy: int = 0, dx: int = 0) -> np.ndarray:
    """All but the outermost pixels, so that there is room for a shift."""
    _, height, width = image.shape
    return image[:, CROP + dy : height - CROP + dy, CROP + dx : width - CROP + dx]


def shifted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    dy, dx = 0, 0
    while dy == dx == 0:
        dy, dx = (int(move) for move in rng.integers(-3, 4, 2))
    return central(image, dy, dx)


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As much noise again as there is (median absolute deviation), 3 of 255 levels at least."""
    x = central(image).astype(float)
    scatter = 1.4826 * np.median(np.abs(x - np.median(x, axis=(1, 2), keepdims=True)))
    return np.clip(np.rint(x + rng.normal(0, max(scatter, 3.0), x.shape)), 0, 255)


def jpeg(image: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    plain = central(image).transpose(1, 2, 0)
    stream = io.BytesIO()
    Image.fromarray(plain[:, :, 0] if plain.shape[2] == 1 else plain).save(
        stream, "JPEG", quality=75
    )
    back = np.asarray(Image.open(stream))
    return back[None] if back.ndim == 2 else back.transpose(2, 0, 1)


CHANGES: dict[str, Change] = {
    "none": lambda image, _: central(image),
    "turned by 90": lambda image, _: np.rot90(central(image), 1, axes=(1, 2)),
    "mirrored": lambda image, _: central(image)[:, :, ::-1],
    "brightness x 0.7": lambda image, _: np.rint(central(image) * 0.7),
    "shifted 1-3 px": shifted,
    "JPEG, quality 75": jpeg,
    "noise added": noisy,
}


def recall(folder: Path, seed: int) -> None:
    cutouts = Cutouts(folder)
    if cutouts.dtype != np.uint8:
        raise SystemExit(f"cutouts of {cutouts.dtype}; this benchmark takes 8-bit ones")
    pixels = cutouts.pixels(slice(0, len(cutouts)))
    base = np.stack([central(image) for image in pixels])
    rng = np.random.default_rng(seed)
    print(f"{len(cutouts)} images of {folder.name}, {PLANTED} copies each")
    print("| copy | found | as | other pairs | threshold | s |")
    print("|---|---|---|---|---|---|")
    for name, change in CHANGES.items():
        rows = rng.choice(len(cutouts), PLANTED, replace=False)
        copies = np.stack([change(pixels[row], rng) for row in rows]).astype(np.uint8)
        with tempfile.TemporaryDirectory() as scratch:
            array = Path(scratch) / "images.npy"
            np.save(array, np.concatenate([base, copies]))
            made = skytwin.ingest(array, Path(scratch) / "cutouts", layout="NCHW", quiet=True)
            # Vectors that know nothing: what is found is found in the images.
            emb = Embeddings.from_arrays(
                np.random.default_rng(1).standard_normal((len(made), 8)), made.ids
            )
            start = time.monotonic()
            found = find_twins(emb, cutouts=made, quiet=True)
            took = time.monotonic() - start
        wanted = {(int(row), len(base) + place) for place, row in enumerate(rows)}
        kinds = {
            (int(a), int(b)): str(kind)
            for a, b, kind in zip(found.rows, found.others, found.kind, strict=True)
        }
        good = [kinds[pair] for pair in wanted if pair in kinds]
        other = sum(pair not in wanted and max(pair) < len(base) for pair in kinds)
        most = max(set(good), key=good.count) if good else ""
        print(
            f"| {name} | {len(good)} of {PLANTED} | {most} | {other} | {found.unturned:.4f} "
            f"| {took:.0f} |",
            flush=True,
        )


def vectors(count: int, dim: int, seed: int) -> None:
    """Clusters in 60 latent dimensions with a falling spectrum, as pooled features are."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((60, dim)).astype(np.float32)
    mixing *= (np.arange(1, 61) ** -0.5)[:, None].astype(np.float32)
    centres = rng.standard_normal((50, 60)).astype(np.float32)
    latent = centres[rng.integers(50, size=count)] + rng.standard_normal((count, 60), np.float32)
    x = latent @ mixing + 0.3 * rng.standard_normal((count, dim), np.float32)
    planted = 1000
    rows = rng.choice(count - planted, planted, replace=False)
    targets = np.arange(count - planted, count)
    print(f"{count} x {dim}, {planted} copies")
    print("| perturbation | nearest | found | others | s | s of CPU |")
    print("|---|---|---|---|---|---|")
    for part in (0.01, 0.1, 0.3):
        scale = part * x.std(axis=0)
        x[targets] = x[rows] + rng.standard_normal((planted, dim), np.float32) * scale
        emb = Embeddings.from_arrays(x, range(count))
        start, busy = time.monotonic(), time.process_time()
        found = find_twins(emb, quiet=True)
        took, busy = time.monotonic() - start, time.process_time() - busy
        pairs = set(zip(found.rows.tolist(), found.others.tolist(), strict=True))
        wanted = set(zip(rows.tolist(), targets.tolist(), strict=True))
        near = nearest_vectors(emb.vectors, emb.statistics, 1)
        best = np.mean(near.others[targets] == rows)
        print(
            f"| {part:g} | {best:.3f} | {len(pairs & wanted) / planted:.3f} "
            f"| {len(pairs - wanted)} | {took:.0f} | {busy:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["recall", "vectors"])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.what == "vectors":
        vectors(asked.count, asked.dim, asked.seed)
    elif asked.folder is None:
        parser.error("recall needs a folder of cutouts")
    else:
        recall(asked.folder, asked.seed)


if __name__ == "__main__":
    main()
