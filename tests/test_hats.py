"""HATS catalogues: read as their specification has them, and as LSDB's own package reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from PIL import Image

import skytwin
from command import skytwin as command
from hats_folder import cell_of, rows, write_hats
from skytwin.errors import DataError
from skytwin.images import hats
from skytwin.images.catalog import SkyPositions, read_table
from skytwin.images.hats import Hats, Partition, is_hats
from skytwin.images.hats_rows import rows_by_id, rows_near
from skytwin.images.tables import table_sha256


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return write_hats(tmp_path / "survey", rows())


def same_rows(found: pa.Table, table: pa.Table) -> bool:
    ours = found.select(table.column_names).sort_by("source_id")
    return bool(ours.to_pydict() == table.sort_by("source_id").to_pydict())


@pytest.mark.parametrize(
    "how",
    [{}, {"leaves": True}, {"old": True}, {"info": False}],
    ids=["new", "leaves", "old", "bare"],
)
def test_every_row_once_and_in_the_order_of_the_sky(tmp_path: Path, how: dict[str, bool]) -> None:
    table = rows()
    found = read_table(write_hats(tmp_path / "survey", table, **how))
    assert same_rows(found, table)
    order = found["_healpix_29"].to_numpy()
    assert (np.diff(order) >= 0).all()


def test_a_collection_is_its_main_catalogue(tmp_path: Path) -> None:
    write_hats(tmp_path / "both" / "main", rows())
    (tmp_path / "both" / "collection.properties").write_text(
        "#HATS collection\nobs_collection=both\nhats_primary_table_url=main\nall_margins=m_10\n"
    )
    assert same_rows(read_table(tmp_path / "both"), rows())
    (tmp_path / "both" / "collection.properties").write_text("hats_primary_table_url=../main\n")
    with pytest.raises(DataError, match="lies elsewhere"):
        read_table(tmp_path / "both")


def test_its_sum_tells_another_one(tmp_path: Path, catalog: Path) -> None:
    again = write_hats(tmp_path / "again", rows())
    assert table_sha256(catalog) == table_sha256(again)
    assert table_sha256(catalog) != table_sha256(write_hats(tmp_path / "other", rows(601)))


def test_cells_hold_their_rows() -> None:
    """The circle about a cell, by which it is chosen, holds all of it."""
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    places = np.stack(
        [np.cos(np.radians(dec)) * np.cos(np.radians(ra)),
         np.cos(np.radians(dec)) * np.sin(np.radians(ra)), np.sin(np.radians(dec))], axis=1
    )  # fmt: skip
    for order in (0, 1, 2):
        cells = cell_of(order, ra, dec)
        for pixel in np.unique(cells):
            middle, radius = Partition(order=order, pixel=int(pixel), files=()).centre
            far = np.linalg.norm(places[cells == pixel] - middle, axis=1).max()
            assert far < radius
            assert radius < 4 / 2**order


def test_by_identifier_only_their_rows_are_kept(catalog: Path) -> None:
    wanted = [str(2**60 + i) for i in (5, 77, 599)]
    found = rows_by_id(Hats(catalog), [*wanted, "unknown"], None)
    assert sorted(map(str, found["source_id"].to_pylist())) == wanted
    with pytest.raises(DataError, match="no image has a row"):
        rows_by_id(Hats(catalog), ["a", "b"], None)


def test_near_positions_as_astropy_has_it(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the cells about are read; what is found is what astropy finds in all rows."""
    rng = np.random.default_rng(2)
    table = rows()
    taken = rng.choice(600, 5, replace=False)
    ra = table["RAJ"].to_numpy()[taken] + rng.normal(0, 1e-4, 5)
    dec = table["DEJ"].to_numpy()[taken] + rng.normal(0, 1e-4, 5)
    read: list[Partition] = []
    real = Hats.read

    def seen(self: Hats, part: Partition, columns: Sequence[str] | None = None) -> pa.Table:
        read.append(part)
        return real(self, part, columns)

    monkeypatch.setattr(Hats, "read", seen)
    opened = Hats(catalog)
    found = rows_near(opened, SkyPositions(ra=ra, dec=dec), 2.0, None, None)
    everything = SkyCoord(table["RAJ"].to_numpy() * u.deg, table["DEJ"].to_numpy() * u.deg)
    _, index, _, _ = everything.search_around_sky(SkyCoord(ra * u.deg, dec * u.deg), 2 * u.arcsec)
    truth = {table["source_id"][int(i)].as_py() for i in index}
    assert truth
    assert set(found["source_id"].to_pylist()) == truth
    assert len(set(read)) < len(opened.partitions) / 2


