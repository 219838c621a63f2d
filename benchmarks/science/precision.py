"""What bfloat16 does to the neighbours of real images, as a Markdown table.

    SKYTWIN_DATA=/data/skytwin python benchmarks/science/precision.py FOLDER

Embeds Galaxy Zoo 1 (SDSS JPEGs) with MobileNetV2 in float32 and in bfloat16, the whole frame
without an orbit and the central 64 pixels with one. *Recall*: the share of an object's nearest 25,
and 1000, in float32 that are among them in bfloat16; mean over 300 random queries, with its 95 %
interval. *Purity*: of the nearest 100 of one edge-on galaxy, mean over the edge-on galaxies among
the queries.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from query_algebra import images

import skytwin

QUERIES = 300
SETTINGS = {
    "whole frame, no orbit": {"orbit": "none"},
    "central 64 pixels, d4": {"crop": 64, "orbit": "d4"},
}


def neighbours(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Rows of the k nearest by standardised cosine, shape (Q, k), the object itself left out."""
    z = (vectors - vectors.mean(axis=0)) / np.maximum(vectors.std(axis=0), 1e-12)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    likeness = z[queries] @ z.T
    likeness[np.arange(len(queries)), queries] = -np.inf
    return np.argsort(-likeness, axis=1, kind="stable")[:, :k]


def mean_of(values: np.ndarray) -> str:
    """With its 95 % interval."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.4f} ± {half:.4f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    cutouts = skytwin.Cutouts(images(folder))
    data = Path(os.environ["SKYTWIN_DATA"])
    weights = data / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
    queries = np.random.default_rng(0).choice(len(cutouts), QUERIES, replace=False)
    edge_on = np.array(cutouts.catalog["morphology"].to_pylist()) == "EdgeOn"
    print(
        "| setting | recall@25 | recall@1000 | purity, f32 | purity, bf16 |\n|---|---|---|---|---|"
    )
    for name, how in SETTINGS.items():
        near = {}
        for precision in ("f32", "bf16"):
            out = folder / f"{how['orbit']}-{precision}"
            if not (out / "manifest.json").exists():
                skytwin.embed(
                    cutouts,
                    "timm:mobilenetv2_100",
                    out,
                    weights=weights,
                    precision=precision,
                    **how,  # type: ignore[arg-type]
                )
            vectors = np.asarray(skytwin.open(out).vectors[:], dtype=np.float64)  # type: ignore[union-attr]
            near[precision] = neighbours(vectors, queries, 1000)
        exact, rough = near["f32"], near["bf16"]
        recall = {
            k: np.array([np.isin(a[:k], b[:k]).mean() for a, b in zip(exact, rough, strict=True)])
            for k in (25, 1000)
        }
        mine = edge_on[queries]
        pure = [mean_of(edge_on[found[mine, :100]].mean(axis=1)) for found in (exact, rough)]
        print(f"| {name} | {mean_of(recall[25])} | {mean_of(recall[1000])} | {' | '.join(pure)} |")
    print(
        f"\nEdge-on: {edge_on.mean():.3f} of {len(cutouts)}; {edge_on[queries].sum()} as queries."
    )


if __name__ == "__main__":
    main()
