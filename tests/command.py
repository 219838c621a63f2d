"""The command line as tests call it: in this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from skytwin.cli import main
from toys import blob


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def skytwin(*words: object) -> Outcome:
    """Run a command in this process, through its real entry point."""
    out, err = io.StringIO(), io.StringIO()
    line = ["skytwin", *map(str, words)]
    code: object = None
    with (
        mock.patch.object(sys, "argv", line),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    return Outcome(code=int(str(code)), out=out.getvalue(), err=err.getvalue())


def done(*words: object) -> str:
    """Run a command that must succeed without a word on standard error; what it printed."""
    outcome = skytwin(*words)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def process(*words: object, before: str = "") -> Outcome:
    """Run a command as a process of its own, some Python put before it."""
    # The workers of a test runner are deaf to interrupts, and so would be what they start.
    hear = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hear}\n{before}\nfrom skytwin.cli import main\nmain()"
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return Outcome(code=ended.returncode, out=ended.stdout, err=ended.stderr)


def contents(*folders: Path) -> dict[str, str]:
    """SHA-256 of every file below some folders, the record of the last check aside."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".verified.json"
    }


def header(row: int, scale: float = 0.5) -> fits.Header:
    """A WCS whose centre lies ``row`` hundredths of a degree from RA 10, Dec 20."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [10 + row / 100, 20.0], [9.0, 9.0]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    made = wcs.to_header()
    made["BUNIT"] = "nJy"
    return made


def images(folder: Path, count: int = 40, size: int = 16) -> Path:
    """A folder of FITS images ``g00.fits`` ..., with WCS and unit."""
    folder.mkdir(parents=True)
    for row in range(count):
        fits.writeto(folder / f"g{row:02d}.fits", blob(row, size)[0], header(row))
    return folder


def catalogue(path: Path, count: int = 40) -> Path:
    """A table of the images' names, positions, classes, brightness and 18-digit numbers."""
    rng = np.random.default_rng(0)
    lines = ["name,RA,DEC,kind,mag,sdss_id"]
    lines += [
        f"g{row:02d},{10 + row / 100},20.0,{'ab'[row % 4 > 0]},{rng.uniform(15, 20):.3f},"
        f"{587722981733826738 + row}"
        for row in range(count)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
