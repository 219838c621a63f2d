"""Tables of every format against what astropy, pandas-free Python and the writer know of them."""

from __future__ import annotations

import gzip
import string
import tracemalloc
from pathlib import Path

import astropy.units as u
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytwin.errors import DataError, UnknownName, UsageError
from skytwin.images import packed
from skytwin.images.catalog import join
from skytwin.images.columns import HEADERLESS
from skytwin.images.tables import read_table, table_stem


def text(folder: Path, content: str, name: str = "t.csv") -> pa.Table:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return read_table(path)


# --- text ---------------------------------------------------------------------------------


def test_csv_keeps_every_digit_of_an_identifier(tmp_path: Path) -> None:
    table = text(
        tmp_path,
        "objid,spec,zero,huge,date,hms,z\n"
        "1237648720693755918,12345678901234567890,0042,99999999999999999999999,"
        "2020-01-02,12:34:56,0.1\n"
        "587722953303916935,1,43,1,2021-01-02,00:00:01,\n",
    )
    assert table["objid"].type == pa.int64()
    assert table["objid"].to_pylist() == [1237648720693755918, 587722953303916935]
    assert table["spec"].to_pylist() == [12345678901234567890, 1]
    assert table["zero"].to_pylist() == ["0042", "43"]
    assert table["huge"].to_pylist() == ["99999999999999999999999", "1"]
    assert table["date"].to_pylist() == ["2020-01-02", "2021-01-02"]
    assert table["hms"].to_pylist() == ["12:34:56", "00:00:01"]
    assert table["z"].to_pylist() == [0.1, None]


def test_large_floats_stay_numbers(tmp_path: Path) -> None:
    table = text(tmp_path, "m\n1.5e17\n2.5\n")
    assert table["m"].type == pa.float64()


@pytest.mark.parametrize(
    ("content", "name", "columns"),
    [
        ("ra,dec\n1.5,2.5\n", "t.csv", ["ra", "dec"]),
        ("\ufeffra,dec\n1.5,2.5\n", "t.csv", ["ra", "dec"]),
        ("ra;dec\n1.5;2.5\n", "t.csv", ["ra", "dec"]),
        ('"ra" , "dec"\r\n1.5,2.5\r\n', "t.csv", ["ra", "dec"]),
        ("#Table1\nra,dec\n1.5,2.5\n", "t.csv", ["ra", "dec"]),
        ("# made by hand\n#ra,dec\n1.5,2.5\n", "t.csv", ["ra", "dec"]),
        ("ra\tdec\n1.5\t2.5\n", "t.tsv", ["ra", "dec"]),
        ("ra,dec\n1.5,2.5\n", "t.txt", ["ra", "dec"]),
        ("ra   dec\n 1.5   2.5\n", "t.txt", ["ra", "dec"]),
        ("# ra dec\n1.5 2.5\n", "t.dat", ["ra", "dec"]),
        ("1.5,2.5\n", "t.csv", ["col1", "col2"]),
        ("\n1.5 2.5\n", "t.dat", ["col1", "col2"]),
        ("# a comment of four words\n1.5 2.5\n", "t.dat", ["col1", "col2"]),
        (",dec\n1.5,2.5\n", "t.csv", ["col1", "dec"]),
    ],
)
def test_text_finds_its_names(tmp_path: Path, content: str, name: str, columns: list[str]) -> None:
    table = text(tmp_path, content, name)
    assert table.column_names == columns
    assert [table[c].to_pylist() for c in columns] == [[1.5], [2.5]]
    headerless = HEADERLESS in (table.schema.metadata or {})
    assert headerless == (columns == ["col1", "col2"])


def test_commented_names_above_rows_that_hold_text(tmp_path: Path) -> None:
    table = text(tmp_path, "#name,ra\nJ12,1.5\nJ13,2.5\n")
    assert table.to_pylist() == [{"name": "J12", "ra": 1.5}, {"name": "J13", "ra": 2.5}]


def test_a_type_that_changes_late_in_a_large_file(tmp_path: Path) -> None:
    # Arrow settles types on the first megabyte unless it is stopped from doing so.
    rows = ["7,x"] * 400_000
    rows[-1] = "1.5,y"
    table = text(tmp_path, "a,b\n" + "\n".join(rows) + "\n")
    assert table["a"].type == pa.float64()
    assert table["a"][-1].as_py() == 1.5


def test_blank_cells_and_words_for_nothing_are_null(tmp_path: Path) -> None:
    table = text(tmp_path, "a,b,c\n1,NaN,\nnull,2.5,\n--,N/A,\n")
    assert table.to_pydict() == {"a": [1, None, None], "b": [None, 2.5, None], "c": [None] * 3}
    assert table["c"].type == pa.string()


