"""Published data sets by name: fetched once, their hashes checked, their labels as columns."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pooch
import pyarrow as pa

from skytwin.errors import DataError, Unreachable, unknown
from skytwin.files import hash_file
from skytwin.images import arrow
from skytwin.images.batches import BatchSource
from skytwin.images.source import RawImage

__all__ = ["DATASETS", "FOLDER_VARIABLE", "Dataset", "DatasetSource", "fetch", "open_dataset"]

FOLDER_VARIABLE = "SKYTWIN_DATA"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A published set of labelled cutouts.

    Attributes
    ----------
    name, title : str
    reference : str
        What to cite.
    terms : str
        On what terms the images may be used.
    urls : tuple of str
        Where the archive is published, tried in this order; the hash decides.
    file : str
        Its place below the folder in ``SKYTWIN_DATA``.
    sha256 : str
    pixel_scale : float
        Arcsec per pixel.
    bands : tuple of str
    classes : tuple of str
        The values of the column ``fr``.
    """

    name: str
    title: str
    reference: str
    terms: str
    urls: tuple[str, ...]
    file: str
    sha256: str
    pixel_scale: float
    bands: tuple[str, ...]
    classes: tuple[str, ...]


_FIRST_TERMS = (
    "FIRST survey images: scholarly, educational and private non-commercial use "
    "(copyright 1994 University of California)"
)
_FRDEEP_PAPER = "Tang, Scaife & Leahy 2019, MNRAS 488, 3358, arXiv:1903.11921"
_FRDEEP_HOME = "https://github.com/HongmingTang060313/FR-DEEP/raw"


def _frdeep_urls(path: str) -> tuple[str, ...]:
    return tuple(f"{_FRDEEP_HOME}/{ref}/{path}" for ref in ("b01744e", "master"))


DATASETS: Mapping[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset(
            name="frdeep-nvss",
            title="FR-DEEP, 600 radio galaxies as NVSS sees them",
            reference=_FRDEEP_PAPER,
            terms="NVSS images: public, with acknowledgement of NRAO",
            urls=_frdeep_urls("NVSS_data/NVSS_PNG_dataset.tar.gz"),
            file="frdeep/NVSS_PNG_dataset.tar.gz",
            sha256="37ef88b83a8177454002dd2dea3075d54b9b60a31ada44caa922dfbd8fbb2248",
            pixel_scale=15.0,
            bands=("1.4GHz",),
            classes=("FRI", "FRII"),
        ),
        Dataset(
            name="frdeep-first",
            title="FR-DEEP, the same 600 radio galaxies as FIRST sees them",
            reference=_FRDEEP_PAPER,
            terms=_FIRST_TERMS,
            urls=_frdeep_urls("FIRST_data/FIRST_PNG_dataset.tar.gz"),
            file="frdeep/FIRST_PNG_dataset.tar.gz",
            sha256="9bacbcc771a0b7d373ae1340e290bc1950531ed4fa1fa17d5d3d14295c9b2c48",
            pixel_scale=1.8,
            bands=("1.4GHz",),
            classes=("FRI", "FRII"),
        ),
        Dataset(
            name="mirabest",
            title="MiraBest, 1256 radio galaxies classified by eye, as FIRST sees them",
            reference="Porter & Scaife 2023, RASTI 2, 293, arXiv:2305.11108, "
            "doi:10.5281/zenodo.4288837; classes of Miraghaei & Best 2017, MNRAS 466, 4346",
            terms=_FIRST_TERMS,
            urls=(
                "https://zenodo.org/records/5588282/files/MiraBest_F_batches.tar.gz",
                "https://zenodo.org/records/4288837/files/MiraBest_F_batches.tar.gz",
                "http://www.jb.man.ac.uk/research/MiraBest/MiraBest_F/MiraBest_F_batches.tar.gz",
            ),
            file="mirabest/MiraBest_F_batches.tar.gz",
            sha256="5ad6b8fbe982e4f7ae52d3f88dd2e6cb03de0c4f7c00b00b92608c6e78a5243b",
            pixel_scale=1.8,
            bands=("1.4GHz",),
            classes=("FRI", "FRII", "Hybrid"),
        ),
    )
}


