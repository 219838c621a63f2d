"""What `skytwin serve` was asked for, and the limits it keeps."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from skytwin.errors import UsageError

__all__ = ["Limits", "Settings", "is_loopback"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may cost.

    Attributes
    ----------
    upload_bytes : int
        Size of an image file that is dropped on the page.
    upload_pixels : int
        Its pixels over all bands.
    decode_seconds : float
        Time to decode it.
    decode_bytes : int
        Memory to decode it.
    json_bytes : int
        Size of a JSON body.
    import_bytes, import_rows : int
        Size of a table of labels.
    images : int
        Dropped images that are kept; the oldest goes first.
    matches : int
        Matches of one search.
    page : int
        Rows of one answer.
    references : int
        References of one search.
    searches : int
        Answers kept in memory.
    thumbnail_bytes, reply_bytes : int
        Thumbnails, and answers as they were sent, kept in memory.
    waiting : int
        Searches that may wait; one more is told to come back.
    where_seconds : float
        Time that the conditions of one request may take.
    where_bytes : int
        Memory likewise.
    patience_seconds : float
        How long a client may take to send a request, or to take in a part of an answer.
    """

    upload_bytes: int = 32 << 20
    upload_pixels: int = 64_000_000
    decode_seconds: float = 20.0
    decode_bytes: int = 3 << 30
    json_bytes: int = 64 << 10
    import_bytes: int = 32 << 20
    import_rows: int = 1_000_000
    images: int = 64
    matches: int = 10_000
    page: int = 500
    references: int = 100
    searches: int = 64
    thumbnail_bytes: int = 64 << 20
    reply_bytes: int = 32 << 20
    waiting: int = 32
    where_seconds: float = 5.0
    where_bytes: int = 2 << 30
    patience_seconds: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is served, and to whom.

    Attributes
    ----------
    embedding : Path
        Folder of `skytwin embed`.
    cutouts : Path or None
        Where the images are, if they were moved.
    beside : tuple of Path
        More embeddings of the same objects, to search beside the first.
    maps : tuple of Path
        Folders of `skytwin map`.
    positive : tuple of str
        What is positive, ``column=value`` or SQL; several are joined by or.
    labels : Path or None
        The same from a table with the columns id and label.
    outliers : Path or None
        Folder of `skytwin outliers`: its scores become columns ``odd_...``.
    mocs : tuple of Path
        Files of MOCs: parts of the sky, to draw and to search within, by their names.
    samp : bool
        Listen to what SAMP clients point at from the beginning.
    aladin : bool
        Allow Aladin Lite, which a browser loads from the CDS, once the user turns it on.
    aladin_from : Path or None
        A folder of this machine to load its script, ``aladin.js``, from.
    label_book : Path or None
        Where labels that people give are kept; ``EMBEDDING.labels.sqlite`` beside the embedding
        by default.
    plans : tuple of Path
        Folders of `skytwin certify plan`, to be labelled.
    weights : Path or None
        The encoder's weights, if they are no longer where they were.
    host : str
        Address to listen at.
    port : int
        0: any that is free.
    token : str or None
        Asked of every client where it is given; another address than loopback needs one.
    limits : Limits

    Raises
    ------
    UsageError
        An address beyond loopback without a token; positives given in two ways.
    """

    embedding: Path
    cutouts: Path | None = None
    beside: tuple[Path, ...] = ()
    maps: tuple[Path, ...] = ()
    positive: tuple[str, ...] = ()
    labels: Path | None = None
    outliers: Path | None = None
    mocs: tuple[Path, ...] = ()
    samp: bool = False
    aladin: bool = False
    aladin_from: Path | None = None
    label_book: Path | None = None
    plans: tuple[Path, ...] = ()
    weights: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < _SHORTEST_TOKEN:
            raise UsageError(
                f"token of {len(self.token)} characters; expected at least {_SHORTEST_TOKEN}"
            )
        if not is_loopback(self.host) and self.token is None:
            raise UsageError(
                f"host {self.host}: others could read the survey; give --token SECRET, or keep "
                "to 127.0.0.1 and reach it through an SSH tunnel"
            )
        if self.positive and self.labels is not None:
            raise UsageError("--positive and --labels both say what is positive; give one of them")
        if self.aladin_from is not None and not self.aladin:
            raise UsageError("--aladin-from says where --aladin loads from; give both")
        if not 0 <= self.port <= 65535:
            raise UsageError(f"port {self.port}; expected 0 to 65535")


_SHORTEST_TOKEN = 12


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
