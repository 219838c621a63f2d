"""What ``skytwin map`` saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skytwin.answers.export import write_table
from skytwin.answers.maps import Map
from skytwin.answers.maps_place import MAP, Placement, stored, write_model
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError, unknown
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display, parse_display
from skytwin.report_files import check_targets, draw_pictures, save_each, written
from skytwin.run import Run, result_folder

__all__ = ["Look", "check", "save_map", "save_placement"]

_DENSITY = "density"
_MOST_THUMBNAILS = 60


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the pictures of a map show.

    Attributes
    ----------
    color : sequence of str
        Catalogue columns, a picture each; ``density`` beside them.
    thumbnails : int
        Pictures across the map of images; 0: none.
    cutouts : Path or None
        Where the cutouts are, if they were moved.
    display : str or None
    """

    color: Sequence[str] = field(default=())
    thumbnails: int = 0
    cutouts: Path | None = None
    display: str | None = None


def check(
    embeddings: Embeddings, look: Look, out: Path | None, save: Sequence[Path]
) -> Cutouts | None:
    """Refuse what could not be drawn or written; open the cutouts that thumbnails need."""
    check_targets(out, save)
    for name in _columns(look):
        if name not in embeddings.catalog.column_names:
            raise unknown("column", name, [*embeddings.catalog.column_names, _DENSITY])
    if look.thumbnails and not 2 <= look.thumbnails <= _MOST_THUMBNAILS:
        raise UsageError(
            f"--thumbnails {look.thumbnails}; expected 2 to {_MOST_THUMBNAILS}, or 0 for none"
        )
    _display(look)
    return embeddings.cutouts(look.cutouts) if look.thumbnails else None


def save_map(
    found: Map,
    embeddings: Embeddings,
    look: Look,
    cutouts: Cutouts | None,
    run: Run | None,
    save: Sequence[Path],
) -> str:
    """Write a result folder and single files; say what was written.

    A single picture is coloured by the first column asked for, else by density.
    """
    meta, columns = found.describe(), _columns(look)
    drawings = _drawings(found, embeddings, look, cutouts)
    save_each(save, lambda: next(iter(drawings.values()))(), found.table(columns), meta)
    if run is None:
        return written(save)
    where = run.folder
    write_table(found.table(columns), where / MAP, meta, overwrite=True)
    write_table(found.variance.table, where / "variance.csv", meta, overwrite=True)
    write_model(found, where)
    (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
    draw_pictures(where, drawings, meta)
    run.finish(stored(found)[1])
    return written([*save, where])


def save_placement(placed: Placement, out: Path | None, save: Sequence[Path]) -> str:
    """The same of objects placed on a map."""
    from skytwin.answers import figures_map  # matplotlib only when a picture is drawn

    found = placed.map
    meta = {**found.describe(), "skytwin": "placement"}
    save_each(save, lambda: figures_map.map_placed(placed), placed.table, meta)
    if out is None:
        return written(save)
    parent = placed.embeddings.as_parent()
    with result_folder(
        out,
        kind="placement",
        recipe=stored(found)[0],
        summary={"objects": len(placed), "map_objects": len(found)},
        inputs={"embedding": parent.path},
        parents={"embeddings": parent, "map_embeddings": found.origin.parent},
    ) as where:
        write_table(placed.table, where / "placed.csv", meta)
        write_table(placed.table, where / "placed.parquet", meta)
        (where / "report.txt").write_text(placed.summary + "\n", encoding="utf-8")
        draw_pictures(where, {"placed": lambda: figures_map.map_placed(placed)}, meta)
    return written([*save, out])


def _columns(look: Look) -> list[str]:
    return [name for name in dict.fromkeys(look.color) if name != _DENSITY]


def _drawings(
    found: Map, embeddings: Embeddings, look: Look, cutouts: Cutouts | None
) -> dict[str, Callable[[], Any]]:
    from skytwin.answers import figures_map  # matplotlib only when a picture is drawn

    def coloured(name: str) -> Callable[[], Any]:
        return lambda: figures_map.map_scatter(found, name)

    made: dict[str, Callable[[], Any]] = {
        f"map_{_file_name(name)}": coloured(name) for name in _columns(look)
    }
    made["map_density"] = lambda: figures_map.map_density(found)
    if cutouts is not None:
        made["map_images"] = lambda: figures_map.image_map(
            found,
            cutouts,
            side=look.thumbnails,
            display=_display(look),
            crop=_encoded(embeddings),
        )
    return made


def _display(look: Look) -> Display | None:
    return parse_display(look.display) if look.display is not None else None


def _file_name(column: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in column)


def _encoded(embeddings: Embeddings) -> int | None:
    """How many central pixels the encoder was given, where that is known."""
    recipe = embeddings.manifest.recipe if embeddings.manifest else {}
    found: int | None = recipe.get("encoder", {}).get("prepare", {}).get("crop")
    return found
