"""Pictures of several bands: the balance that is worked out once, against all images together."""

from __future__ import annotations

import numpy as np
import pytest

from skytwin.images.display import Display, balance_of, parse_display, to_rgb


@pytest.mark.parametrize(
    "text", ["", "asinh", "log", "zscale", "minmax", "clip:1,99", "clip:5,99.9+asinh", "per_band"]
)
@pytest.mark.parametrize("bands", [("g", "r", "i"), ("g", "r"), ("u", "g", "r", "i", "z")])
def test_a_balance_worked_out_before_gives_the_same_pixels(
    text: str, bands: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(5)
    scale = np.arange(1, len(bands) + 1)[None, :, None, None]
    flux = (rng.gamma(0.5, 30.0, (8, len(bands), 40, 40)) * scale).astype(np.float32)
    flux[0, 0, 3, 4] = np.nan
    flux[2, 1, :5] = np.inf
    display = (
        None if not text else Display(per_band=True) if text == "per_band" else parse_display(text)
    )
    together = to_rgb(flux, bands, display)[:1]
    balance = balance_of(flux[1:], bands, display)
    assert np.array_equal(to_rgb(flux[:1], bands, display, beside=balance), together)
    if text not in ("per_band",):  # and it does matter
        assert not np.array_equal(to_rgb(flux[:1], bands, display), together)
