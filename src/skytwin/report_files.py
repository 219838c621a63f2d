"""Writing what a verb found: tables, pictures, and the check that their places are free."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from skytwin.answers.export import FORMATS, write_table
from skytwin.answers.query import Reference
from skytwin.artefact import Parent
from skytwin.embeddings.table import Embeddings
from skytwin.files import require_new
from skytwin.run import Run, require_free, result_folder

__all__ = [
    "PICTURES",
    "check_targets",
    "draw_pictures",
    "query_folder",
    "resumed",
    "save_each",
    "save_picture",
    "written",
]

PICTURES = (".png", ".pdf")


def check_targets(out: Path | None, save: Sequence[Path]) -> None:
    """Refuse what could not be written before anything is searched or written."""
    for path in save:
        require_new(path, (*FORMATS, *PICTURES))
    if out is not None:
        require_free(out)


def written(paths: Sequence[Path], blind: str | None = None, what: str = "a mosaic") -> str:
    """What to say of files, and of pictures that could not be drawn."""
    lines = [f"written: {', '.join(map(str, paths))}"] if paths else []
    return "\n".join(lines + ([f"  without {what}: {blind}"] if blind else []))


def query_folder(
    out: Path,
    kind: str,
    settings: Mapping[str, Any],
    references: Sequence[Reference],
    embeddings: Embeddings,
) -> AbstractContextManager[Path]:
    """The folder for what some references gave, with its manifest."""
    parent = embeddings.as_parent()
    return result_folder(
        out,
        kind=kind,
        recipe={**settings, "references": [r.told for r in references]},
        summary={"objects": len(embeddings)},
        inputs={"embedding": parent.path},
        parents={"embeddings": parent},
    )


@contextlib.contextmanager
def resumed(
    out: Path | None,
    kind: str,
    recipe: Mapping[str, Any],
    parents: Mapping[str, Parent],
    inputs: Mapping[str, Any] | None = None,
) -> Iterator[Run | None]:
    """The folder to write, locked, and gone on with where a killed run has left it.

    None without a folder. Where the parents lie is among the inputs.
    """
    if out is None:
        yield None
        return
    places = {name: parent.path for name, parent in parents.items()}
    with Run(
        out, kind=kind, recipe=recipe, inputs={**places, **(inputs or {})}, parents=parents
    ) as run:
        yield run


def draw_pictures(where: Path, drawings: Mapping[str, Any], meta: Mapping[str, str]) -> None:
    """Draw each, by name, as PNG and as PDF into a folder; over what a killed run left of them."""
    for name, draw in drawings.items():
        drawn = draw()
        for ending in PICTURES:
            save_picture(drawn, where / f"{name}{ending}", meta, overwrite=True)


def save_each(
    save: Sequence[Path], draw: Callable[[], Any], table: pa.Table, meta: Mapping[str, str]
) -> None:
    """Write single files: what is drawn where the name ends like a picture, else the table."""
    for path in save:
        if path.suffix.lower() in PICTURES:
            save_picture(draw(), path, meta)
        else:
            write_table(table, path, meta)


def save_picture(
    drawn: Any, path: Path, meta: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Write one drawing, with where it comes from."""
    from skytwin.answers import figures_style  # not all figures, with what they import

    figures_style.save(drawn, path, meta, overwrite=overwrite)
