from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import skytwin
from skytwin.answers.query import resolve, separation_arcsec
from skytwin.embeddings.embed import embed_cutouts
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.load import load_saved, open_encoder
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from toys import MemorySource, blob, labelled, raw


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    return make_survey(tmp_path_factory.mktemp("survey"))


def make_survey(folder: Path, count: int = 60, first: int = 0, **encoder: Any) -> Embeddings:
    images = [
        raw(blob(first + i), ra=10 + i / 100, dec=20.0, bands=("r",), pixel_scale=0.5, unit="nJy")
        for i in range(count)
    ]
    cutouts = ingest_source(MemorySource(images), folder / "cutouts", quiet=True)
    settings = {"stretch": "minmax", "crop": "12", **encoder}
    opened = open_encoder("pca:6", cutouts_like=cutouts, **settings)
    return embed_cutouts(cutouts, opened, folder / "emb", quiet=True)


def test_nearest_are_nearest_and_the_reference_is_left_out() -> None:
    emb = labelled()
    found = skytwin.search(emb, "s7", k=10, combine="mean")
    x = np.asarray(emb.vectors).astype(float)
    z = (x - x.mean(0)) / x.std(0)
    z /= np.linalg.norm(z, axis=1)[:, None]
    truth = 1 - z @ z[7]
    truth[7] = np.inf
    assert list(found.rows) == list(np.argsort(truth)[:10])
    np.testing.assert_allclose(found.distance, np.sort(truth)[:10], atol=1e-12)
    assert found.excluded == 1
    assert "s7" in skytwin.search(emb, "s7", k=10, include_self=True).ids


def test_the_table_has_rank_position_distance_reference_and_the_catalogue() -> None:
    found = skytwin.search(labelled(), ["s7", "s8"], k=5, metric="euclidean")
    assert found.table.column_names == [
        "rank", "id", "ra", "dec", "distance", "reference", "kind", "z"
    ]  # fmt: skip
    assert found.table["rank"].to_pylist() == [1, 2, 3, 4, 5]
    assert set(found.table["reference"].to_pylist()) <= {"s7", "s8"}
    table = found.to_astropy()
    assert table.meta["metric"] == "euclidean"
    assert table.meta["references"] == "s7, s8"
    assert list(table["id"]) == list(found.ids)
    assert list(found.to_pandas()["distance"]) == list(found.distance)


def test_every_kind_of_reference(survey: Embeddings, tmp_path: Path) -> None:
    by_id = resolve(survey, "obj0003")[0]
    assert (by_id.kind, by_id.id) == ("object", "obj0003")
    for position in ((10.03, 20.0), "10.03,20.0", "10.03 20.0"):
        assert resolve(survey, position)[0].id == "obj0003"
    by_vector = resolve(survey, survey.vectors[3])[0]
    assert by_vector.kind == "vector"
    np.testing.assert_array_equal(by_vector.vector, by_id.vector)
    np.save(tmp_path / "query.npy", survey.cutouts().flux([3])[0])
    by_image = resolve(survey, tmp_path / "query.npy")[0]
    assert by_image.kind == "image"
    np.testing.assert_allclose(by_image.vector, by_id.vector, atol=1e-5)
    assert survey.folder is not None
    other = resolve(survey, f"{survey.folder}:obj0003")[0]
    assert (other.kind, other.id) == ("other embedding", None)
    np.testing.assert_array_equal(other.vector, by_id.vector)
    several = resolve(survey, ["obj0003", (10.04, 20.0), tmp_path / "query.npy"])
    assert [r.kind for r in several] == ["object", "object", "image"]


def test_objects_at_the_place_of_the_reference_are_left_out() -> None:
    x = np.random.default_rng(0).standard_normal((6, 4))
    x[1] = x[0] + 1e-3
    ra = [0.0, 359.9999, 0.0003, 10, 20, 30]  # the first two are 0.36 arcsec apart, over the wrap
    emb = Embeddings.from_arrays(x, list("abcdef"), {"ra": ra, "dec": [0.0] * 6})
    assert list(skytwin.search(emb, "a", k=9, same_arcsec=0.5).ids).count("b") == 0
    assert "b" in skytwin.search(emb, "a", k=9, same_arcsec=0.1).ids
    assert set(skytwin.search(emb, "a", k=9).ids) == set("def")


def test_separation_is_that_of_astropy() -> None:
    from astropy.coordinates import SkyCoord

    rng = np.random.default_rng(2)
    positions = np.stack([rng.uniform(0, 360, 200), rng.uniform(-90, 90, 200)], axis=1)
    truth = SkyCoord(*positions.T, unit="deg").separation(SkyCoord(359.9, 89.9, unit="deg")).arcsec
    np.testing.assert_allclose(separation_arcsec(positions, 359.9, 89.9), truth, rtol=1e-10)