def test_text_with_line_breaks_commas_and_old_encodings(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes('id,note\n1,"a, b\nc"\n2,caf\u00e9\n'.encode("latin-1"))
    assert read_table(path)["note"].to_pylist() == ["a, b\nc", "café"]


def test_gzipped_text(tmp_path: Path) -> None:
    path = tmp_path / "T.CSV.GZ"
    path.write_bytes(gzip.compress(b"id,z\n1,0.5\n"))
    assert read_table(path).to_pylist() == [{"id": 1, "z": 0.5}]


names = st.lists(
    st.text(string.ascii_lowercase, min_size=1, max_size=8).map(lambda s: "c_" + s),
    min_size=1,
    max_size=4,
    unique=True,
)
cells = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
    st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3),
    st.lists(
        st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
        min_size=3,
        max_size=3,
    ),
    st.lists(
        st.text(string.ascii_letters + string.digits + " _+-,;\"'é", min_size=1, max_size=12)
        .map(lambda s: "J" + s.strip()),
        min_size=3,
        max_size=3,
    ),
)  # fmt: skip


def _kind(values: list[object]) -> type | None:
    # Left alone, NumPy makes floats of large integers.
    if not isinstance(values[0], int):
        return None
    return np.uint64 if max(values) > 2**63 - 1 else np.int64


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_what_astropy_writes_reads_back(tmp_path: Path, data: st.DataObject) -> None:
    chosen = data.draw(names)
    columns = {name: data.draw(cells) for name in chosen}
    written = Table({name: Column(values, dtype=_kind(values)) for name, values in columns.items()})
    ending = data.draw(st.sampled_from([".csv", ".fits", ".vot", ".ecsv", ".parquet"]))
    mixed = any(isinstance(v, int) and v > 2**63 - 1 for c in columns.values() for v in c)
    if ending == ".vot" and mixed:
        return  # VOTable has no unsigned 64-bit integers
    if ending == ".fits" and not all(str(v).isascii() for c in columns.values() for v in c):
        return  # nor FITS accents
    path = tmp_path / f"t{ending}"
    kind = {".csv": "ascii.csv", ".vot": "votable", ".ecsv": "ascii.ecsv"}.get(ending)
    written.write(path, format=kind, overwrite=True)
    back = read_table(path)
    assert back.column_names == chosen
    for name, values in columns.items():
        got = back[name].to_pylist()
        assert got == values or [float(v) for v in got] == [float(v) for v in values]
        if isinstance(values[0], int):
            assert all(isinstance(v, int) for v in got)


# --- astropy's formats --------------------------------------------------------------------


def test_fits_table_with_everything(tmp_path: Path) -> None:
    table = Table(
        {
            "ID": np.array([587722953303916935, 2, 3]),
            "NAME": np.array([b"NGC 1  ", b"", b"M31"]),
            "FLUX": MaskedColumn([1.5, 2.5, np.nan], unit="mJy"),
            "COUNT": MaskedColumn([1, 2, 3], mask=[False, True, False], dtype=np.int32),
            "MAGS": np.arange(6, dtype=np.float32).reshape(3, 2),
            "CUBE": np.zeros((3, 2, 2)),
            "Z": np.array([1 + 1j, 2, 3]),
            "OK": np.array([True, False, True]),
        }
    )
    hdu = fits.table_to_hdu(table)
    hdu.header["TUCD3"] = "phot.flux"
    hdu.header["TCOMM3"] = "flux at 1.4 GHz"
    path = tmp_path / "t.fits.gz"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2))), hdu]).writeto(path)
    back = read_table(path)
    assert back["ID"].to_pylist() == [587722953303916935, 2, 3]
    assert back["NAME"].to_pylist() == ["NGC 1", None, "M31"]
    assert back["FLUX"].to_pylist() == [1.5, 2.5, None]
    assert back["COUNT"].to_pylist() == [1, None, 3]
    assert back["MAGS"].to_pylist() == [[0, 1], [2, 3], [4, 5]]
    assert back["OK"].to_pylist() == [True, False, True]
    assert back.schema.field("FLUX").metadata == {
        b"unit": b"mJy",
        b"ucd": b"phot.flux",
        b"description": b"flux at 1.4 GHz",
    }
    assert back.schema.metadata[b"dropped"] == b"CUBE, Z"


