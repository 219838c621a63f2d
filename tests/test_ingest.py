from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skytwin.errors import BadImage, DataError, OutputExists, UsageError
from skytwin.files import hash_file
from skytwin.images.cutouts import Cutouts
from skytwin.images.framing import Framing, central
from skytwin.images.ingest import ingest_source
from skytwin.images.ingest_rows import Catalog
from toys import MemorySource, blob, raw


def rejected(folder: Path) -> dict[str, str]:
    with (folder / "rejected.csv").open(newline="") as stream:
        return {row["id"]: row["reason"] for row in csv.DictReader(stream)}


def test_good_images_are_kept_as_they_are(tmp_path: Path) -> None:
    images = [blob(i, channels=3) for i in range(10)]
    images[4][0, 3, 3] = np.nan
    about: dict[str, Any] = {"bands": ("g", "r", "i"), "unit": "nanomaggy", "pixel_scale": 0.396}
    made = ingest_source(
        MemorySource([raw(p, ra=10.0 + i, dec=-5.0, **about) for i, p in enumerate(images)]),
        tmp_path / "c",
        shard_rows=4,
        quiet=True,
    )
    assert made.shape == (10, 3, 16, 16)
    assert (made.bands, made.unit, made.pixel_scale) == (("g", "r", "i"), "nanomaggy", 0.396)
    np.testing.assert_array_equal(made.flux(slice(None)), np.stack(images))
    np.testing.assert_array_equal(made.flux([9, 0, 4, 4]), np.stack(images)[[9, 0, 4, 4]])
    assert made.catalog["ra"].to_pylist() == [10.0 + i for i in range(10)]
    again = Cutouts(tmp_path / "c")
    assert list(again.ids) == [f"obj{i:04d}" for i in range(10)]
    array = zarr.open_array(tmp_path / "c" / "pixels.zarr", mode="r")
    assert array.attrs["bands"] == ["g", "r", "i"]
    assert array.metadata.dimension_names == ("object", "band", "y", "x")
    with pytest.raises(UsageError, match=r"expected 0\.\.9"):
        made.flux([10])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64]),
        st.tuples(st.integers(1, 9), st.integers(1, 3), st.integers(2, 9), st.integers(2, 9)),
    ),
    st.integers(1, 5),
)
def test_pixels_round_trip(
    tmp_path_factory: pytest.TempPathFactory, stack: np.ndarray, shard: int
) -> None:
    usable = [i for i, image in enumerate(stack) if _usable(image)]
    out = tmp_path_factory.mktemp("round") / "c"
    source = MemorySource([raw(image) for image in stack])
    if not usable:
        with pytest.raises(DataError, match="none of"):
            ingest_source(source, out, shard_rows=shard, quiet=True)
        return
    made = ingest_source(source, out, shard_rows=shard, quiet=True)
    assert made.dtype == stack.dtype
    np.testing.assert_array_equal(made.pixels(slice(None)), stack[usable])


def _usable(image: np.ndarray) -> bool:
    finite = image[np.isfinite(image)]
    return finite.size > 0 and finite.min() != finite.max()


def test_bad_images_are_listed_with_the_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    good = blob(1)
    source = MemorySource(
        [
            raw(good),
            "truncated: 12 of 4096 bytes",
            raw(np.full_like(good, np.nan)),
            raw(np.full_like(good, 7.0)),
            raw(good.astype(np.uint8)),
            raw(np.concatenate([good, good])),
            raw(good, unit="Jy"),
            raw(good, pixel_scale=0.4),
            raw(np.zeros((1, 0, 0), np.float32)),
            raw(blob(2)),
        ]
    )
    made = ingest_source(source, tmp_path / "c", quiet=True)
    assert list(made.ids) == ["obj0000", "obj0009"]
    reasons = rejected(tmp_path / "c")
    assert reasons["obj0001"] == "truncated: 12 of 4096 bytes"
    assert "all NaN" in reasons["obj0002"]
    assert "every pixel is 7.0" in reasons["obj0003"]
    assert "uint8; expected float32" in reasons["obj0004"]
    assert "bands band1, band2; expected band1" in reasons["obj0005"]
    assert "flux in Jy; expected no stated unit" in reasons["obj0006"]
    assert 'scale 0.4"; expected unknown' in reasons["obj0007"]
    assert "empty image" in reasons["obj0008"]
    assert made.manifest.summary["rejected"] == 8


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 2 image\(s\).*2 of them: damaged"):
        ingest_source(MemorySource(["damaged", "damaged"]), tmp_path / "c", quiet=True)
    with pytest.raises(DataError, match="no image in"):
        ingest_source(MemorySource([]), tmp_path / "c", quiet=True)
    assert not (tmp_path / "c").exists()


def test_mixed_shapes_need_a_frame(tmp_path: Path) -> None:
    source = MemorySource([raw(blob(0, 16), pixel_scale=1.0), raw(blob(1, 20), pixel_scale=1.0)])
    with pytest.raises(UsageError, match=r"mixed shape: obj0001\.fits is 20 x 20.*--crop.*--size"):
        ingest_source(source, tmp_path / "c", quiet=True)
    made = ingest_source(source, tmp_path / "c", framing=Framing(crop=12), quiet=True)
    assert made.shape == (2, 1, 12, 12)
    np.testing.assert_array_equal(made.flux([1])[0], blob(1, 20)[:, 4:16, 4:16])
    # Resampled, the 20-pixel image has another scale than the 16-pixel one: it cannot stay.
    made = ingest_source(source, tmp_path / "d", framing=Framing(size=8), quiet=True)
    assert (len(made), made.pixel_scale) == (1, 2.0)
    assert "pixel scale 2.5" in rejected(tmp_path / "d")["obj0001"]