def pictures(folder: Path, names: Sequence[str]) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for name in names:
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_ingest_joins_by_identifier(tmp_path: Path, catalog: Path) -> None:
    names = [str(2**60 + i) for i in range(6)]
    folder = pictures(tmp_path / "images", [*names, "stranger"])
    made = skytwin.ingest(folder, tmp_path / "out", catalog=catalog, quiet=True)
    plain = tmp_path / "plain.parquet"
    pq.write_table(rows(), plain)
    truth = skytwin.ingest(
        folder, tmp_path / "truth", catalog=plain, ra_column="RAJ", dec_column="DEJ", quiet=True
    )
    for name in ("id", "ra", "dec", "mag", "class"):
        assert made.catalog[name].to_pylist() == truth.catalog[name].to_pylist(), name
    assert made.manifest.summary["images_without_catalog_row"] == 1


def test_ingest_joins_on_the_sky(tmp_path: Path, catalog: Path) -> None:
    table = rows()
    h5py = pytest.importorskip("h5py")
    taken = [3, 300, 301]
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["images"] = np.random.default_rng(0).normal(size=(4, 8, 8))
        file["ra"] = [*table["RAJ"].to_numpy()[taken], 10.0]
        file["dec"] = [*table["DEJ"].to_numpy()[taken], 89.9]
    made = skytwin.ingest(
        tmp_path / "cube.h5", tmp_path / "out", catalog=catalog, match_arcsec=1.0, quiet=True
    )
    assert made.catalog["source_id"].to_pylist() == [*(2**60 + i for i in taken), None]
    found = command(
        "ingest", tmp_path / "cube.h5", "--catalog", catalog, "--match-arcsec", 1,
        "--ra-column", "mag", "--dec-column", "mag", "--out", tmp_path / "far",
    )  # fmt: skip
    assert found.code == 1
    assert "no row of" in found.err


def test_footprint_and_labels_take_it(tmp_path: Path, catalog: Path) -> None:
    from skytwin.answers.labels import read_labels

    labels = read_table(catalog).select(["source_id", "class", "RAJ", "DEJ", "mag"])
    yes = pa.array(["yes" if c == "star" else "no" for c in labels["class"].to_pylist()])
    labelled = labels.set_column(1, "label", yes)
    found = read_labels(write_hats(tmp_path / "labels", labelled))
    assert len(found) == 600
    assert found.of([str(2**60)])[0] == 1


def test_many_rows_are_not_read_whole(catalog: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hats, "_MOST_ROWS", 599)
    with pytest.raises(DataError, match="600 rows; no more than 599 are read whole"):
        read_table(catalog)


@pytest.mark.parametrize("damage", ["missing", "torn", "info", "cell", "nothing", "secret"])
def test_damage_is_one_line(tmp_path: Path, catalog: Path, damage: str) -> None:
    file = sorted(catalog.rglob("Npix=*.parquet"))[0]
    if damage == "missing":
        file.unlink()
    elif damage == "torn":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "info":
        (catalog / "partition_info.csv").write_text("a,b\n1,2\n")
    elif damage == "cell":
        with (catalog / "partition_info.csv").open("a") as stream:
            stream.write("1,48\n")
    elif damage == "nothing":
        (catalog / "partition_info.csv").write_text("Norder,Npix\n")
    else:
        (catalog / "hats.properties").write_bytes(b"\xff\xfe\x00 = \n=\n")
        file.write_bytes(b"PAR1 no table PAR1")
    folder = pictures(tmp_path / "images", [str(2**60 + 1)])
    found = command("ingest", folder, "--catalog", catalog, "--out", tmp_path / "out")
    assert found.code == 1
    assert found.err.count("\n") == 1
    assert str(catalog) in found.err


def test_a_plain_folder_is_none(tmp_path: Path) -> None:
    assert not is_hats(tmp_path)
    folder = pictures(tmp_path / "images", ["a"])
    found = command("ingest", folder, "--catalog", tmp_path, "--out", tmp_path / "out")
    assert found.code == 2
    assert "or a HATS catalogue" in found.err


@pytest.mark.slow
def test_as_the_package_hats_reads_it(catalog: Path) -> None:
    """LSDB's own package takes the folder for a catalogue, with the cells that we see."""
    pytest.importorskip("hats")
    import hats as package
    from hats.pixel_math import spatial_index

    theirs = package.read_hats(catalog)
    ours = Hats(catalog)
    assert {(p.order, p.pixel) for p in theirs.get_healpix_pixels()} == {
        (p.order, p.pixel) for p in ours.partitions
    }
    table = read_table(catalog)
    index = spatial_index.compute_spatial_index(table["RAJ"].to_numpy(), table["DEJ"].to_numpy())
    assert np.array_equal(table["_healpix_29"].to_numpy(), index)
