"""The files that the pages' commands read, all made from the Hubble picture of scikit-image.

Their pixels are real; their sky positions, magnitudes and names are made up, and the pages say so.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import skimage
from astropy.io import fits
from astropy.wcs import WCS
from matplotlib.image import imread

from skytwin.images.detect import DetectSettings, detect

SCALE = 0.06  # arcsec per pixel
_SIDE = 32
_CHANNEL = {"i": 0, "r": 1, "g": 2}
# Where each band's mosaic begins: a few pixels apart, as those of a real survey are.
_OFFSET = {"g": (0, 0), "r": (3, 2), "i": (5, 1)}


def write(folder: Path) -> None:
    """Write every example file."""
    name = "hubble_deep_field.jpg"
    shutil.copyfile(Path(skimage.__file__).parent / "data" / name, folder / name)
    picture = np.flipud(imread(folder / name)).astype(np.float32)  # row 0 lowest, as in FITS
    wcs = _wcs()
    table = detect(picture.mean(axis=2), DetectSettings())
    found = {name: table[name].to_numpy() for name in ("x", "y", "flux", "a", "b", "npix")}
    height, width = picture.shape[:2]
    x, y = found["x"], found["y"]
    inside = (x > 20) & (x < width - 20) & (y > 20) & (y < height - 20)
    found = {name: values[inside][:400] for name, values in found.items()}
    sky = wcs.pixel_to_world(found["x"], found["y"])
    rows = [
        {
            "name": f"HDF{number:04d}",
            "ra": f"{ra:.6f}",
            "dec": f"{dec:.6f}",
            "mag": f"{30 - 2.5 * np.log10(flux):.2f}",
            "shape": "round" if b / a > 0.8 else "elongated",
            "size": "large" if npix > 150 else "small",
        }
        for number, (ra, dec, flux, a, b, npix) in enumerate(
            zip(
                sky.ra.deg, sky.dec.deg, found["flux"], found["a"], found["b"], found["npix"],
                strict=True,
            ),
            start=1,
        )
    ]  # fmt: skip
    _table(folder / "positions.csv", rows)
    _table(folder / "west.csv", [row for row in rows if float(row["ra"]) > wcs.wcs.crval[0]])
    _table(folder / "east.csv", [row for row in rows if float(row["ra"]) <= wcs.wcs.crval[0]])
    for band, (left, low) in _OFFSET.items():
        moved = wcs.deepcopy()
        moved.wcs.crpix -= (left, low)
        plane = picture[low:, left:, _CHANNEL[band]]
        _fits(folder / f"field_{band}.fits", plane, moved)
    few = [(row, x, y) for row, x, y in zip(rows, found["x"], found["y"], strict=True)][:60]
    stamps = np.stack([_cut(picture, x, y) for _, x, y in few])  # (n, H, W, 3)
    _stamps(folder, [row for row, _, _ in few], stamps)
    _cube(folder / "cube.h5", [row for row, _, _ in few], stamps)


def _wcs() -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [53.16, -27.79], [500.5, 436.5]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    return wcs


def _cut(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    left, low = int(x + 0.5) - _SIDE // 2, int(y + 0.5) - _SIDE // 2
    return picture[low : low + _SIDE, left : left + _SIDE]


def _fits(path: Path, pixels: np.ndarray, wcs: WCS) -> None:
    header = wcs.to_header()
    header["BUNIT"] = "adu"
    fits.writeto(path, np.ascontiguousarray(pixels, dtype=np.float32), header)


def _stamps(folder: Path, rows: list[dict[str, str]], stamps: np.ndarray) -> None:
    for name in ("stamps", "bands"):
        (folder / name).mkdir()
    for row, stamp in zip(rows, stamps, strict=True):
        centre = _wcs()
        centre.wcs.crval = [float(row["ra"]), float(row["dec"])]
        centre.wcs.crpix = [_SIDE // 2 + 1] * 2
        _fits(folder / "stamps" / f"{row['name']}.fits", stamp[:, :, _CHANNEL["r"]], centre)
        for band, channel in _CHANNEL.items():
            _fits(folder / "bands" / f"{row['name']}_{band}.fits", stamp[:, :, channel], centre)
    # What a download that broke off leaves, and a detector that was switched off.
    (folder / "stamps" / "HDF9001.fits").write_bytes(b"")
    _fits(folder / "stamps" / "HDF9002.fits", np.zeros((_SIDE, _SIDE)), _wcs())
    (folder / "bands" / f"{rows[0]['name']}_g.fits").unlink()


def _cube(path: Path, rows: list[dict[str, str]], stamps: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", data=stamps)  # (N, H, W, C)
        images.attrs["bands"] = "i,r,g"
        images.attrs["pixel_scale"] = SCALE
        file["objid"] = [row["name"] for row in rows]
        file["mag"] = [float(row["mag"]) for row in rows]


def _table(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
