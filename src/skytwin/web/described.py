"""The parameters that several addresses of the API share."""

from __future__ import annotations

from skytwin.embeddings.names import COMBINATIONS, DEFAULT_COMBINE, DEFAULT_METRIC, METRICS
from skytwin.web.parameters import Parameter
from skytwin.web.settings import Limits

__all__ = [
    "ASK",
    "COLUMNS",
    "ID",
    "INSIDE",
    "LIMIT",
    "LIMITS",
    "OFFSET",
    "PICTURE",
    "POSITIVE",
    "SEARCH",
    "SEED",
    "WHERE",
]

#: What requests are held to, as the description says.
LIMITS = Limits()
ID = Parameter(name="id", about="The object's identifier.", where="path", longest=500)
COLUMNS = Parameter(
    name="columns",
    about="Catalogue columns to give; by default the first twelve. Repeatable.",
    repeated=True,
)
WHERE = Parameter(
    name="where", about="SQL condition on the catalogue, such as z < 0.2 and mag_r < 19."
)
INSIDE = Parameter(
    name="inside",
    about="One of mocs of /api/info: only objects that lie within it.",
    default="",
    longest=200,
)
OFFSET = Parameter(
    name="offset", about="Rows to leave out.", kind="integer", default=0, low=0, high=10**9
)
LIMIT = Parameter(
    name="limit", about="Rows to give.", kind="integer", default=100, low=1, high=LIMITS.page
)
SEED = Parameter(
    name="seed",
    about="Of the random background that some combinations take.",
    kind="integer",
    default=0,
    low=0,
    high=2**31 - 1,
)
ASK = (
    Parameter(
        name="like",
        about="A reference: an id, RA,DEC in degrees, or a dropped image. Repeatable.",
        required=True,
        repeated=True,
        most=LIMITS.references,
        longest=500,
    ),
    Parameter(
        name="unlike",
        about="A negative reference, given as like is. Repeatable.",
        repeated=True,
        most=LIMITS.references,
        longest=500,
    ),
    Parameter(name="metric", about="The distance.", default=DEFAULT_METRIC, choices=tuple(METRICS)),
    Parameter(
        name="combine",
        about="How several references become one distance.",
        default=DEFAULT_COMBINE,
        choices=tuple(COMBINATIONS),
    ),
    SEED,
    Parameter(
        name="same_arcsec",
        about="Nearer than this on the sky: the same object.",
        kind="number",
        default=2.0,
        low=0,
        high=3600,
    ),
    Parameter(
        name="match_arcsec",
        about="How far from RA,DEC its object may lie.",
        kind="number",
        default=3.0,
        low=0,
        high=3600,
    ),
)
SEARCH = (
    *ASK,
    Parameter(
        name="k",
        about="How many matches.",
        kind="integer",
        default=100,
        low=1,
        high=LIMITS.matches,
    ),
    Parameter(
        name="radius",
        about="All matches within this distance, instead of k.",
        kind="number",
        low=-1e12,
        high=1e12,
    ),
    WHERE,
    INSIDE,
    Parameter(
        name="include_self",
        about="Keep the references in the list.",
        kind="flag",
        default=False,
    ),
    Parameter(
        name="exact",
        about="Use no index: nothing is missing.",
        kind="flag",
        default=False,
    ),
    Parameter(
        name="embedding",
        about="One of beside of /api/info, to search in place of the first.",
        default="",
        longest=200,
    ),
    Parameter(
        name="probability",
        about="Give each match the probability of being positive; needs labels.",
        kind="flag",
        default=False,
    ),
    OFFSET,
    LIMIT,
    COLUMNS,
)
POSITIVE = Parameter(
    name="positive",
    about="What is positive, column=value or SQL; by default what the server was started with. "
    "Repeatable: or.",
    repeated=True,
    most=20,
)
PICTURE = (
    Parameter(
        name="stretch",
        about="asinh, log, sqrt, linear, zscale, minmax, clip:1,99, or two joined by +.",
        default="",
        longest=60,
    ),
    Parameter(
        name="bands",
        about="One band (grey), two or three (colour), the reddest first: i,r,g.",
        default="",
        longest=200,
    ),
    Parameter(
        name="size",
        about="Longest side in pixels; a smaller image stays as it is.",
        kind="integer",
        default=256,
        low=16,
        high=1024,
    ),
    Parameter(
        name="whole",
        about="The whole frame, not the part that the encoder was given.",
        kind="flag",
        default=False,
    ),
    Parameter(name="version", about="Lets a picture be kept for good.", default="", longest=40),
)
