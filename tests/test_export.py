"""Tables out: every type in every format, read back by astropy, pyarrow and the csv module."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import re
import subprocess
import sys
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytwin.answers import export_plain, export_text
from skytwin.answers.export import FORMATS, write_table
from skytwin.answers.export_fits import fits_parts
from skytwin.answers.export_votable import votable_bytes
from skytwin.errors import OutputExists, UnknownName, UsageError
from skytwin.images import arrow

META = {
    "skytwin": "matches",
    "references": ", ".join(f"5877229533039169{i:02d}" for i in range(40)),
    "where": "z < 0.2 and name = 'it''s é 星' & \"x\"",
    "include_self": "False",
    "include_all": "True",
    "date": "a reserved keyword",
}

# What each format can hold of text is in its module's docstring.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=12).map(
    lambda text: text.replace("￾", "").replace("￿", "").strip()
)
NUMBER = st.floats(width=64, allow_nan=True, allow_infinity=True)
CELLS: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): TEXT,
    pa.bool_(): st.booleans(),
    pa.int8(): st.integers(-(2**7), 2**7 - 1),
    pa.uint8(): st.integers(0, 2**8 - 1),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float32(): st.floats(width=32),
    pa.float64(): NUMBER,
    pa.list_(pa.float64()): st.lists(NUMBER, max_size=3),
    pa.list_(pa.int64()): st.lists(st.integers(-(2**62), 2**62), max_size=3),
    pa.list_(pa.float32(), 2): st.lists(st.floats(width=32), min_size=2, max_size=2),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(0, 5))
    kinds = draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=5))
    columns = {}
    for number, kind in enumerate(kinds):
        cell = CELLS[kind]
        if not pa.types.is_fixed_size_list(kind):
            cell = st.none() | cell
        columns[f"c{number}"] = pa.array(draw(st.lists(cell, min_size=rows, max_size=rows)), kind)
    return pa.table(columns)


def bare(value: Any) -> Any:
    """A cell in plain Python, None where it is missing, empty text included."""
    if value is None or value is np.ma.masked:
        return None
    if isinstance(value, np.ma.MaskedArray) and value.ndim:
        return [bare(part) for part in value]
    if isinstance(value, (np.ndarray, list)):
        return [bare(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode()
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    return value


def cells(values: Any) -> list[Any]:
    # No list and an empty list are one, too.
    return [None if bare(value) == [] else bare(value) for value in values]


def read(path: Path, ending: str) -> dict[str, list[Any]]:
    if ending == ".parquet":
        return {name: cells(column) for name, column in pq.read_table(path).to_pydict().items()}
    kind = {".vot": "votable", ".fits": "fits", ".ecsv": "ascii.ecsv"}[ending]
    table = Table.read(path, format=kind)
    return {name: cells(table[name]) for name in table.colnames}


@pytest.mark.parametrize("ending", [".vot", ".fits", ".ecsv", ".parquet"])
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=tables())
def test_what_is_written_reads_back(tmp_path: Path, ending: str, table: pa.Table) -> None:
    path = tmp_path / f"t{ending}"
    write_table(table, path, META, overwrite=True)
    back = read(path, ending)
    for name, column in table.to_pydict().items():
        assert back[name] == cells(column)


@settings(max_examples=30, deadline=None)
@given(table=tables())
def test_binary_votables_hold_what_readable_ones_do(table: pa.Table) -> None:
    read_back = [
        votable.parse(io.BytesIO(votable_bytes(table, META, readable_rows=rows)))
        .get_first_table()
        .to_table()
        for rows in (0, 10)
    ]
    for name in table.column_names:
        assert (
            cells(read_back[0][name]) == cells(read_back[1][name]) == cells(table[name].to_pylist())
        )


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=tables())
def test_csv_reads_back(tmp_path: Path, table: pa.Table) -> None:
    path = tmp_path / "t.csv"
    write_table(table, path, META, overwrite=True)
    with path.open(newline="", encoding="utf-8") as stream:
        names, *rows = csv.reader(stream, strict=True)
    assert names == table.column_names
    assert len(rows) == len(table)
    for got, want in zip(rows, table.to_pylist(), strict=True):
        for text, name in zip(got, names, strict=True):
            kind, value = table.schema.field(name).type, bare(want[name])
            if value is None or value == []:
                assert text in ("", "[]")
            elif pa.types.is_boolean(kind):
                assert text == str(value).lower()
            elif pa.types.is_integer(kind):
                assert text == str(value)
            elif pa.types.is_floating(kind):
                assert (np.float32 if kind == pa.float32() else float)(text) == value
            elif pa.types.is_string(kind):
                assert text == value
            else:
                assert json.loads(text) == value


@pytest.mark.parametrize("ending", FORMATS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(table=tables())
def test_in_parts_is_as_in_one_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, table: pa.Table
) -> None:
    written = []
    for rows in (100, 2):
        monkeypatch.setattr(export_plain, "_ROWS_AT_ONCE", rows)
        monkeypatch.setattr(export_text, "_ROWS_OF_ECSV", rows)
        write_table(table, tmp_path / f"t{ending}", META, overwrite=True)
        written.append((tmp_path / f"t{ending}").read_bytes())
        votable_rows = votable_bytes(table, META, readable_rows=0)
        written.append(votable_rows if ending == ".vot" else b"")
    assert written[:2] == written[2:]


@settings(max_examples=25, deadline=None)
@given(table=tables())
def test_binary_rows_are_those_that_astropy_writes(table: pa.Table) -> None:
    ours = votable_bytes(table, META, readable_rows=0)
    document = votable.parse(io.BytesIO(ours))
    element = document.get_first_table()
    for field in element.fields:
        if field.datatype in ("float", "double") and field.arraysize != "*":
            element.array.mask[field.ID] = False  # that NaN is missing is the reader's own thought
    stream = io.BytesIO()
    document.to_xml(stream, tabledata_format="binary2")
    found = [re.findall(rb"<STREAM.*?</STREAM>", text, re.S) for text in (ours, stream.getvalue())]
    assert len(found[0]) == (len(table) > 0)
    assert found[0] == found[1]


@settings(max_examples=25, deadline=None)
@given(table=tables())
def test_fits_files_are_those_that_astropy_writes(table: pa.Table) -> None:
    ours = b"".join(fits_parts(table, META))
    assert len(ours) % 2880 == 0
    stream = io.BytesIO()
    with fits.open(io.BytesIO(ours)) as hdus:
        hdus.verify("exception")
        data = hdus[1].data
        for name in data.names:
            data.field(name)[:]  # decoded, and so encoded again
        again = fits.BinTableHDU(data, hdus[1].header)
        fits.HDUList([fits.PrimaryHDU(), again]).writeto(stream)
    assert stream.getvalue() == ours


def everything() -> pa.Table:
    """Each type that needs care, with its unit and UCD where it would have one."""
    fields = {
        arrow.field("id", pa.string(), ucd="meta.id;meta.main"): ["a", "é 星 😀", None],
        arrow.field("ra", pa.float64(), unit="deg", ucd="pos.eq.ra;meta.main"): [1.5, 359.9, None],
        arrow.field("dec", pa.float64(), unit="deg", ucd="pos.eq.dec;meta.main"): [-1, 0, None],
        arrow.field("objid", pa.int64()): [587722953303916935, None, -(2**63)],
        arrow.field("peak", pa.float32(), unit="Jy/beam", description="peak flux"): [0.1, None, 3],
        arrow.field("good", pa.bool_()): [True, None, False],
    }
    return pa.Table.from_arrays(
        [pa.array(values, entry.type) for entry, values in fields.items()],
        schema=pa.schema(list(fields)),
    )


def test_votable_validates_and_says_what_the_columns_are(tmp_path: Path) -> None:
    path = tmp_path / "t.vot"
    write_table(everything(), path, META)
    report = io.StringIO()
    assert votable.validate(path, report), report.getvalue()
    document = votable.parse(path, verify="exception")
    assert document.version == "1.4"
    (resource,) = document.resources
    assert {info.name: info.value for info in resource.infos} == META
    fields = {field.name: field for field in document.get_first_table().fields}
    assert fields["ra"].ucd == "pos.eq.ra;meta.main"
    assert str(fields["ra"].unit) == "deg"
    assert str(fields["peak"].unit) == "Jy / beam"
    assert fields["peak"].description == "peak flux"
    assert fields["id"].datatype == "unicodeChar"
    (frame,) = resource.coordinate_systems
    assert (frame.system, fields["ra"].ref, fields["dec"].ref) == ("ICRS", frame.ID, frame.ID)
    assert fields["objid"].ref is None


def test_fits_says_what_the_columns_are_and_keeps_long_text(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    write_table(everything(), path, META)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        assert hdus[1].columns.names == everything().column_names
    assert (header["TUNIT2"], header["TUCD2"]) == ("deg", "pos.eq.ra;meta.main")
    assert (header["TUNIT5"], header["TCOMM5"]) == ("Jy/beam", "peak flux")
    assert header["REFERENC"] == META["references"]
    assert header.comments["REFERENC"] == "references"
    assert header["WHERE"].encode().decode("unicode_escape") == META["where"]
    assert (header["INCLUDE_"], header["INCLUD_2"]) == ("False", "True")
    assert header["DATE_2"] == META["date"]


def test_fits_is_read_by_cfitsio(tmp_path: Path) -> None:
    import fitsio

    path = tmp_path / "t.fits"
    table = everything().set_column(0, "id", pa.array(["a", "b", None]))
    write_table(table, path, {"note": "it's " * 40})
    rows, header = fitsio.read(path, ext=1, header=True)
    assert rows["objid"][0] == 587722953303916935
    assert rows["id"].tolist() == ["a", "b", ""]
    assert header["NOTE"].strip() == ("it's " * 40).strip()


def test_parquet_keeps_arrow_and_votable_metadata(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = everything()
    write_table(table, path, META)
    back = pq.read_table(path)
    assert back.equals(table)
    assert [field.metadata for field in back.schema] == [field.metadata for field in table.schema]
    assert {name: back.schema.metadata[name.encode()].decode() for name in META} == META
    # astropy's reader of Parquet knows no missing values.
    write_table(table.slice(0, 1), path, META, overwrite=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that text has no length which only astropy writes
        other = Table.read(path, format="parquet.votable")
    assert (str(other["ra"].unit), other["ra"].meta["ucd"]) == ("deg", "pos.eq.ra;meta.main")
    assert other["objid"][0] == 587722953303916935


def test_ecsv_keeps_units_ucds_and_meta(tmp_path: Path) -> None:
    path = tmp_path / "t.ecsv"
    write_table(everything(), path, META)
    back = Table.read(path, format="ascii.ecsv")
    assert dict(back.meta) == META
    assert (str(back["ra"].unit), back["ra"].meta["ucd"]) == ("deg", "pos.eq.ra;meta.main")
    assert back["peak"].description == "peak flux"


def test_csv_is_rfc_4180(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    table = pa.table(
        {
            "name": ['say "x"', "a,b", "two\nlines", "", None],
            "n": pa.array([1, None, 3, 4, 5]),
            "flag": [True, False, None, True, True],
        }
    )
    write_table(table, path, {})
    assert path.read_bytes() == (
        b'name,n,flag\r\n"say ""x""",1,true\r\n"a,b",,false\r\n"two\nlines",3,\r\n"",4,true\r\n'
        b",5,true\r\n"
    )