def test_resampling_conserves_the_mean_and_spreads_missing_data() -> None:
    image = blob(3, 32)
    image[0, 0, 0] = np.nan
    small = Framing(size=8).apply(raw(image, pixel_scale=0.5))
    assert small.pixel_scale == 2.0
    assert np.isnan(small.pixels[0, 0, 0])
    assert np.isfinite(small.pixels).sum() == 63
    np.testing.assert_allclose(small.pixels[0, 4, 4], image[0, 16:20, 16:20].mean(), rtol=1e-5)
    assert Framing(size=8).apply(raw(np.full((1, 32, 32), 200, np.uint8))).pixels.dtype == np.uint8


@pytest.mark.parametrize(("size", "crop"), [(9, 5), (9, 4), (8, 5), (8, 4)])
def test_the_central_pixel_stays_central(size: int, crop: int) -> None:
    image = np.zeros((1, size, size))
    image[0, size // 2, size // 2] = 1
    cut = central(image, crop)
    assert cut[0, crop // 2, crop // 2] == 1
    with pytest.raises(BadImage, match="smaller than the crop"):
        central(image, size + 1)


def test_a_catalogue_joins_by_id_and_tells_what_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "cat.csv").write_text(
        "objid,RA,DEC,mag\nobj0002,12.5,3.0,19.5\nobj0000,359.9,-1.0,17.0\nstray,1.0,1.0,20.0\n"
    )
    source = MemorySource([raw(blob(i), ra=1.0, dec=1.0) for i in range(3)])
    made = ingest_source(
        source, tmp_path / "c", catalog=Catalog(path=tmp_path / "cat.csv"), quiet=True
    )
    assert made.catalog.column_names == ["id", "ra", "dec", "origin", "objid", "mag"]
    # The catalogue's position where it has one, else the image's own centre.
    assert made.catalog["ra"].to_pylist() == [359.9, 1.0, 12.5]
    assert made.catalog["mag"].to_pylist() == [17.0, None, 19.5]
    assert made.manifest.summary["images_without_catalog_row"] == 1
    assert made.manifest.summary["catalog_rows_without_image"] == 1
    assert rejected(tmp_path / "c")["stray"] == "catalogue row without image"


def test_a_catalogue_joins_on_the_sky(tmp_path: Path) -> None:
    (tmp_path / "cat.csv").write_text("name,ra,dec\nA,0.0001,10\nB,100,10\n")
    source = MemorySource([raw(blob(0), ra=359.9999, dec=10.0), raw(blob(1), ra=50.0, dec=0.0)])
    catalog = Catalog(path=tmp_path / "cat.csv", match_arcsec=2)
    made = ingest_source(source, tmp_path / "c", catalog=catalog, quiet=True)
    assert made.catalog["name"].to_pylist() == ["A", None]


def test_a_catalogue_that_fits_nothing_fails_before_any_reading(tmp_path: Path) -> None:
    (tmp_path / "cat.csv").write_text("id,mag\nx,1\ny,2\n")
    source = MemorySource(["must not be read"])
    with pytest.raises(DataError, match="--id-column"):
        ingest_source(
            source, tmp_path / "c", catalog=Catalog(path=tmp_path / "cat.csv"), quiet=True
        )
    catalog = Catalog(path=tmp_path / "cat.csv", match_arcsec=1.0)
    with pytest.raises(UsageError, match="--ra-column"):
        ingest_source(source, tmp_path / "c", catalog=catalog, quiet=True)


def test_a_finished_or_foreign_folder_is_refused(tmp_path: Path) -> None:
    source = MemorySource([raw(blob(0))])
    ingest_source(source, tmp_path / "c", quiet=True)
    with pytest.raises(OutputExists, match="finished"):
        ingest_source(source, tmp_path / "c", quiet=True)


KILLED = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    from toys import MemorySource, blob, raw
    from skytwin.images.ingest import ingest_source

    class Slow(MemorySource):
        def read(self, index):
            if index == {at}:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(index)

    images = [raw(blob(i)) if i % 7 else "damaged" for i in range(100)]
    ingest_source(Slow(images), {out!r}, shard_rows=8, quiet=True)
"""


@pytest.mark.parametrize("at", [3, 41, 99])
def test_killed_and_resumed_is_byte_for_byte_the_unbroken_run(tmp_path: Path, at: int) -> None:
    images: list[Any] = [raw(blob(i)) if i % 7 else "damaged" for i in range(100)]
    ingest_source(MemorySource(images), tmp_path / "whole", shard_rows=8, quiet=True)
    script = KILLED.format(tests=str(Path(__file__).parent), at=at, out=str(tmp_path / "c"))
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], check=False, env={**os.environ}
    )
    assert ended.returncode == -signal.SIGKILL
    ingest_source(MemorySource(images), tmp_path / "c", shard_rows=8, quiet=True)
    assert files(tmp_path / "c") == files(tmp_path / "whole")


def files(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hash_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".verified.json"
    }


def test_another_source_does_not_resume_a_run(tmp_path: Path) -> None:
    images: list[Any] = [raw(blob(i)) for i in range(5)]
    with pytest.raises(UsageError, match="mixed shape"):
        ingest_source(
            MemorySource([*images, raw(blob(0, 9))]), tmp_path / "c", shard_rows=2, quiet=True
        )
    with pytest.raises(OutputExists, match="images: 6 then, 5 now"):
        ingest_source(MemorySource(images), tmp_path / "c", shard_rows=2, quiet=True)
