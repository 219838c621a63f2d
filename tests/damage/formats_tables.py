"""Tables of every format, joined as a catalogue; labels and recipes."""

# One case a line, however long.
# ruff: noqa: E501

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from .absurd_files import edit, fits_cards, no_file, whole
from .bombs import gzip_bomb
from .case import Absurd, Format, command, function, ingested, used
from .formats_images import plane

__all__ = ["FORMATS"]

_ROWS = 6


def _columns() -> dict[str, list[object]]:
    return {
        "id": [f"g{n}" for n in range(_ROWS)],
        "ra": [10 + n / 10 for n in range(_ROWS)],
        "dec": [float(n) for n in range(_ROWS)],
        "z": [n / 7 for n in range(_ROWS)],
        "number": [587722981733826738 + n for n in range(_ROWS)],
        "kind": ["ab"[n % 2] for n in range(_ROWS)],
    }


def _csv() -> bytes:
    made = _columns()
    lines = [",".join(made), *(",".join(map(str, row)) for row in zip(*made.values(), strict=True))]
    return ("\n".join(lines) + "\n").encode()


def _parquet(table: pa.Table | None = None) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(_columns()) if table is None else table, buffer)
    return buffer.getvalue()


def _astropy(form: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    made = Table(_columns())
    made["ra"].unit = "deg"
    made.write(buffer, format=form, **how)
    return buffer.getvalue()


def _text(form: str) -> bytes:
    out = io.StringIO()
    Table(_columns()).write(out, format=form)
    return out.getvalue().encode()


def _sextractor() -> bytes:
    names = list(_columns())
    heads = [f"#{at:4d} {name.upper()} a column [deg]" for at, name in enumerate(names, start=1)]
    rows = [" ".join(map(str, row)) for row in zip(*_columns().values(), strict=True)]
    return ("\n".join([*heads, *rows]) + "\n").encode()


def _long_parquet(values: pa.Array, rows: int) -> Callable[[], bytes]:
    """A column that says one thing very often, packed to next to nothing."""

    def make() -> bytes:
        buffer = io.BytesIO()
        schema = pa.schema([("id", values.type)])
        with pq.ParquetWriter(buffer, schema, compression="zstd", compression_level=1) as writer:
            block = pa.table({"id": pa.repeat(values[0], 1 << 12)})
            group = pa.concat_tables([block] * (rows >> 14))
            for _ in range(4):
                writer.write_table(group, row_group_size=1 << 30)
        return buffer.getvalue()

    return make


_PARQUET = (
    edit("cat.parquet", "a footer of 2 GB", lambda d: d[:-8] + b"\xff\xff\xff\x7fPAR1"),
    edit("cat.parquet", "a footer of -1", lambda d: d[:-8] + b"\xff\xff\xff\xffPAR1"),
    edit("cat.parquet", "no footer", lambda d: d[:-8] + b"\0\0\0\0PAR1"),
    edit("cat.parquet", "an encrypted footer", lambda d: d[:-4] + b"PARE"),
    whole("cat.parquet", "10^8 equal numbers", _long_parquet(pa.array([7]), 10**8)),
    whole("cat.parquet", "3 x 10^5 texts of 100 kB", _long_parquet(pa.array(["x" * 100_000]), 3 * 10**5)),
    whole("cat.parquet", "nested columns",
          lambda: _parquet(pa.table({"id": ["g0"], "s": [{"a": [{"b": 1}]}], "m": [[[1]]]}))),
    whole("cat.parquet", "units in YAML that makes objects",
          lambda: _parquet(pa.table(_columns()).replace_schema_metadata(
              {"table_meta_yaml": "datatype: [!!python/object/apply:os.system ['true']]"}))),
    whole("cat.parquet", "units in YAML that doubles",
          lambda: _parquet(pa.table(_columns()).replace_schema_metadata({"table_meta_yaml": _LAUGHS}))),
    whole("cat.parquet", "units in YAML of another kind",
          lambda: _parquet(pa.table(_columns()).replace_schema_metadata({"table_meta_yaml": "7"}))),
    whole("cat.parquet", "a column of nothing", lambda: _parquet(pa.table({"id": pa.nulls(3)}))),
    whole("cat.parquet", "5000 columns",
          lambda: _parquet(pa.table({f"c{n}": [1] for n in range(5000)}))),
)  # fmt: skip
_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{one}: &{one} [{','.join(['*' + before] * 9)}]" for before, one in zip("abcdefghi", "bcdefghij", strict=True)
)  # fmt: skip
_TABLE_CARDS = (
    ("NAXIS1", "1099511627776"), ("NAXIS1", "0"), ("NAXIS1", "1"), ("NAXIS1", "-4"), ("NAXIS2", "1099511627776"),
    ("NAXIS2", "0"), ("NAXIS2", "-1"), ("NAXIS2", "1000000000"), ("NAXIS", "999"), ("NAXIS", "1"), ("PCOUNT", "1099511627776"),
    ("PCOUNT", "-1"), ("GCOUNT", "0"), ("TFIELDS", "999"), ("TFIELDS", "0"), ("TFIELDS", "-1"), ("TFORM1", "'999999999A'"),
    ("TFORM2", "'Z       '"), ("TFORM2", "'1PD(999999999)'"), ("TFORM2", "'1QD(9)'"), ("TFORM2", "'0D      '"), ("TFORM2", "'3X      '"),
    ("TFORM2", "'1M      '"), ("TFORM2", "7"), ("TTYPE2", "'id      '"), ("TTYPE2", "''"), ("TTYPE2", "7"), ("TSCAL5", "NaN"),
    ("TZERO5", "1E400"), ("TZERO5", "9223372036854775808"), ("TNULL5", "'x'"), ("TDIM2", "'(999999,999999)'"), ("TDIM1", "'(2,2,2)'"),
    ("TDISP2", "'Z99.99'"), ("TUNIT2", "'bogus//unit**'"), ("THEAP", "-1"), ("THEAP", "99999999"), ("XTENSION", "'TABLE   '"), ("BITPIX", "16"),
)  # fmt: skip


