"""Simple Cone Search over an embedding, the likeness to an object as a column.

Reference: Plante et al. 2008, *Simple Cone Search*, IVOA recommendation 1.03 (its UCDs are of the
old kind, as it demands); MAXREC and the overflow mark are those of DALI 1.1.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skytwin.answers.export_votable import votable_bytes
from skytwin.answers.query import resolve, separation_arcsec
from skytwin.answers.ranking import How, how_named, make_ranker
from skytwin.embeddings.names import DEFAULT_METRIC
from skytwin.embeddings.neighbours import rank_some
from skytwin.embeddings.table import Embeddings
from skytwin.errors import SkytwinError, UsageError
from skytwin.images import arrow
from skytwin.images.columns import unit_vectors

__all__ = ["ConeSearch", "routes"]

_MEDIA_TYPE = "text/xml;content=x-votable"
_DEFAULT_ROWS, _MOST_ROWS = 10_000, 100_000
#: What the recommendation wants the three columns to be.
_UCDS = {"id": "ID_MAIN", "ra": "POS_EQ_RA_MAIN", "dec": "POS_EQ_DEC_MAIN"}


@dataclass(frozen=True, kw_only=True)
class _Cone:
    """What was asked: degrees; ``rows`` at most; ``verb`` 1 (few columns) to 3 (all)."""

    ra: float
    dec: float
    radius: float
    rows: int
    verb: int
    like: str | None


class ConeSearch:
    """Answers cone searches; the sky is indexed once, at the first.

    Parameters
    ----------
    embeddings : Embeddings
        With positions.
    metric : str
        Of the likeness.

    Raises
    ------
    UsageError
        There are no positions.
    """

    def __init__(self, embeddings: Embeddings, *, metric: str = DEFAULT_METRIC) -> None:
        if embeddings.positions is None:
            raise UsageError("a cone search needs positions; ingest with a catalogue of RA and Dec")
        self.embeddings = embeddings
        self.positions = embeddings.positions
        self._how = How.of(metric=metric, combine="mean", seed=0, same_arcsec=2.0)
        # Of arrays it is a hash over all of them: once is enough.
        self._fingerprint = embeddings.as_parent().fingerprint
        self._lock = threading.Lock()
        self._index: tuple[np.ndarray, cKDTree] | None = None

    def answer(self, query: Sequence[tuple[str, str]]) -> bytes:
        """The VOTable for a query's parameters; an error is a VOTable too, as the standard has it.

        Parameters
        ----------
        query : sequence of (str, str)
            ``RA``, ``DEC``, ``SR`` in degrees; ``VERB``, ``MAXREC``, ``LIKE`` (an identifier of
            the embedding) where wanted. Case does not matter, others are ignored.
        """
        try:
            return self._found(_parse(query))
        except SkytwinError as error:
            return error_document(str(error))

    def _found(self, cone: _Cone) -> bytes:
        rows, away = self.within(cone.ra, cone.dec, cone.radius)
        if cone.radius == 0:  # a question about the columns alone
            rows, away = rows[:0], away[:0]
        more = len(rows) > cone.rows
        rows, away = rows[: cone.rows], away[: cone.rows]
        meta = {"skytwin": "cone search", "embedding": self._fingerprint}
        likeness = None
        if cone.like is not None:
            (reference,) = resolve(self.embeddings, [self._known(cone.like)])
            ranker = make_ranker(self.embeddings, [reference], self._how)
            found = rank_some(self.embeddings.vectors, ranker, rows)
            # In order of likeness from here on.
            by_row = np.argsort(rows)
            away = away[by_row[np.searchsorted(rows, found.rows, sorter=by_row)]]
            rows, likeness = found.rows, found.distance
            meta |= {"like": cone.like, "metric": self._how.metric}
        made = self._table(rows, away, likeness, cone.verb)
        return _with_status(votable_bytes(made, meta), overflow=more)

    def within(self, ra: float, dec: float, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Rows at most ``radius`` degrees away and how far, in degrees, the nearest first.

        Equivalent to::

            away = SkyCoord(ra, dec).separation(SkyCoord(positions))
            np.flatnonzero(away <= radius)
        """
        known, tree = self._sky()
        centre = unit_vectors(np.array([[ra, dec]]))[0]
        # A little wider, for rounding; the separation itself decides.
        chord = 2 * np.sin(np.radians(min(radius, 180.0)) / 2) + 1e-9
        near = known[np.array(tree.query_ball_point(centre, chord), dtype=np.int64)]
        away = separation_arcsec(self.positions[near], ra, dec) / 3600.0
        inside = away <= radius
        near, away = near[inside], away[inside]
        order = np.lexsort((near, away))
        return near[order], away[order]

    def _sky(self) -> tuple[np.ndarray, cKDTree]:
        with self._lock:
            if self._index is None:
                known = np.flatnonzero(np.isfinite(self.positions).all(axis=1))
                self._index = (
                    known,
                    cKDTree(unit_vectors(self.positions[known]), balanced_tree=False),
                )
            return self._index

    def _known(self, name: str) -> str:
        # Nothing but an identifier: a client may not name files of this machine.
        return str(self.embeddings.ids[self.embeddings.index[name]])

    def _table(
        self, rows: np.ndarray, away: np.ndarray, likeness: np.ndarray | None, verb: int
    ) -> pa.Table:
        catalog = self.embeddings.catalog.take(pa.array(rows))
        real = pa.float64()
        ra, dec = self.positions[rows].T
        lead: dict[str, tuple[pa.Field, pa.Array]] = {
            "id": (arrow.field("id", pa.string(), ucd=_UCDS["id"]), catalog["id"].combine_chunks()),
            "ra": (arrow.field("ra", real, unit="deg", ucd=_UCDS["ra"]), pa.array(ra)),
            "dec": (arrow.field("dec", real, unit="deg", ucd=_UCDS["dec"]), pa.array(dec)),
        }
        lead["separation"] = (
            arrow.field(
                "separation",
                real,
                unit="deg",
                ucd="pos.angDistance",
                description="from the centre of the cone",
            ),
            pa.array(away),
        )
        if likeness is not None:
            said = how_named({"metric": self._how.metric})
            lead["distance"] = (
                arrow.field("distance", real, description=f"{said} to the object LIKE; 0: equal"),
                pa.array(likeness),
            )
        fields = [entry for entry, _ in lead.values()]
        columns = [values for _, values in lead.values()]
        for entry in catalog.schema:
            plain = not pa.types.is_nested(entry.type)
            if entry.name in ("id", "ra", "dec") or verb < 2 or (verb < 3 and not plain):
                continue
            name = entry.name if entry.name.lower() not in lead else f"{entry.name}_catalog"
            fields.append(_plain_ucd(entry.with_name(name)))
            columns.append(catalog[entry.name].combine_chunks())
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def routes(
    embeddings: Embeddings, path: str = "/cone", *, metric: str = DEFAULT_METRIC
) -> list[Route]:
    """The address of a cone search, for a Starlette application."""
    search = ConeSearch(embeddings, metric=metric)

    def cone(request: Request) -> Response:
        document = search.answer(request.query_params.multi_items())
        return Response(document, media_type=_MEDIA_TYPE)

    return [Route(path, cone, methods=["GET"])]