def test_where_filters_and_nulls_do_not_pass() -> None:
    emb = labelled()
    found = skytwin.search(emb, "s7", k=400, where="z < 0.5 and kind = 'b'")
    z = np.array(emb.catalog["z"].to_pylist())
    kinds = np.array(emb.catalog["kind"].to_pylist())
    keep = (z < 0.5) & (kinds == "b")
    keep[7] = False
    assert set(found.rows) == set(np.flatnonzero(keep))
    for condition, said in [
        ("zz < 1", "zz"),
        ("z <", "syntax"),
        ("z", "not yes or no"),
        ("1=1) union select (1", "cannot be used"),
        ("(select count(*) from read_csv('/etc/passwd')) > 0", "disabled"),
        ("(select count(*) from glob('/*')) > 0", "cannot be used"),
        ("", "empty condition"),
    ]:
        with pytest.raises(UsageError, match=said):
            skytwin.search(emb, "s7", where=condition)
    with pytest.raises(DataError, match="no object fulfils"):
        skytwin.search(emb, "s7", where="z > 5")


def test_radius_takes_all_within_and_nothing_else() -> None:
    emb = labelled()
    near = skytwin.search(emb, "s7", k=50)
    found = skytwin.search(emb, "s7", radius=float(near.distance[-1]))
    assert list(found.rows) == list(near.rows)
    assert len(skytwin.search(emb, "s7", radius=0.0)) == 0


def test_min_and_mean_differ_and_name_the_nearest_reference() -> None:
    emb = labelled()
    for combine in ("mean", "min"):
        found = skytwin.search(emb, ["s7", "s9"], k=20, combine=combine)
        alone = [
            skytwin.search(emb, name, k=400, include_self=True, combine="mean")
            for name in ("s7", "s9")
        ]
        each = np.stack([dict_of(one)[found.rows] for one in alone], axis=1)
        want = each.mean(1) if combine == "mean" else each.min(1)
        np.testing.assert_allclose(found.distance, want, atol=1e-12)
        assert list(found.reference) == list(each.argmin(1))


def dict_of(found: Any) -> np.ndarray:
    distance = np.empty(len(found.embeddings))
    distance[found.rows] = found.distance
    return distance