def _vot(what: str, old: str, new: str) -> Absurd:
    return edit("cat.vot", what, lambda d: d.decode().replace(old, new, 1).encode())


_ENTITIES = (
    '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa">'
    + "".join(
        f'<!ENTITY {one} "{f"&{before};" * 10}">'
        for before, one in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "]>"
)
_VOT = (
    edit("cat.vot", "entities that double", lambda d: d.replace(b"<VOTABLE", _ENTITIES.encode() + b"<VOTABLE", 1).replace(b"<TABLE", b"<DESCRIPTION>&i;</DESCRIPTION><TABLE", 1)),
    edit("cat.vot", "an entity of /etc/passwd", lambda d: d.replace(b"<VOTABLE", b'<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><VOTABLE', 1).replace(b"<TABLE", b"<DESCRIPTION>&x;</DESCRIPTION><TABLE", 1)),
    edit("cat.vot", "100 000 elements in each other", lambda d: d.replace(b"<TABLE", b"<RESOURCE>" * 100_000 + b"<TABLE", 1)),
    edit("cat.vot", "a cell of 10 MB", lambda d: d.replace(b"<TD>", b"<TD>" + b"9" * 10**7, 1)),
    edit("cat.vot", "a stream on the net", lambda d: d.replace(b"<BINARY2>", b'<BINARY2><STREAM href="http://example.com/x" encoding="base64"/>', 1)),
    edit("cat.vot", "a stream in /etc/passwd", lambda d: d.replace(b"encoding='base64'", b"href='file:///etc/passwd'", 1).replace(b'encoding="base64"', b'href="file:///etc/passwd"', 1)),
    *(
        _vot(f"datatype {one}", 'datatype="double"', f'datatype="{one}"')
        for one in ("bogus", "bit", "floatComplex", "unicodeChar", "short", "boolean", "")
    ),
    *(
        _vot(f"arraysize {one}", 'datatype="double"', f'datatype="double" arraysize="{one}"')
        for one in ("999999999999", "-1", "*", "4x*", "1000000x1000000", "x", "1e9", "0")
    ),
    *(
        _vot(f"arraysize {one} of text", 'arraysize="', f'arraysize="{one}" width="')
        for one in ("999999999", "2147483647*", "-5")
    ),
    _vot("nrows", "<TABLE", '<TABLE nrows="1000000000000"'),
    _vot("nrows of text", "<TABLE", '<TABLE nrows="x"'),
    _vot("unit", 'unit="deg"', 'unit="bogus//**"'),
    _vot("a reference to itself", "<TABLE", '<TABLE ref="t" ID="t"'),
    _vot("version", "version=", 'version="99" x='),
    _vot("encoding", "utf-8", "utf-99"),
    _vot("encoding UTF-16", "utf-8", "utf-16"),
    _vot("null value", "<FIELD", '<FIELD ID="q" name="q" datatype="int"><VALUES null="x"/></FIELD><FIELD'),
)  # fmt: skip
_ECSV = (
    *(
        edit("cat.ecsv", what, lambda d, old=old, new=new: d.decode().replace(old, new, 1).encode())
        for what, old, new in (
            ("a call in YAML", "# datatype:", "# x: !!python/object/apply:os.system ['true']\n# datatype:"),
            ("no datatype", "# datatype:", "# type:"),
            ("datatype object", "datatype: float64", "datatype: object"),
            ("datatype float999", "datatype: float64", "datatype: float999"),
            ("datatype text", "datatype: float64", "datatype: string"),
            ("subtype", "datatype: float64", "datatype: string, subtype: 'float64[999999999]'"),
            ("subtype json", "datatype: float64", "datatype: string, subtype: json"),
            ("mixin", "# schema:", "# meta: !!omap\n# - __serialized_columns__:\n#     ra:\n#       __class__: os.system\n# schema:"),
            ("mixin of astropy", "# schema:", "# meta: !!omap\n# - __serialized_columns__:\n#     ra:\n#       __class__: astropy.table.table.Table\n#       a: b\n# schema:"),
            ("delimiter", "%ECSV 1.0\n", "%ECSV 1.0\n# delimiter: 'xx'\n"),
            ("version", "%ECSV 1.0", "%ECSV x"),
        )
    ),
    edit("cat.ecsv", "YAML that doubles", lambda d: d.replace(b"# datatype:", b"".join(b"# " + line.encode() + b"\n" for line in _LAUGHS.split("\n")) + b"# datatype:", 1)),
    edit("cat.ecsv", "10 000 lists in each other", lambda d: d.replace(b"# datatype:", b"# x: " + b"[" * 10_000 + b"\n# datatype:", 1)),
)  # fmt: skip
_CSV = (
    edit("cat.csv", "10^5 columns", lambda d: b"id," * 1 + b",".join(b"c%d" % n for n in range(20_000)) + b"\n"),
    edit("cat.csv", "a cell of 100 kB", lambda d: d.replace(b"g0", b"g" * 100_000, 1)),
    edit("cat.csv", "a quote that does not end", lambda d: d.replace(b"g0", b'"g0', 1)),
    edit("cat.csv", "NUL", lambda d: d.replace(b"g", b"\0")),
    edit("cat.csv", "UTF-16", lambda d: d.decode().encode("utf-16")),
    edit("cat.csv", "no UTF-8", lambda d: d.replace(b"a", b"\xff\xfe")),
    edit("cat.csv", "one column", lambda d: b"id\n" + b"g0\n" * 3),
    edit("cat.csv", "only names", lambda d: d.split(b"\n")[0] + b"\n"),
    edit("cat.csv", "only a comment", lambda d: b"# " + d.split(b"\n")[0]),
    edit("cat.csv", "a million comments", lambda d: b"#\n" * 10**6 + d),
    edit("cat.csv", "line breaks of a Mac", lambda d: d.replace(b"\n", b"\r")),
    edit("cat.csv", "infinity", lambda d: d.replace(b"10.1", b"inf")),
    edit("cat.csv", "a huge number", lambda d: d.replace(b"587722981733826738", b"9" * 400)),
    edit("cat.csv", "a name of 1 MB", lambda d: d.replace(b"kind", b"k" * 10**6, 1)),
    edit("cat.csv", "a name with a line break", lambda d: d.replace(b"kind", b'"ki\nnd"', 1)),
)  # fmt: skip


def _format(
    name: str, suffix: str, make: Callable[[], bytes], absurd: tuple[Absurd, ...] = ()
) -> Format:
    def fill(folder: Path) -> None:
        np.save(folder / "in.npy", np.stack([plane(n) for n in range(_ROWS)]))
        import h5py

        with h5py.File(folder / "in.h5", "w") as file:
            file["images"] = np.load(folder / "in.npy")
            file["id"] = _columns()["id"]
        (folder / "in.npy").unlink()
        (folder / f"cat{suffix}").write_bytes(make())

    file = f"cat{suffix}"
    return Format(
        name=name,
        make=fill,
        run=command("ingest", "in.h5", "--catalog", file, "--quiet", "--out", "out"),
        judge=ingested(of=_ROWS),
        targets=(file,),
        absurd=(*absurd, *no_file(file)),
    )


def _bombs(file: str, head: Callable[[], bytes]) -> tuple[Absurd, ...]:
    return (
        whole(file, "4 GB of zeros", lambda: gzip_bomb(4000)),
        whole(file, "a table, 4 GB of zeros", lambda: gzip_bomb(4000, head())),
    )


def _labels(work: Path) -> object:
    from skytwin.answers.labels import read_labels

    return read_labels(work / "labels.csv")


def _recipe(work: Path) -> object:
    from skytwin.encoders.recipe import read_recipe

    return read_recipe(work / "recipe.toml")


def _packed_recipe(folder: Path) -> None:
    from skytwin.encoders.recipe import bundled_recipes

    (folder / "recipe.toml").write_bytes(bundled_recipes()["rgz-simclr"].read_bytes())


_RECIPES = tuple(
    whole("recipe.toml", what, lambda text=text: text.encode())
    for what, text in (
        ("10 000 lists", "a = " + "[" * 10_000), ("10 000 tables", "a = " + "{b = " * 10_000),
        ("a name of 10 000 parts", ".".join("a" * 10_000) + " = 1"), ("a number of 10^6 digits", "epochs = " + "9" * 10**6),
        ("nan", 'method = "simclr"\nema = nan'), ("infinity", 'method = "simclr"\n[optimizer]\nlr = inf'),
        ("beyond 64 bits", f'method = "simclr"\nepochs = {2**80}'), ("a time", 'method = "simclr"\nepochs = 1979-05-27'),
        ("a list for a number", 'method = "simclr"\nepochs = [1]'), ("a table for a number", 'method = "simclr"\n[epochs]\na = 1'),
        ("a number for a table", 'method = "simclr"\ninput = 7'), ("a number for a method", "method = 7"), ("NUL", "\0"),
        ("no UTF-8 sign", "\ufeff"), ("a table twice", "[input]\n[input]"), ("nothing", ""),
    )
)  # fmt: skip

FORMATS: tuple[Format, ...] = (
    _format("csv", ".csv", _csv, _CSV),
    _format("csv-gz", ".csv.gz", lambda: gzip.compress(_csv(), mtime=0), _bombs("cat.csv.gz", _csv)),
    _format("text", ".dat", lambda: _text("ascii.commented_header")),
    _format("sextractor", ".cat", _sextractor),
    _format("fits-table", ".fits", lambda: _astropy("fits"), fits_cards("cat.fits", _TABLE_CARDS)),
    _format(
        "fits-table-gz", ".fits.gz", lambda: gzip.compress(_astropy("fits"), mtime=0),
        _bombs("cat.fits.gz", lambda: _astropy("fits")),
    ),
    *(
        _format(f"votable-{how}", ".vot", lambda how=how: _astropy("votable", tabledata_format=how), _VOT)
        for how in ("tabledata", "binary", "binary2")
    ),
    _format("ecsv", ".ecsv", lambda: _text("ascii.ecsv"), _ECSV),
    _format("parquet", ".parquet", _parquet, _PARQUET),
    Format(
        name="labels", run=function(_labels), judge=used, targets=("labels.csv",), command=False,
        make=lambda folder: (folder / "labels.csv").write_text(
            "id,label\n" + "".join(f"g{n},{('yes', 'no', 'unsure', '')[n % 4]}\n" for n in range(12))
        ),
        absurd=no_file("labels.csv"),
    ),
    Format(
        name="recipe", run=function(_recipe), judge=used, targets=("recipe.toml",), command=False,
        make=_packed_recipe, absurd=_RECIPES + no_file("recipe.toml"),
    ),
)  # fmt: skip