def test_a_lone_missing_value_is_a_line_of_csv(tmp_path: Path) -> None:
    write_table(pa.table({"x": pa.array([None, 2.0])}), tmp_path / "t.csv", {})
    assert (tmp_path / "t.csv").read_bytes() == b'x\r\n""\r\n2.0\r\n'


@pytest.mark.parametrize("ending", FORMATS)
def test_the_same_table_gives_the_same_bytes(tmp_path: Path, ending: str) -> None:
    for name in "ab":
        write_table(everything(), tmp_path / f"{name}{ending}", META)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_table_is_a_table(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    write_table(everything().slice(0, 0), path, META)
    assert path.stat().st_size > 0


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (pa.array([2**64 - 1, 1], pa.uint64()), ["18446744073709551615", "1"]),
        (pa.array([5, 1], pa.uint64()), [5, 1]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array([Decimal("1.5"), None]), [1.5, None]),
        (pa.array([dt.date(2026, 1, 2), None]), ["2026-01-02", None]),
        (
            pa.array([dt.datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("ns")),
            ["2026-01-02T03:04:05.000000000", None],
        ),
        (pa.array([b"\x01\xff", None]), ["01ff", None]),
        (pa.array([["a", "b"], None]), ['["a", "b"]', None]),
        (pa.array([{"x": 1}, None]), ['{"x": 1}', None]),
        (pa.array([[True, False], [True, True]]), [[1, 0], [1, 1]]),
        (pa.array([[1, None], [2]], pa.list_(pa.int32())), [[1.0, None], [2.0]]),
        (pa.array([None, None]), [None, None]),
        (pa.array([1.5, None], pa.float16()), [1.5, None]),
        (pa.array(["a\x00b", "c\r\nd"]), ["a�b", "c\nd"]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
@pytest.mark.parametrize("ending", [".vot", ".fits", ".ecsv"])
def test_what_only_arrow_knows_has_a_plain_form(
    tmp_path: Path, ending: str, values: pa.Array, written: list[Any]
) -> None:
    path = tmp_path / f"t{ending}"
    write_table(pa.table({"x": values}), path, {})
    assert read(path, ending)["x"] == written


def test_every_value_of_a_byte_leaves_room_for_a_missing_one(tmp_path: Path) -> None:
    values = [*range(256), None]
    write_table(pa.table({"x": pa.array(values, pa.uint8())}), tmp_path / "t.fits", {})
    assert read(tmp_path / "t.fits", ".fits")["x"] == values


def test_positions_made_elsewhere_are_tagged(tmp_path: Path) -> None:
    write_table(pa.table({"id": ["a"], "ra": [1.0], "dec": [2.0]}), tmp_path / "t.vot", {})
    table = votable.parse(tmp_path / "t.vot").get_first_table()
    assert [field.ucd for field in table.fields] == [
        "meta.id;meta.main", "pos.eq.ra;meta.main", "pos.eq.dec;meta.main",
    ]  # fmt: skip


def test_odd_column_names_and_units(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [pa.array([1.0])] * 5,
        schema=pa.schema(
            [
                arrow.field("flux µJy", pa.float64(), unit="µJy"),
                arrow.field("5σ", pa.float64(), unit="no such unit"),
                arrow.field("5?", pa.float64(), ucd="POS_EQ_RA_MAIN"),
                arrow.field("ICRS", pa.float64()),
                arrow.field("where", pa.float64()),
            ]
        ),
    )
    write_table(table, tmp_path / "t.vot", META)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = votable.parse(tmp_path / "t.vot").get_first_table()
    assert [field.name for field in back.fields] == table.column_names
    write_table(table, tmp_path / "t.fits", META)
    with fits.open(tmp_path / "t.fits") as hdus:
        names = hdus[1].columns.names
        assert (names[0], hdus[1].columns[0].unit) == ("flux Jy", "uJy")
    assert len({name.lower() for name in names}) == 5
    assert all(re.fullmatch(r"[ -~]+", name) for name in names)


def test_votable_columns_whose_names_make_the_same_identifier(tmp_path: Path) -> None:
    table = pa.table({"a b": [1], "a_b": [2], "a-b": [3], "ICRS": [4], "ra": [5.0]})
    write_table(table, tmp_path / "t.vot", {"a_b": "also"})
    elements = list(ET.parse(tmp_path / "t.vot").iter())
    named = [element.get("ID") for element in elements if element.get("ID")]
    assert len(set(named)) == len(named) >= 6
    (frame,) = [element.get("ID") for element in elements if element.tag.endswith("COOSYS")]
    assert [element.get("ref") for element in elements if element.get("name") == "ra"] == [frame]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        back = votable.parse(tmp_path / "t.vot").get_first_table().to_table(use_names_over_ids=True)
    assert back.colnames == table.column_names
    assert [int(back[name][0]) for name in back.colnames] == [1, 2, 3, 4, 5]


def test_bad_calls_write_nothing(tmp_path: Path) -> None:
    table = everything()
    with pytest.raises(UnknownName, match=r"unknown format '.xlsx'"):
        write_table(table, tmp_path / "t.xlsx", {})
    with pytest.raises(UsageError, match="no folder"):
        write_table(table, tmp_path / "none" / "t.csv", {})
    (tmp_path / "t.csv").write_text("mine")
    with pytest.raises(OutputExists, match=r"t\.csv' exists"):
        write_table(table, tmp_path / "t.csv", {})
    assert (tmp_path / "t.csv").read_text() == "mine"
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputExists):
        write_table(table, tmp_path / "folder.csv", {}, overwrite=True)
    write_table(table, tmp_path / "t.csv", {}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.csv", "t.csv"]


GROWTH = """
import re, sys, threading
import numpy as np, pyarrow as pa
from skytwin.answers.export import write_table

def own():
    with open("/proc/self/status") as file:
        return int(re.search(r"RssAnon:\\s+(\\d+)", file.read())[1]) / 1024

path, rows = sys.argv[1], int(sys.argv[2])
numbers = np.arange(rows)
table = pa.table({
    "id": pa.array([f"survey-{number}" for number in range(rows)]),
    "ra": numbers / rows * 360, "dec": numbers / rows, "distance": numbers / 7,
    "seen": numbers % 2 == 0, "count": pa.array(numbers, mask=numbers % 100 == 0),
})
write_table(table.slice(0, 20_000), path, {}, overwrite=True)  # what only the first writing takes
before, most, done = own(), 0, threading.Event()

def watch():
    global most
    while not done.wait(0.01):
        most = max(most, own())

watching = threading.Thread(target=watch)
watching.start()
write_table(table, path, {}, overwrite=True)
done.set()
watching.join()
print(most - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("ending", "rows"),
    [
        (".vot", 500_000),
        (".fits", 500_000),
        (".parquet", 500_000),
        (".csv", 500_000),
        (".ecsv", 100_000),
    ],
)
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, ending: str, rows: int) -> None:
    path = tmp_path / f"t{ending}"
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path), str(rows)],
        capture_output=True,
        text=True,
        check=True,
    )
    print(f"{ending}: {rows} rows, +{float(done.stdout):.0f} MB")
    # In one piece: 240 MB as VOTable, 190 as FITS, 100 as ECSV.
    assert float(done.stdout) < (70 if ending == ".ecsv" else 100)
    if ending == ".fits":
        assert fits.getheader(path, 1)["NAXIS2"] == rows
        assert fits.getdata(path, 1)["id"][-1] == f"survey-{rows - 1}"