@pytest.mark.parametrize(
    ("like", "said"),
    [
        ("obj9", "unknown id 'obj9'.*did you mean: obj.*RA,DEC in degrees"),
        ("99.0,5.0", "no object within 3 arcsec.*the nearest, obj00"),
        ("none.fits", "no image file 'none.fits'"),
        ((400.0, 95.0), "expected RA, Dec in degrees"),
    ],
)
def test_unknown_references(survey: Embeddings, like: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        skytwin.search(survey, like)


def test_a_query_image_that_does_not_belong_is_refused(survey: Embeddings, tmp_path: Path) -> None:
    from astropy.io import fits
    from astropy.wcs import WCS

    def write(name: str, pixels: np.ndarray, scale: float, unit: str = "nJy") -> Path:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval, wcs.wcs.crpix = [10.0, 20.0], [8.5, 8.5]
        wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
        header = wcs.to_header()
        header["BUNIT"] = unit
        fits.writeto(tmp_path / name, pixels, header)
        return tmp_path / name

    good = write("good.fits", blob(3)[0], 0.5)
    assert resolve(survey, good)[0].ra == pytest.approx(10.0, abs=1e-4)
    wide = write("wide.fits", np.pad(blob(3)[0], 8, mode="reflect"), 0.5)
    np.testing.assert_allclose(
        resolve(survey, wide)[0].vector, resolve(survey, good)[0].vector, atol=1e-5
    )
    with pytest.raises(Mismatch, match=r'wide2\.fits has 0\.9" per pixel; expected 0\.5"'):
        resolve(survey, write("wide2.fits", blob(3)[0], 0.9))
    with pytest.raises(Mismatch, match="smaller than the 16 x 16"):
        resolve(survey, write("small.fits", blob(3, 9)[0], 0.5))
    with pytest.raises(Mismatch, match="has bands .*expected r"):
        resolve(survey, write("cube.fits", blob(3, channels=3), 0.5))
    with pytest.raises(DataError, match="all NaN"):
        resolve(survey, write("nan.fits", np.full((16, 16), np.nan, np.float32), 0.5))
    np.save(tmp_path / "other.npy", blob(3, 20))
    with pytest.raises(Mismatch, match="without both pixel scales"):
        resolve(survey, tmp_path / "other.npy")


def test_a_stretch_with_fixed_limits_asks_for_the_same_flux(tmp_path: Path) -> None:
    emb = make_survey(tmp_path, count=20, stretch="range:0,5")
    np.save(tmp_path / "counts.npy", (blob(3) * 50).clip(0).astype(np.uint8))
    with pytest.raises(Mismatch, match=r"uint8 in no unit.*float32 in nJy.*minmax"):
        resolve(emb, tmp_path / "counts.npy")


def test_embeddings_of_another_encoder_are_refused(survey: Embeddings, tmp_path: Path) -> None:
    other = make_survey(tmp_path, count=30, first=100)
    with pytest.raises(Mismatch, match="another encoder or with other settings"):
        skytwin.search(survey, f"{other.folder}:obj0003")


def test_embeddings_of_another_pixel_scale_are_refused(survey: Embeddings, tmp_path: Path) -> None:
    # The encoder of one survey would encode the images of the other without complaint.
    images = [raw(blob(i), bands=("r",), pixel_scale=1.5) for i in range(8)]
    cutouts = ingest_source(MemorySource(images), tmp_path / "coarse", quiet=True)
    assert survey.folder is not None
    with pytest.raises(Mismatch, match=r'has 1\.5" per pixel; expected 0\.5"'):
        skytwin.embed(cutouts, survey.folder, tmp_path / "emb", quiet=True)
    encoder = load_saved(survey.folder / "encoder")
    embed_cutouts(cutouts, encoder, tmp_path / "emb", quiet=True)
    with pytest.raises(Mismatch, match=r'has 1\.5" per pixel; expected 0\.5"'):
        skytwin.search(survey, f"{tmp_path / 'emb'}:obj0003")


def test_an_encoder_is_taken_over_from_another_embedding(
    survey: Embeddings, tmp_path: Path
) -> None:
    images = [raw(blob(200 + i), bands=("r",), pixel_scale=0.5) for i in range(12)]
    ingest_source(MemorySource(images), tmp_path / "more", quiet=True)
    assert survey.folder is not None
    more = skytwin.embed(tmp_path / "more", survey.folder, tmp_path / "emb", quiet=True)
    assert more.encoder_fingerprint == survey.encoder_fingerprint
    assert len(skytwin.search(survey, f"{tmp_path / 'emb'}:obj0003", k=3)) == 3
    with pytest.raises(UsageError, match="leave out --orbit"):
        skytwin.embed(tmp_path / "more", survey.folder, tmp_path / "e2", orbit="d4")
    images = [raw(blob(i), bands=("g",), pixel_scale=0.5) for i in range(3)]
    ingest_source(MemorySource(images), tmp_path / "green", quiet=True)
    with pytest.raises(Mismatch, match="bands g; the encoder takes r"):
        skytwin.embed(tmp_path / "green", survey.folder, tmp_path / "e3")


def test_moved_cutouts_are_asked_for_and_checked(survey: Embeddings, tmp_path: Path) -> None:
    import shutil

    made = make_survey(tmp_path / "a", count=12)
    assert isinstance(made.cutouts(), Cutouts)
    shutil.move(tmp_path / "a" / "cutouts", tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="--cutouts FOLDER"):
        made.cutouts()
    assert len(made.cutouts(tmp_path / "elsewhere")) == 12
    with pytest.raises(Mismatch, match="other cutouts"):
        made.cutouts(survey.cutouts().folder)


def test_vectors_from_elsewhere_are_checked() -> None:
    x = np.ones((3, 2))
    with pytest.raises(UsageError, match=r"expected \(N, D\)"):
        Embeddings.from_arrays(np.ones(3), "abc")
    with pytest.raises(UsageError, match="2 ids for 3 vectors"):
        Embeddings.from_arrays(x, "ab")
    with pytest.raises(DataError, match="duplicate id 'a'"):
        Embeddings.from_arrays(x, "aba")
    with pytest.raises(DataError, match="NaN"):
        Embeddings.from_arrays(x * np.nan, "abc")
    with pytest.raises(UsageError, match="table of 2 rows"):
        Embeddings.from_arrays(x, "abc", {"z": [1, 2]})
    emb = Embeddings.from_arrays(x, "abc")
    with pytest.raises(UsageError, match="no sky positions"):
        skytwin.search(emb, (1.0, 2.0))
    with pytest.raises(UnknownName, match="unknown metric"):
        skytwin.search(emb, "a", metric="manhattan")
    with pytest.raises(DataError, match="nothing is left"):
        skytwin.search(emb, ["a", "b", "c"])
    with pytest.raises(Mismatch, match=r"expected \(2,\)"):
        skytwin.search(emb, np.ones(5))
    with pytest.raises(UsageError, match="no reference"):
        skytwin.search(emb, [])