def test_votable_keeps_units_and_ucds(tmp_path: Path) -> None:
    path = tmp_path / "t.xml"
    path.write_text(
        """<?xml version="1.0"?>
        <VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>
        <TABLE><FIELD name="empty" datatype="int"/><DATA><TABLEDATA/></DATA></TABLE>
        <TABLE><FIELD ID="col_1" name="ra j" datatype="double" unit="deg" ucd="pos.eq.ra;meta.main">
        <DESCRIPTION>Right ascension</DESCRIPTION></FIELD>
        <FIELD name="who" datatype="char" arraysize="*"/>
        <FIELD name="n" datatype="int"><VALUES null="-1"/></FIELD>
        <DATA><TABLEDATA><TR><TD>1.5</TD><TD>a b</TD><TD>-1</TD></TR>
        <TR><TD>2.5</TD><TD></TD><TD>4</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""
    )
    back = read_table(path)
    assert back.to_pydict() == {"ra j": [1.5, 2.5], "who": ["a b", None], "n": [None, 4]}
    assert back.schema.field("ra j").metadata == {
        b"unit": b"deg",
        b"ucd": b"pos.eq.ra;meta.main",
        b"description": b"Right ascension",
    }


def test_ecsv_takes_mixins_apart(tmp_path: Path) -> None:
    sky = SkyCoord(l=[10, 20], b=[5, -5], unit="deg", frame="galactic")
    table = QTable({"pos": sky, "t": Time([50000, 50001], format="mjd"), "f": [1, 2] * u.Jy})
    table["f"].info.description = "flux"
    table.write(tmp_path / "t.ecsv")
    back = read_table(tmp_path / "t.ecsv")
    assert np.allclose(back["ra"].to_numpy(), sky.icrs.ra.deg, atol=1e-10)
    assert np.allclose(back["dec"].to_numpy(), sky.icrs.dec.deg, atol=1e-10)
    assert back["t"].to_pylist() == ["1995-10-10T00:00:00.000", "1995-10-11T00:00:00.000"]
    assert back.schema.field("f").metadata == {b"unit": b"Jy", b"description": b"flux"}
    assert back.schema.field("ra").metadata == {b"unit": b"deg"}


def test_parquet_plain_and_by_astropy(tmp_path: Path) -> None:
    plain = pa.table(
        {
            "class": pa.array(["a", "b", "a"]).dictionary_encode(),
            "none": pa.nulls(3),
            "id": pa.array([1, 2, None], pa.uint64()),
        }
    )
    folder = tmp_path / "key=value"  # Arrow would make a column of it
    folder.mkdir()
    pq.write_table(plain, folder / "t.parquet")
    back = read_table(folder / "t.parquet")
    assert back.column_names == ["class", "none", "id"]
    assert back["class"].type == pa.string()
    assert back["none"].type == pa.string()
    assert back.to_pydict() == plain.to_pydict()

    table = Table({"flux": Column([1.0, 2.0], unit="mJy", description="peak")})
    table.write(tmp_path / "a.parquet")
    back = read_table(tmp_path / "a.parquet")
    assert back.schema.field("flux").metadata == {b"unit": b"mJy", b"description": b"peak"}


def test_sextractor_catalogues(tmp_path: Path) -> None:
    head = "#   1 NUMBER   Running number\n#   2 X_IMAGE   Position along x   [pixel]\n"
    back = text(tmp_path, head + "   1   10.5\n   2   20.5\n", "t.cat")
    assert back.to_pydict() == {"NUMBER": [1, 2], "X_IMAGE": [10.5, 20.5]}
    assert back.schema.field("X_IMAGE").metadata[b"unit"] == b"pix"
    assert text(tmp_path, head + "   1   10.5\n", "t.dat").column_names == ["NUMBER", "X_IMAGE"]

    ldac = fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.BinTableHDU(Table({"Field Header Card": ["x"]}), name="LDAC_IMHEAD"),
            fits.BinTableHDU(Table({"NUMBER": [1, 2]}), name="LDAC_OBJECTS"),
        ]
    )
    ldac.writeto(tmp_path / "l.cat")
    assert read_table(tmp_path / "l.cat").to_pydict() == {"NUMBER": [1, 2]}


# --- refused ------------------------------------------------------------------------------


def test_unknown_ending_lists_the_accepted(tmp_path: Path) -> None:
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(UnknownName, match=r"'t\.xlsx'.*\.csv.*\.vot.*\.parquet"):
        read_table(tmp_path / "t.xlsx")
    with pytest.raises(UnknownName):
        read_table(tmp_path / "t.parquet.gz")


def test_missing_file() -> None:
    with pytest.raises(UsageError, match="no file"):
        read_table(Path("nowhere.csv"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "0 bytes"),
        ("\n\n", "no rows"),
        ("# only a comment\n", "no rows"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n3\n", "Expected 2 columns"),
        ("a,a\n1,2\n", "two columns named 'a'"),
        ("a, a\n1,2\n", "two columns named 'a'"),
    ],
)
def test_text_that_is_no_table(tmp_path: Path, content: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        text(tmp_path, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "ending", [".fits", ".vot", ".ecsv", ".parquet", ".cat", ".csv.gz", ".dat"]
)
@pytest.mark.parametrize("damage", [b"\x00\x01nonsense\xff\n" * 30, b"SIMPLE  =", b"<VOTABLE>"])
def test_damaged_files_are_one_line(tmp_path: Path, ending: str, damage: bytes) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(damage)
    if ending == ".dat":
        path.write_bytes(b"a b\n1 2\n3\n")
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert f"t{ending}" in str(caught.value)


def test_truncated_fits_table(tmp_path: Path) -> None:
    path = tmp_path / "t.fits"
    Table({"a": np.arange(5000)}).write(path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError):
        read_table(path)


def test_fits_without_a_table_and_with_twin_columns(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "i.fits")
    with pytest.raises(DataError, match="holds no table"):
        read_table(tmp_path / "i.fits")
    Table({"a": [1], "b": [2]}).write(tmp_path / "d.fits")
    content = (tmp_path / "d.fits").read_bytes()
    (tmp_path / "d.fits").write_bytes(content.replace(b"TTYPE2  = 'b", b"TTYPE2  = 'a"))
    with pytest.raises(DataError, match="two columns named 'a'"):
        read_table(tmp_path / "d.fits")


def test_stems() -> None:
    for name in ("galaxies.csv", "galaxies.csv.gz", "galaxies.fits.bz2", "galaxies.fits.fz"):
        assert table_stem(Path("a") / name) == "galaxies"


@pytest.mark.real
def test_real_tables(data_dir: Path) -> None:
    gz1 = read_table(data_dir / "gz1" / "catalogue.csv")
    assert gz1.num_rows == 3380
    first = (data_dir / "gz1" / "catalogue.csv").read_text().splitlines()[1].split(",")[0]
    assert str(gz1["objid"][0].as_py()) == first
    assert read_table(data_dir / "mirabest" / "catalogue.csv").num_rows == 1256
    spitzer = read_table(data_dir / "fields" / "spitzer_example_catalog.xml")
    assert spitzer.schema.field("f4_5").metadata == {b"unit": b"mJy"}
    frame = read_table(data_dir / "sdss_frames" / "galaxies.csv")
    assert frame.column_names == ["col1", "col2"]
    assert frame["col1"][0].as_py() == 804.2374495963381


# --- what a table claims --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        (".vot", b"<TABLE>", b'<TABLE nrows="1000000000000">'),
        (".ecsv", b"datatype: float64", b"datatype: string, subtype: 'float64[999999999]'"),
        (".fits", b"NAXIS2  =                    3", b"NAXIS2  =         100000000000"),
        (".fits", b"TFORM1  = 'D       '", b"TFORM1  = '999999999A'"),
    ],
)
def test_no_room_is_made_for_what_is_not_there(
    tmp_path: Path, ending: str, old: bytes, new: bytes
) -> None:
    path = tmp_path / f"t{ending}"
    form = {".vot": "votable", ".ecsv": "ascii.ecsv", ".fits": "fits"}[ending]
    Table({"z": [0.1, 0.2, 0.3]}).write(path, format=form)
    whole = path.read_bytes()
    assert whole.count(old) == 1
    path.write_bytes(whole.replace(old.ljust(len(new)) if ending == ".fits" else old, new))
    tracemalloc.start()
    with pytest.raises(DataError, match="damaged"):
        read_table(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("ending", [".csv.gz", ".fits.gz", ".vot.gz", ".ecsv.gz"])
def test_a_packed_table_of_gigabytes_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "FREE", 1 << 20)
    path = tmp_path / f"t{ending}"
    path.write_bytes(gzip.compress(bytes(1 << 24)))
    with pytest.raises(DataError, match="100 times its size"):
        read_table(path)


@pytest.mark.parametrize("value", [7, "x" * 1000])
def test_a_parquet_of_one_value_a_million_times_is_refused(
    tmp_path: Path, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "FREE", 1 << 20)
    path = tmp_path / "t.parquet"
    count = 1 << 20
    block = pa.table({"id": pa.repeat(value, 1 << 16)})
    with pq.ParquetWriter(path, block.schema) as writer:
        writer.write_table(pa.concat_tables([block] * (count >> 16)), row_group_size=count)
    with pytest.raises(DataError, match="100 times its size"):
        read_table(path)


def test_a_position_of_lists_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": ["a", "q"], "ra": [[1.0], [2.0]], "dec": [0.0, 1.0]}), path)
    joined = join(["a"], read_table(path))
    assert joined.unmatched_rows.to_pylist() == [{"id": "q", "ra": None, "dec": "1"}]
