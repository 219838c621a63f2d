"""Columns that come to the catalogue when serving begins: labels of a file, scores of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.answers.labels import UNSURE, YES, read_labels
from skytwin.artefact import Manifest
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch

__all__ = ["LABEL", "added", "with_labels", "with_outliers"]

LABEL, _ODD = "label_given", "odd_"


def with_labels(embeddings: Embeddings, path: Path) -> Embeddings:
    """The same with the answers of a file of labels, `LABEL`: yes, no, or empty.

    Raises
    ------
    Mismatch
        The file is of other objects; and as `read_labels`.
    """
    answers = read_labels(path).of([str(name) for name in embeddings.ids])
    if (answers == UNSURE).all():
        raise Mismatch(f"{path}: none of its ids with an answer is in this embedding")
    values = [None if answer == UNSURE else bool(answer == YES) for answer in answers]
    return _with(embeddings, {LABEL: pa.array(values, pa.bool_())})


def with_outliers(embeddings: Embeddings, folder: Path) -> Embeddings:
    """The same with the percentiles of ``skytwin outliers``, ``odd_...``: 1 is the oddest.

    Raises
    ------
    Mismatch
        The folder is of other objects.
    """
    Manifest.open(folder, "outliers")
    table = pq.read_table(folder / "outliers.parquet")
    places = {str(name): place for place, name in enumerate(table["id"].to_pylist())}
    at = np.array([places.get(str(name), -1) for name in embeddings.ids])
    if (at < 0).all():
        raise Mismatch(f"{str(folder)!r}: none of its objects is in this embedding")
    take = pa.array(np.where(at < 0, 0, at), mask=at < 0)
    names = [name for name in table.column_names if name.endswith("_percentile")]
    columns = {
        f"{_ODD}{name.removesuffix('_percentile')}": table[name].take(take) for name in names
    }
    return _with(embeddings, columns)


def added(embeddings: Embeddings) -> list[str]:
    """The columns that came here."""
    return [n for n in embeddings.catalog.column_names if n == LABEL or n.startswith(_ODD)]


def _with(embeddings: Embeddings, columns: dict[str, pa.Array | pa.ChunkedArray]) -> Embeddings:
    catalog = embeddings.catalog
    for name, values in columns.items():
        if name in catalog.column_names:  # what was asked for now comes before what was there
            catalog = catalog.drop_columns([name])
        catalog = catalog.append_column(name, values)
    return Embeddings(
        embeddings.vectors,
        catalog,
        embeddings.statistics,
        folder=embeddings.folder,
        manifest=embeddings.manifest,
    )
