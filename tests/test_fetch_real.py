"""The checks of fetched images, on real images that SDSS and FIRST served."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from skytwin.errors import SkytwinError
from skytwin.images.fetch_check import check_image
from skytwin.images.fetch_surveys import choose
from skytwin.images.fetch_web import Passing


@pytest.mark.real
@pytest.mark.slow
def test_real_sdss_images_pass_and_a_frame_without_sky_does_not(data_dir: Path) -> None:
    request = choose("sdss", size_arcsec=128 * 0.396)
    refused = {}
    with zipfile.ZipFile(data_dir / "gz1/galaxies.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        assert len(names) == 3380
        for name in names:
            try:
                check_image(archive.read(name), request, 0.0, 0.0)
            except SkytwinError as error:
                refused[Path(name).stem] = str(error)
    # The end of a frame, nearly all black: one colour, as the words outside the footprint are.
    (reason,) = refused.values()
    assert reason == "no data there: 92% of the pixels are one colour"


@pytest.mark.real
def test_real_fits_images_are_where_their_names_say(data_dir: Path) -> None:
    request = choose("hips:FIRST", size_arcsec=300 * 1.8, pixel_scale=1.8)
    paths = sorted((data_dir / "mirabest_fits").glob("*.fits"))
    assert len(paths) == 24
    for path in paths:
        place = re.match(r"\d+_([\d.]+)([+-][\d.]+)_", path.name)
        assert place is not None
        ra, dec = map(float, place.groups())
        content = path.read_bytes()
        check_image(content, request, ra, dec)
        with pytest.raises(Passing, match=r"an image of another place, 3\d\.?\d? arcsec away"):
            check_image(content, request, ra, dec + 0.01)
        with pytest.raises(Passing, match="damaged image"):
            check_image(content[:-5000], request, ra, dec)