def open_dataset(name: str, *, folder: Path | None = None) -> DatasetSource:
    """Open a published set, one of `DATASETS`.

    Its archive is taken from ``folder``, else from the folder in the environment variable
    ``SKYTWIN_DATA``, else from the cache, into which it is downloaded if need be.

    Raises
    ------
    UnknownName
        There is no such set.
    Unreachable
        It cannot be downloaded.
    DataError
        The file found is another one, or is not where it should be.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    dataset = DATASETS[name]
    if folder is None and os.environ.get(FOLDER_VARIABLE):
        folder = Path(os.environ[FOLDER_VARIABLE])
    path = fetch(dataset) if folder is None else _find(dataset, folder)
    return DatasetSource(dataset, path)


def _find(dataset: Dataset, folder: Path) -> Path:
    path = folder / dataset.file
    if not path.is_file():
        raise DataError(
            f"no file {str(path)!r} for {dataset.name}; put the one from {dataset.urls[0]} there, "
            f"or unset {FOLDER_VARIABLE} to have it downloaded"
        )
    found = hash_file(path)
    if found != dataset.sha256:
        raise DataError(
            f"{str(path)!r} is not the published {dataset.name}: its SHA-256 is {found[:12]}..., "
            f"not {dataset.sha256[:12]}...; replace it by the file from {dataset.urls[0]}"
        )
    return path


def fetch(dataset: Dataset) -> Path:
    """The archive in the user's cache, downloaded unless it is there with the right hash.

    Raises
    ------
    Unreachable
        No address answered.
    DataError
        What was downloaded is not the published file.
    """
    reasons = []
    other_content = False
    for url in dataset.urls:
        try:
            found = pooch.retrieve(
                url,
                known_hash=f"sha256:{dataset.sha256}",
                path=pooch.os_cache("skytwin"),
                fname=Path(dataset.file).name,
            )
        except ValueError:  # pooch's word for another hash
            other_content = True
            reasons.append("not the published file, its hash differs")
        except OSError as error:  # requests' errors are of this kind
            reasons.append(_reason(error))
        else:
            return Path(found)
    tried = "; ".join(f"{url}: {why}" for url, why in zip(dataset.urls, reasons, strict=True))
    kind = DataError if other_content else Unreachable
    raise kind(
        f"cannot download {dataset.name} ({tried}); fetch it another way and set "
        f"{FOLDER_VARIABLE} to a folder that holds it as {dataset.file}"
    )


def _reason(error: OSError) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"HTTP {status}" if status else error.strerror or type(error).__name__


class DatasetSource:
    """A published set as an image source; see `open_dataset`.

    Attributes
    ----------
    dataset : Dataset
        What it is, and how to cite it.
    """

    def __init__(self, dataset: Dataset, path: Path) -> None:
        batches = BatchSource(path)
        self.dataset = dataset
        self._batches = batches
        self.location = str(path)
        self.origins = batches.origins
        self.recipe: Mapping[str, Any] = {"dataset": dataset.name, "sha256": dataset.sha256}
        ids, self.table = _LABELS[dataset.name](batches)
        self.ids: Sequence[str] = ids
        self._ra, self._dec = (
            self.table[key].to_pylist() if key in self.table.column_names else None
            for key in ("ra", "dec")
        )

    def read(self, index: int) -> RawImage:
        """Read one image; see `skytwin.images.source.ImageSource.read`."""
        return replace(
            self._batches.read(index),
            bands=self.dataset.bands,
            pixel_scale=self.dataset.pixel_scale,
            ra=None if self._ra is None else self._ra[index],
            dec=None if self._dec is None else self._dec[index],
        )


def _frdeep(batches: BatchSource) -> tuple[list[str], pa.Table]:
    table = batches.table
    classes, files = table["class"].to_pylist(), table["filename"].to_pylist()
    # File names repeat between the classes.
    ids = [f"{fr}_{Path(file).stem}" for fr, file in zip(classes, files, strict=True)]
    return ids, pa.table(
        {
            "fr": table["class"],
            "split": table["split"],
            "batch": table["batch"],
            "label": table["label"],
        }
    )


_MIRABEST_NAME = re.compile(r"(\d)(\d)(\d)_(\d+\.\d+)([+-]\d+\.\d+)_(\d+\.\d+)_(\d+\.\d+)")
_FR = {"1": "FRI", "2": "FRII", "3": "Hybrid"}
_CONFIDENCE = {"0": "confident", "1": "uncertain"}
_MORPHOLOGY = {
    "0": "standard",
    "1": "double-double",
    "2": "wide-angle-tail",
    "3": "diffuse",
    "4": "head-tail",
}


def _mirabest(batches: BatchSource) -> tuple[list[str], pa.Table]:
    """Labels from the names: three digits of class, RA and Dec, redshift, angular size.

    The digits, of FR class, confidence and morphology, are those of Porter & Scaife 2023.
    """
    ids = list(batches.ids)
    found = [_MIRABEST_NAME.fullmatch(name) for name in ids]
    names = [match for match in found if match is not None]
    if len(names) != len(ids):
        other = ids[found.index(None)]
        raise DataError(f"{other!r} is no name of MiraBest's; expected CLASS_RA+DEC_Z_SIZE")
    text = pa.string()
    real = pa.float64()
    fields = {
        arrow.field("code", text): ["".join(name.groups()[:3]) for name in names],
        arrow.field("fr", text): [_FR.get(name[1]) for name in names],
        arrow.field("confidence", text): [_CONFIDENCE.get(name[2]) for name in names],
        arrow.field("morphology", text): [_MORPHOLOGY.get(name[3]) for name in names],
        arrow.field("ra", real, unit="deg", ucd="pos.eq.ra;meta.main"): [
            float(n[4]) for n in names
        ],
        arrow.field("dec", real, unit="deg", ucd="pos.eq.dec;meta.main"): [
            float(n[5]) for n in names
        ],
        arrow.field("redshift", real, ucd="src.redshift"): [float(n[6]) for n in names],
        arrow.field("las_arcsec", real, unit="arcsec", ucd="phys.angSize"): [
            float(n[7]) for n in names
        ],
    }
    table = pa.Table.from_arrays(
        [pa.array(values, entry.type) for entry, values in fields.items()],
        schema=pa.schema(list(fields)),
    )
    for key in ("split", "batch"):
        table = table.append_column(key, batches.table[key])
    return ids, table


_LABELS: Mapping[str, Callable[[BatchSource], tuple[list[str], pa.Table]]] = {
    "frdeep-nvss": _frdeep,
    "frdeep-first": _frdeep,
    "mirabest": _mirabest,
}
