"""Columns by name, positions in degrees, joins: against astropy's angles and separations."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import Angle, SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from skytwin.errors import DataError, UnknownName, UsageError
from skytwin.images import arrow
from skytwin.images.catalog import (
    SkyColumns,
    SkyPositions,
    id_column,
    id_texts,
    join,
    nearest_on_sky,
    pixel_columns,
    sky_columns,
    sky_degrees,
)
from skytwin.images.columns import HEADERLESS


def sky(ra: list[float], dec: list[float]) -> SkyPositions:
    return SkyPositions(ra=np.array(ra, float), dec=np.array(dec, float))


def with_units(columns: dict[str, tuple[list[object], str]]) -> pa.Table:
    arrays = [pa.array(values) for values, _ in columns.values()]
    fields = [
        arrow.field(name, array.type, unit=unit)
        for (name, (_, unit)), array in zip(columns.items(), arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


# --- columns ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ra", "ID"], "ID"),
        (["name", "objID"], "objID"),
        (["class", "SOURCE_ID"], "SOURCE_ID"),
        (["index", "name"], "name"),
    ],
)
def test_id_column_by_name(names: list[str], expected: str) -> None:
    assert id_column(pa.table({name: [1] for name in names})) == expected


def test_id_column_named_or_missing() -> None:
    table = pa.table({"ident": ["a"], "z": [0.1]})
    assert id_column(table, "IDENT") == "ident"
    with pytest.raises(UnknownName, match="unknown column 'idnet'.*ident"):
        id_column(table, "idnet")
    with pytest.raises(UnknownName, match="ident, z.*--id-column"):
        id_column(table)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["RA", "Dec"], ("RA", "Dec", "icrs")),
        (["ra_deg", "dec_deg"], ("ra_deg", "dec_deg", "icrs")),
        (["_RAJ2000", "_DEJ2000"], ("_RAJ2000", "_DEJ2000", "icrs")),
        (["RAJ2000", "DEJ2000", "GLON", "GLAT"], ("RAJ2000", "DEJ2000", "icrs")),
        (["ALPHA_J2000", "DELTA_J2000"], ("ALPHA_J2000", "DELTA_J2000", "icrs")),
        (["l", "b"], ("l", "b", "galactic")),
        (["GLON", "GLAT"], ("GLON", "GLAT", "galactic")),
    ],
)
def test_sky_columns_by_name(names: list[str], expected: tuple[str, str, str]) -> None:
    found = sky_columns(pa.table({name: [1.0] for name in names}))
    assert found is not None
    assert (found.ra, found.dec, found.frame) == expected


def test_sky_columns_by_ucd_named_and_none() -> None:
    fields = [
        arrow.field("p", pa.float64(), ucd="pos.eq.ra"),
        arrow.field("a", pa.float64(), ucd="POS_EQ_RA;meta.main"),
        arrow.field("d", pa.float64(), ucd="pos.eq.dec;meta.main"),
        arrow.field("b", pa.float64()),
    ]
    table = pa.table([[1.0]] * 4, schema=pa.schema(fields))
    assert sky_columns(table) == SkyColumns(ra="a", dec="d")
    assert sky_columns(table, "p", "D") == SkyColumns(ra="p", dec="d")
    assert sky_columns(table.select(["a", "b"])) is None
    with pytest.raises(UsageError, match="both or neither"):
        sky_columns(table, ra="a")
    with pytest.raises(UnknownName, match="unknown column 'q'"):
        sky_columns(table, "q", "d")


def test_pixel_columns() -> None:
    found = pixel_columns(pa.table({"X_IMAGE": [1.0], "Y_IMAGE": [1.0]}))
    assert found is not None
    assert (found.x, found.y, found.origin) == ("X_IMAGE", "Y_IMAGE", 1)
    found = pixel_columns(pa.table({"y": [1.0], "X": [1.0]}))
    assert found is not None
    assert (found.x, found.y, found.origin) == ("X", "y", 0)
    bare = pa.table({"col1": [1.0], "col2": [1.0]})
    assert pixel_columns(bare) is None
    found = pixel_columns(bare.replace_schema_metadata({HEADERLESS: b"1"}))
    assert found is not None
    assert (found.x, found.y, found.origin) == ("col1", "col2", 0)
    named = pixel_columns(
        pa.table({"XWIN_IMAGE": [1], "YWIN_IMAGE": [1]}), "xwin_image", "ywin_image"
    )
    assert named is not None
    assert named.origin == 1


# --- degrees ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 359.999), st.floats(-89.999, 89.999)), min_size=1, max_size=20),
    st.sampled_from([":", " ", "hms"]),
)
def test_sexagesimal_reads_as_astropy_reads_it(
    where: list[tuple[float, float]], separator: str
) -> None:
    ra, dec = np.array(where).T
    alpha = Angle(ra, "deg").to_string(unit="hourangle", sep=separator, precision=4, pad=True)
    signs = separator if separator != "hms" else "dms"
    delta = Angle(dec, "deg").to_string(unit="deg", sep=signs, precision=3, alwayssign=True)
    alpha, delta = np.atleast_1d(alpha), np.atleast_1d(delta)
    table = pa.table({"ra": alpha.tolist(), "dec": delta.tolist()})
    got = sky_degrees(table, SkyColumns(ra="ra", dec="dec"))
    truth = SkyCoord(alpha, delta, unit=("hourangle", "deg"))
    assert np.allclose(got.ra, truth.ra.deg, rtol=0, atol=1e-9)
    assert np.allclose(got.dec, truth.dec.deg, rtol=0, atol=1e-9)


def test_declinations_just_south_of_the_equator() -> None:
    table = pa.table({"ra": ["00:00:00"], "dec": ["-00:00:36"]})
    assert sky_degrees(table, SkyColumns(ra="ra", dec="dec")).dec[0] == pytest.approx(-0.01)


def test_text_in_degrees_and_blanks() -> None:
    table = pa.table({"ra": ["10.5", " 190 30 0d", None, "1e1"], "dec": ["−5", "+1", "2", ""]})
    with pytest.raises(DataError, match="row 2: ra = '190 30 0d' is no angle"):
        sky_degrees(table, SkyColumns(ra="ra", dec="dec"))
    table = pa.table({"ra": ["10.5", "190d30m0s", None], "dec": ["−5", "+1", "2"]})
    got = sky_degrees(table, SkyColumns(ra="ra", dec="dec"))
    assert np.array_equal(got.ra, [10.5, 190.5, np.nan], equal_nan=True)
    assert np.array_equal(got.dec, [-5, 1, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("", 1),
        ("deg", 1),
        ("[deg]", 1),
        ("rad", 180 / np.pi),
        ("hourangle", 15),
        ("arcsec", 1 / 3600),
    ],
)
def test_units_of_right_ascension(unit: str, factor: float) -> None:
    table = with_units({"ra": ([3.0, None], unit), "dec": ([-2, 1], "deg")})
    got = sky_degrees(table, SkyColumns(ra="ra", dec="dec"))
    assert got.ra[0] == pytest.approx(3 * factor)
    assert got.dec[0] == -2
    assert np.isnan([got.ra[1], got.dec[1]]).all()
    assert got.known.tolist() == [True, False]


def test_units_that_are_no_angle() -> None:
    table = with_units({"ra": ([3.0], "mJy"), "dec": ([2.0], "")})
    with pytest.raises(DataError, match="'ra' has the unit 'mjy'"):
        sky_degrees(table, SkyColumns(ra="ra", dec="dec"))
    table = with_units({"ra": ([3.0], ""), "dec": ([2.0], "hourangle")})
    with pytest.raises(DataError, match="'dec' has the unit"):
        sky_degrees(table, SkyColumns(ra="ra", dec="dec"))


def test_right_ascension_is_wrapped_and_the_range_kept() -> None:
    columns = SkyColumns(ra="ra", dec="dec")
    got = sky_degrees(pa.table({"ra": [-1.0, 360.0, -1e-20], "dec": [0.0, 1.0, 2.0]}), columns)
    assert got.ra.tolist() == [359.0, 0.0, 0.0]
    for bad, says in [
        ({"ra": [1.0, 400.0, 500.0], "dec": [0.0] * 3}, r"row 2: ra = 400 \(and 1 more\)"),
        ({"ra": [1.0, 2.0], "dec": [0.0, -99.0]}, "row 2: dec = -99"),
        ({"ra": [np.inf], "dec": [0.0]}, "row 1: ra = inf"),
        ({"ra": ["12:61:00"], "dec": ["0"]}, r"row 1: ra \(minutes\) = 61"),
        ({"ra": ["25:00:00"], "dec": ["0"]}, "row 1: ra = 375"),
    ]:
        with pytest.raises(DataError, match=says):
            sky_degrees(pa.table(bad), columns)


def test_galactic_coordinates() -> None:
    lon, lat = np.array([0.0, 123.4, 359.9]), np.array([0.0, -45.0, 89.0])
    table = pa.table({"l": [*lon, None], "b": [*lat, 1.0]})
    got = sky_degrees(table, SkyColumns(ra="l", dec="b", frame="galactic"))
    truth = SkyCoord(l=lon * u.deg, b=lat * u.deg, frame="galactic").icrs
    assert np.allclose(got.ra[:3], truth.ra.deg)
    assert np.allclose(got.dec[:3], truth.dec.deg)
    assert np.isnan(got.ra[3])


def test_columns_that_hold_no_numbers() -> None:
    with pytest.raises(DataError, match="not numbers"):
        sky_degrees(pa.table({"ra": [[1.0]], "dec": [1.0]}), SkyColumns(ra="ra", dec="dec"))


# --- join by id ---------------------------------------------------------------------------


def test_join_by_id_follows_the_images() -> None:
    catalog = pa.table(
        {
            "objid": pa.array([1237648720693755918, 2, 3, None], pa.int64()),
            "ra": [10.5, 20.5, 30.5, 40.5],
            "dec": [1.0, 2.0, 3.0, None],
            "kind": ["a", "b", "c", "d"],
        }
    )
    joined = join(["3", "nine", "1237648720693755918"], catalog)
    assert joined.how == "id"
    assert joined.table["objid"].to_pylist() == [3, None, 1237648720693755918]
    assert joined.table["kind"].to_pylist() == ["c", None, "a"]
    assert joined.unmatched_images == ("nine",)
    assert joined.unmatched_rows.to_pylist() == [
        {"id": "2", "ra": "20.5", "dec": "2"},
        {"id": None, "ra": "40.5", "dec": None},
    ]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([7.0, 12.0, float("nan")]),
        pa.array([" 7", "12 ", ""]),
        pa.array([7, 12, None], pa.uint8()),
    ],
)
def test_ids_as_text(ids: pa.Array) -> None:
    joined = join(["12", " 7 "], pa.table({"id": ids, "v": [1, 2, 3]}))
    assert joined.table.to_pydict() == {"v": [2, 1]}  # "id" would repeat the images'


def test_units_survive_a_join() -> None:
    catalog = with_units({"name": (["a"], ""), "flux": ([1.0], "mJy")})
    assert join(["a"], catalog).table.schema.field("flux").metadata == {b"unit": b"mJy"}


def test_join_by_id_refuses() -> None:
    with pytest.raises(DataError, match="id 'b' occurs more than once.*'name'"):
        join(["a"], pa.table({"name": ["a", "b", "b"]}))
    with pytest.raises(DataError, match="'img_1'.*'J12'.*--id-column.*--match-arcsec"):
        join(["img_1"], pa.table({"name": ["J12"]}))
    with pytest.raises(DataError, match="has lost digits"):
        join(["1"], pa.table({"objid": [1.237648720693755918e18]}))
    with pytest.raises(DataError, match="not identifiers"):
        join(["1"], pa.table({"objid": [[1]]}))
    with pytest.raises(UnknownName, match="--id-column"):
        join(["1"], pa.table({"z": [1]}))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20, unique=True), st.data())
def test_integer_ids_join_exactly(numbers: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(numbers))
    catalog = pa.table({"objid": pa.array(order, pa.int64()), "row": range(len(order))})
    joined = join([str(n) for n in numbers], catalog)
    assert [order[row] for row in joined.table["row"].to_pylist()] == numbers
    assert id_texts(catalog, "objid").to_pylist() == [str(n) for n in order]


# --- match on the sky ---------------------------------------------------------------------

# A tight patch anywhere, RA 0 and the poles among them, so that neighbours are to be found.
patches = st.tuples(
    st.sampled_from([0.0, 359.9999, 180.0, 33.3]), st.sampled_from([-90.0, 90.0, 0.0, 89.999, 45.0])
)


@settings(max_examples=60, deadline=None)
@given(patches, st.integers(0, 2**32 - 1))
def test_nearest_is_astropys_nearest(patch: tuple[float, float], seed: int) -> None:
    rng = np.random.default_rng(seed)

    def points(n: int) -> SkyCoord:
        centre = SkyCoord(*patch, unit="deg")
        return centre.directional_offset_by(
            rng.uniform(0, 360, n) * u.deg, rng.uniform(0, 60, n) * u.arcsec
        )

    images, rows = points(30), points(40)
    found, arcsec = nearest_on_sky(
        sky(images.ra.deg, images.dec.deg), sky(rows.ra.deg, rows.dec.deg)
    )
    brute = images[:, None].separation(rows[None, :]).arcsec
    assert np.allclose(arcsec, brute.min(axis=1), rtol=0, atol=1e-6)
    assert np.allclose(brute[np.arange(30), found], brute.min(axis=1), rtol=0, atol=1e-6)


def test_distances_of_any_size() -> None:
    rng = np.random.default_rng(1)
    for arcsec in (1e-4, 1.0, 3600.0, 3.6e5, 6.4e5):
        one = SkyCoord(rng.uniform(0, 360), rng.uniform(-90, 90), unit="deg")
        other = one.directional_offset_by(33 * u.deg, arcsec * u.arcsec)
        _, got = nearest_on_sky(
            sky([one.ra.deg], [one.dec.deg]), sky([other.ra.deg], [other.dec.deg])
        )
        assert got[0] == pytest.approx(one.separation(other).arcsec, rel=1e-6)


def test_a_row_goes_to_its_nearest_image_alone() -> None:
    catalog = pa.table(
        {
            "id": ["A", "B", "C"],
            "RA": [0.0, 10.0, 20.0],
            "DEC": [0.0, 0.0, None],
            "match_arcsec": [9] * 3,
        }
    )
    second = 1 / 3600
    images = sky([360 - 2 * second, 1 * second, 10.0, 50.0, np.nan], [0, 0, 3 * second, 0, 0])
    joined = join(list("vwxyz"), catalog, sky=images, match_arcsec=5)
    assert joined.how == "sky"
    assert joined.table.column_names == ["catalog_id", "RA", "DEC", "match_arcsec"]
    assert joined.table["catalog_id"].to_pylist() == [None, "A", "B", None, None]
    distances = joined.table["match_arcsec"].to_pylist()
    assert distances[1:3] == pytest.approx([1.0, 3.0])
    assert distances[0] is None
    assert joined.table.schema.field("match_arcsec").metadata[b"unit"] == b"arcsec"
    assert joined.unmatched_images == ("v", "y", "z")
    assert joined.unmatched_rows.to_pylist() == [{"id": "C", "ra": "20", "dec": None}]


def test_the_limit_counts() -> None:
    catalog = pa.table({"ra": [0.0], "dec": [0.0]})
    image = sky([3.0 / 3600], [0.0])
    assert join(["a"], catalog, sky=image, match_arcsec=3.0001).unmatched_images == ()
    with pytest.raises(DataError, match=r"within 2.99 arcsec.*nearest is 3 arcsec.*--match-arcsec"):
        join(["a"], catalog, sky=image, match_arcsec=2.99)


def test_match_on_the_sky_refuses() -> None:
    here, catalog = sky([1.0], [2.0]), pa.table({"ra": [1.0], "dec": [2.0]})
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--match-arcsec"):
            join(["a"], catalog, sky=here, match_arcsec=bad)
    with pytest.raises(UsageError, match="--ra-column"):
        join(["a"], pa.table({"z": [1.0]}), sky=here, match_arcsec=1)
    with pytest.raises(DataError, match="images have no sky positions"):
        join(["a"], catalog, sky=sky([np.nan], [np.nan]), match_arcsec=1)
    with pytest.raises(DataError, match="images have no sky positions"):
        join(["a"], catalog, match_arcsec=1)
    with pytest.raises(DataError, match="row 1: ra = 999"):
        join(["a"], pa.table({"ra": [999.0], "dec": [2.0]}), sky=here, match_arcsec=1)
    joined = join(
        ["a"],
        pa.table({"p": [1.0], "q": [2.0]}),
        sky=here,
        match_arcsec=1,
        ra_column="p",
        dec_column="q",
    )
    assert joined.table["match_arcsec"].to_pylist() == pytest.approx([0.0])
