"""What the tutorial runs on: Galaxy Zoo 1's cutouts, where ``SKYTWIN_DATA`` says they are.

Without them the page shows its commands and not what they say.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import page

ROOT = Path(__file__).resolve().parents[2]
#: Made once, in three minutes; with ``SKYTWIN_MADE`` where the tests on real data share it.
BUILD = Path(os.environ.get("SKYTWIN_MADE") or ROOT / "build" / "galaxy-zoo")
FIRST = 5


def classes() -> dict[str, str]:
    """Galaxy Zoo's class of every object, by id; empty without the data."""
    folder = os.environ.get("SKYTWIN_DATA")
    if not folder:
        return {}
    with (Path(folder) / "gz1" / "catalogue.csv").open(newline="") as stream:
        return {row["objid"]: row["morphology"] for row in csv.DictReader(stream)}


def references(kind: str) -> str:
    """The first five of a class, as options."""
    names = [name for name, known in classes().items() if known == kind] or ["ID"] * FIRST
    return " ".join(f"--like {name}" for name in names[:FIRST])


def prepare() -> None:
    """Link ``gz1-emb`` and ``gz1`` into the folder the page works in."""
    if not classes():
        return
    sys.path.insert(0, str(ROOT / "benchmarks" / "science"))
    from query_algebra import embedding

    BUILD.mkdir(parents=True, exist_ok=True)
    made = embedding(BUILD, "small").folder
    for link, target in (("gz1-emb", made), ("gz1", BUILD / "gz1.cutouts")):
        if not Path(link).exists() and target is not None:
            Path(link).symlink_to(target, target_is_directory=True)


def console(text: str, *, lines: int = 30) -> str:
    """As `page.console`, or the commands alone where there are no data."""
    if classes():
        return page.console(text, lines=lines)
    commands = [f"$ {line}" for line in text.strip().splitlines()]
    return "\n".join(["```console", *commands, "```", ""])


def picture(path: str, alt: str) -> str:
    """As `page.picture`, or nothing where there are no data."""
    return page.picture(path, alt) if classes() else ""


def answer(to_label: str, labels: str, kind: str) -> None:
    """Play the astronomer: fill in a list as Galaxy Zoo's volunteers did, after earlier rounds."""
    known = classes()
    if not known:
        return
    with Path(to_label).open(newline="") as stream:
        names = [row["id"] for row in csv.DictReader(stream)]
    new = not Path(labels).exists()
    with Path(labels).open("a", newline="") as stream:
        out = csv.writer(stream)
        if new:
            out.writerow(["id", "label"])
        out.writerows([name, "yes" if known[name] == kind else "no"] for name in names)