def error_document(message: str) -> bytes:
    """An error as the standard has it: a VOTable with an INFO called Error, and DALI's status."""
    text = quoteattr(message)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n'
        f' <INFO ID="Error" name="Error" value={text}/>\n'
        ' <RESOURCE type="results">\n'
        f'  <INFO name="QUERY_STATUS" value="ERROR">{text[1:-1]}</INFO>\n'
        " </RESOURCE>\n"
        "</VOTABLE>\n"
    ).encode()


def _parse(query: Sequence[tuple[str, str]]) -> _Cone:
    given: dict[str, str] = {}
    for name, value in query:
        if name.upper() in given:
            raise UsageError(f"{name.upper()} is given twice")
        given[name.upper()] = value
    like = given.get("LIKE", "").strip() or None
    radius = _number(given, "SR", 0.0, 180.0)
    return _Cone(
        ra=_number(given, "RA", 0.0, 360.0),
        dec=_number(given, "DEC", -90.0, 90.0),
        radius=radius,
        rows=int(_number(given, "MAXREC", 0, _MOST_ROWS, default=_DEFAULT_ROWS, whole=True)),
        verb=int(_number(given, "VERB", 1, 3, default=2, whole=True)),
        like=like,
    )


def _number(
    given: Mapping[str, str],
    name: str,
    low: float,
    high: float,
    *,
    default: float | None = None,
    whole: bool = False,
) -> float:
    text = given.get(name, "").strip()
    if not text and default is not None:
        return default
    if not text:
        raise UsageError(f"{name} is missing; a cone search needs RA, DEC and SR, in degrees")
    try:
        value = float(int(text)) if whole else float(text)
    except ValueError:
        value = np.nan
    if not low <= value <= high:
        what = "a whole number" if whole else "a number"
        raise UsageError(f"{name}={text!r}; expected {what} from {low:g} to {high:g}")
    return value


def _plain_ucd(entry: pa.Field) -> pa.Field:
    """Without a UCD that would make it a second main position or identifier."""
    tags = arrow.described(entry)
    if "MAIN" in tags.get("ucd", "").upper():
        tags.pop("ucd")
    return arrow.field(entry.name, entry.type, **tags)


def _with_status(document: bytes, *, overflow: bool) -> bytes:
    """DALI's status: ahead of the table that all is well, after it that rows were left out."""
    before, table, after = document.rpartition(b"</TABLE>")
    if overflow:
        return before + table + b'\n  <INFO name="QUERY_STATUS" value="OVERFLOW"/>' + after
    head, mark, rest = before.partition(b'<RESOURCE type="results">')
    return head + mark + b'\n  <INFO name="QUERY_STATUS" value="OK"/>' + rest + table + after
