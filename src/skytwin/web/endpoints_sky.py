"""Addresses of the sky panel and of SAMP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response

from skytwin.errors import DataError
from skytwin.images import arrow
from skytwin.web import schemas
from skytwin.web.ask import Ask
from skytwin.web.described import ASK, SEARCH
from skytwin.web.endpoint import Endpoint, Values
from skytwin.web.library import Library
from skytwin.web.parameters import Parameter
from skytwin.web.replies import json_reply

__all__ = ["samp_endpoints", "sky_endpoints"]

#: Of a search: the list itself, not how it comes in pages.
_PAGED = {"embedding", "probability", "offset", "limit", "columns"}
_LISTED = tuple(one for one in SEARCH if one.name not in _PAGED)


async def _sky(library: Library, _values: Values, _: Request) -> Response:
    return json_reply(await library.sky.facts())


async def _cells(library: Library, values: Values, _: Request) -> Response:
    return json_reply(await library.sky.cells(**values))


async def _clients(library: Library, _values: Values, _: Request) -> Response:
    return json_reply(await library.samp.clients())


async def _received(library: Library, values: Values, _: Request) -> Response:
    return json_reply(library.samp.received(values["after"]))


async def _listen(library: Library, values: Values, _: Request) -> Response:
    await library.samp.listen(values["on"])
    return json_reply({"listening": library.samp.listening})


async def _send(library: Library, values: Values, _: Request) -> Response:
    ask, to, within = Ask.of(values), values["to"], values["within"]
    rest = {one.name: values[one.name] for one in _LISTED if one not in ASK}
    matches = await library.matches(ask, **rest)
    table = matches.table
    if library.positive:
        chance, _notes = await library.probability(ask, matches, matches.distance)
        if chance and chance[0] is not None:
            about = "of being positive, from labels"
            entry = arrow.field("probability", pa.float64(), description=about)
            table = table.append_column(entry, pa.array(chance, pa.float64()))
    if within is not None:
        table = table.slice(0, int(np.searchsorted(matches.distance, within, side="right")))
    if not len(table):
        raise DataError("no match lies so near; move the threshold, or ask for more")
    sent = await library.samp.send(matches, table, to)
    return json_reply({"rows": len(table), "clients": sent.clients, "refused": sent.refused})


def sky_endpoints() -> tuple[Endpoint, ...]:
    """Where the survey is."""
    place = {"kind": "number", "required": True}
    name = Parameter(
        name="name", about="One of mocs of /api/info; else the survey's own.", default=""
    )
    return (
        Endpoint(
            path="/api/sky",
            summary="Areas of footprints, and how many objects lie within them",
            handler=_sky,
            answer=schemas.SKY,
        ),
        Endpoint(
            path="/api/sky-cells",
            summary="A footprint near a place, to draw: RA and Dec of each cell's four corners",
            handler=_cells,
            parameters=(
                name,
                _number("ra", "ICRS degrees.", 0, 360, **place),
                _number("dec", "ICRS degrees.", -90, 90, **place),
                _number("radius", "Of the circle that is shown, in degrees.", 1e-4, 180, **place),
            ),
            answer=schemas.CELLS,
        ),
    )


def samp_endpoints() -> tuple[Endpoint, ...]:
    """TOPCAT, Aladin and other programs of the machine that serves."""
    return (
        Endpoint(
            path="/api/samp/clients",
            summary="Whether there is a SAMP hub, and the programs at it that take tables",
            handler=_clients,
            answer=schemas.SAMP,
            tagged=False,
        ),
        Endpoint(
            path="/api/samp/send",
            summary="Have SAMP clients load the matches, as skytwin search --samp",
            handler=_send,
            method="POST",
            parameters=(
                *_LISTED,
                Parameter(
                    name="to",
                    about="A program's name or how it begins; all: every one.",
                    default="all",
                    longest=200,
                ),
                _number("within", "Only matches at most so far away.", -1e12, 1e12),
            ),
            answer=schemas.SENT,
            tagged=False,
        ),
        Endpoint(
            path="/api/samp/listen",
            summary="Remember what SAMP clients point at from now on, or no longer",
            handler=_listen,
            method="POST",
            parameters=(
                Parameter(name="on", about="Whether to listen.", kind="flag", default=True),
            ),
            answer=schemas.LISTENING,
            tagged=False,
        ),
        Endpoint(
            path="/api/samp/received",
            summary="What SAMP clients pointed at, as identifiers",
            handler=_received,
            parameters=(
                Parameter(
                    name="after",
                    about="Only what has a higher number.",
                    kind="integer",
                    default=0,
                    low=0,
                    high=10**9,
                ),
            ),
            answer=schemas.RECEIVED,
            tagged=False,
        ),
    )


def _number(name: str, about: str, low: float, high: float, **more: Any) -> Parameter:
    return Parameter(**{"kind": "number", **more}, name=name, about=about, low=low, high=high)
