"""VOTables, as two validators see them: astropy's and Debian's STILTS."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from astropy.io import votable

from skytwin.answers.export import write_table
from skytwin.answers.export_votable import votable_bytes
from skytwin.answers.search import search
from skytwin.images import arrow
from toys import labelled


def some_tables() -> dict[str, tuple[pa.Table, dict[str, str]]]:
    """What verbs write, and what catalogues bring along."""
    matches = search(labelled(), ["s3", "s9"], k=9)
    odd = pa.Table.from_arrays(
        [pa.array([1.0, None])] * 4
        + [pa.array([[1.0, 2.0], [3.0]]), pa.array([[1, 2], [3, 4]]), pa.array(["é 星", None])],
        schema=pa.schema(
            [
                arrow.field("ra", pa.float64(), unit="deg"),
                arrow.field("dec", pa.float64()),
                arrow.field("old", pa.float64(), ucd="not a ucd; 9", description="odd"),
                arrow.field("ICRS", pa.float64()),
                pa.field("list", pa.list_(pa.float64())),
                pa.field("pair", pa.list_(pa.int64())),
                pa.field("CoordRefFrame", pa.string()),
            ]
        ),
    )
    times = pa.Table.from_arrays(
        [pa.array(["2026-01-02T03:04:05Z", "2026-01-02T03:04:06.5Z"]), pa.array([1.0, 2.0])],
        schema=pa.schema(
            [arrow.field("fetched", pa.string(), ucd="time.processing"), ("x", pa.float64())]
        ),
    )
    many = pa.concat_tables([labelled(400).catalog] * 30)
    return {
        "matches": (matches.table, matches.describe()),
        "odd": (odd, {"references": "a < b & c"}),
        "times": (times, {}),
        "binary": (many, {}),
        "empty": (matches.table.slice(0, 0), {}),
    }


@pytest.mark.parametrize("name", ["matches", "odd", "times", "binary", "empty"])
def test_both_validators_find_nothing_to_say(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.vot"
    table, meta = some_tables()[name]
    write_table(table, path, meta)
    report = io.StringIO()
    assert votable.validate(path, report), report.getvalue()
    if shutil.which("stilts") is None:
        pytest.skip("install STILTS (Debian: stilts) to have votlint check the file as well")
    lint = subprocess.run(
        ["stilts", "votlint", "ucd=true", "unit=true", str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [line for line in (lint.stdout + lint.stderr).splitlines() if line.strip()]
    assert (lint.returncode, said) == (0, [])


def test_positions_refer_to_their_frame_and_times_to_their_clock() -> None:
    tables = some_tables()
    parsed = {
        name: votable.parse(io.BytesIO(votable_bytes(*tables[name])), verify="exception")
        for name in ("matches", "odd", "times")
    }
    resource = parsed["matches"].resources[0]
    (frame,) = resource.coordinate_systems
    (group,) = resource.tables[0].groups
    assert group.utype == "stc:CatalogEntryLocation"
    param, *refs = group.entries
    assert (param.value, param.utype) == (
        "ICRS", "stc:AstroCoordSystem.SpaceFrame.CoordRefFrame",
    )  # fmt: skip
    assert [(ref.ref, ref.utype[-2:]) for ref in refs] == [("ra", "C1"), ("dec", "C2")]
    assert [field.ref for field in resource.tables[0].fields[2:4]] == [frame.ID] * 2
    assert not resource.time_systems

    resource = parsed["odd"].resources[0]
    (frame,) = resource.coordinate_systems
    ra, dec, old, *_ = resource.tables[0].fields
    assert (ra.ucd, dec.ucd) == ("pos.eq.ra;meta.main", "pos.eq.dec;meta.main")
    assert (str(dec.unit), ra.ref, frame.ID) == ("deg", "ICRS_", "ICRS_")
    assert (old.ucd, old.description) == (None, "odd (UCD: not a ucd; 9)")

    resource = parsed["times"].resources[0]
    (clock,) = resource.time_systems
    assert (clock.timescale, clock.refposition) == ("UTC", "TOPOCENTER")
    fetched = resource.tables[0].fields[0]
    assert (fetched.ref, fetched.xtype) == (clock.ID, "timestamp")


def test_a_column_called_ra_in_other_units_is_left_as_it_is() -> None:
    table = pa.Table.from_arrays(
        [pa.array([1.0]), pa.array([2.0])],
        schema=pa.schema(
            [
                arrow.field("ra", pa.float64(), unit="rad"),
                arrow.field("dec", pa.float64(), ucd="phot.mag"),
            ]
        ),
    )
    document = votable.parse(io.BytesIO(votable_bytes(table, {})), verify="exception")
    assert [field.ucd for field in document.get_first_table().fields] == [None, "phot.mag"]
    assert not document.resources[0].coordinate_systems


def test_no_row_is_written_behind_its_memory() -> None:
    """One whose text fills astropy's memory for it to the last byte was, by its quicker writer."""
    code = (
        "import pyarrow as pa\n"
        "from skytwin.answers.export_votable import votable_bytes\n"
        "for width in range(1, 256):\n"
        "    votable_bytes(pa.table({'id': ['a' * width]}), {})\n"
    )
    told = {**os.environ, "PYTHONMALLOC": "debug"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=told, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr[:600]
