"""Cutouts and embeddings that a study needs: made once, kept under a name that tells what they are.

The name of a folder ends in a digest of all that shapes its content, so that what was asked
otherwise lies elsewhere and nothing is taken for what it is not. A run that was killed goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from skytwin.answers.resume import Steps
from skytwin.artefact import MANIFEST, Manifest, Parent, canonical
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.files import hash_file
from skytwin.images.cutouts import Cutouts
from skytwin.run import Run
from skytwin.verbs import ingest
from skytwin.verbs_embed import embed

__all__ = ["embedded", "ingested", "is_cutouts", "kept_steps", "source_digest", "stage"]


def stage(home: Path, name: str, asked: Mapping[str, Any]) -> Path:
    """The folder of an artefact, by its name and all that shapes it."""
    return home / f"{name}-{hashlib.sha256(canonical(dict(asked)).encode()).hexdigest()[:10]}"


@contextlib.contextmanager
def kept_steps(
    home: Path, name: str, settings: Mapping[str, Any], parents: Mapping[str, Parent]
) -> Iterator[Steps]:
    """Steps of a section that takes long, kept for the next time it is written."""
    told = {"settings": settings, **{key: one.fingerprint for key, one in parents.items()}}
    # Never finished: what is kept there is read again where the section is written again.
    with Run(
        stage(home, name, told), kind=name, recipe=settings, inputs={}, parents=parents
    ) as run:
        yield Steps(run)


def source_digest(path: Path | None) -> str | None:
    """What is in a file, or which files are in a folder and since when."""
    if path is None:
        return None
    if path.is_file():
        return hash_file(path)
    if not path.is_dir():
        raise UsageError(f"no file or folder {str(path)!r}")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        stat = file.stat()
        digest.update(f"{file.relative_to(path)}\n{stat.st_size}\n{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def is_cutouts(path: Path) -> bool:
    """Whether a folder is one that ``skytwin ingest`` or ``skytwin simulate`` wrote."""
    return (path / MANIFEST).is_file() and Manifest.open(path).kind == "cutouts"


def ingested(
    home: Path,
    name: str,
    source: Path | list[Path],
    *,
    catalog: Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Cutouts:
    """Cutouts of images, made once; a folder of cutouts as it is."""
    if isinstance(source, Path) and is_cutouts(source):
        if catalog is not None:
            raise UsageError(
                f"{str(source)!r} holds cutouts, which have their catalogue; leave out "
                f"{str(catalog)!r}"
            )
        return Cutouts(source)
    sources = [source] if isinstance(source, Path) else source
    asked = {
        "sources": [source_digest(path) for path in sources],
        "catalog": source_digest(catalog),
        "positions": [source_digest(path) for path in settings.get("positions", ())],
        "settings": {k: str(v) for k, v in settings.items()},
    }
    folder = stage(home, name, asked)
    if (folder / MANIFEST).is_file():
        return Cutouts(folder)
    given = str(sources[0]) if len(sources) == 1 else [str(p) for p in sources]
    return ingest(given, folder, catalog=catalog, quiet=quiet, **settings)


def embedded(
    home: Path,
    name: str,
    cutouts: Cutouts,
    encoder: str | Path,
    *,
    weights: Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Embeddings:
    """Cutouts as vectors, made once."""
    asked = {
        "cutouts": cutouts.manifest.fingerprint,
        "encoder": Manifest.open(encoder).fingerprint if isinstance(encoder, Path) else encoder,
        "weights": hash_file(weights) if weights is not None else None,
        "settings": settings,
    }
    folder = stage(home, name, asked)
    if (folder / MANIFEST).is_file():
        return Embeddings.open(folder)
    return embed(cutouts, encoder, folder, weights=weights, quiet=quiet, **settings)
