"""What is served: an embedding that stays open, its images, its maps, and answers about them.

Every method that computes runs in a pool of its own: searches one after the other, for each of
them takes a whole processor and the memory's bandwidth, pictures beside them.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib.metadata
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from skytwin.answers.purity import purity
from skytwin.answers.ranking import how_named
from skytwin.answers.search import Matches, search
from skytwin.answers.trust import trust
from skytwin.embeddings.names import COMBINATIONS, DEFAULT_COMBINE, DEFAULT_METRIC, METRICS
from skytwin.embeddings.table import Embeddings
from skytwin.errors import SkytwinError, UnknownName, UsageError, unknown
from skytwin.images.where import bound_this_thread, matching_rows, positive_rows
from skytwin.images.where_apart import Bounds
from skytwin.web import rows
from skytwin.web.added import LABEL, added, with_labels, with_outliers
from skytwin.web.ask import Ask, likes
from skytwin.web.curves import counts_of, curve_of
from skytwin.web.labels import Desk
from skytwin.web.once import Once
from skytwin.web.others import map_points, open_beside
from skytwin.web.samp import Samp
from skytwin.web.settings import Settings
from skytwin.web.sky import Sky
from skytwin.web.thumbnails import Picture, Pictures
from skytwin.web.uploads import Dropped, Uploads
from skytwin.web.why import Why

__all__ = ["Library"]


class Library:
    """Everything a page shows, by the functions that the command line calls.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    SkytwinError
        The embedding, a map or the labels cannot be opened; no object is positive.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.limits = settings, settings.limits
        embeddings = Embeddings.open(settings.embedding)
        self.positive = settings.positive
        if settings.labels is not None:
            embeddings = with_labels(embeddings, settings.labels)
            self.positive = (LABEL,)
        if settings.outliers is not None:
            embeddings = with_outliers(embeddings, settings.outliers)
        if self.positive:
            positive_rows(embeddings.catalog, self.positive)
        self.embeddings = embeddings
        self.pictures: Pictures | None = None
        self.no_pictures = ""
        try:
            self.pictures = Pictures(embeddings, embeddings.cutouts(settings.cutouts))
        except UsageError as reason:
            if settings.cutouts is not None:
                raise
            self.no_pictures = str(reason)
        self.beside = open_beside(embeddings, settings)
        self.maps = {path.name: map_points(embeddings, path) for path in settings.maps}
        self.uploads = Uploads(embeddings, settings.weights, self.limits)
        self.sky = Sky(embeddings, settings.mocs)
        self.samp = Samp(embeddings)
        self.version = self._version()
        bounds = Bounds(seconds=self.limits.where_seconds, memory=self.limits.where_bytes)
        self._searching = ThreadPoolExecutor(1, "search", initializer=_prepared, initargs=(bounds,))
        self._drawing = ThreadPoolExecutor(2, "draw")
        self._explaining = ThreadPoolExecutor(1, "explain")
        self._answers: Once[Any] = Once(
            self._searching, room=self.limits.searches, waiting=self.limits.waiting
        )
        self.desk = Desk(embeddings, settings, self._searching, self._given)
        self._loading: asyncio.Future[dict[str, Any]] | None = None
        self._why = Why(embeddings, self.pictures, settings.weights)
        self._whys: Once[dict[str, Any]] = Once(
            self._explaining, room=self.limits.searches, waiting=4
        )
        self._thumbnails: Once[bytes] = Once(
            self._drawing, room=self.limits.thumbnail_bytes, waiting=1000, size=len
        )

    def close(self) -> None:
        """Let go of what runs."""
        self.desk.close()
        self.samp.close()
        self.sky.close()
        for pool in (self._searching, self._drawing, self._explaining):
            pool.shutdown(wait=True, cancel_futures=True)

    def _version(self) -> str:
        """Changes with whatever could change an answer."""
        digest = hashlib.sha256(self.embeddings.as_parent().fingerprint.encode())
        digest.update(importlib.metadata.version("skytwin").encode())
        if self.pictures is not None:
            digest.update(self.pictures.cutouts.manifest.fingerprint.encode())
        others = [[name, one.as_parent().fingerprint] for name, one in self.beside.items()]
        digest.update(json.dumps([self.positive, list(self.maps), others]).encode())
        digest.update(self.sky.fingerprint)
        for points in self.maps.values():
            digest.update(points)
        for name in added(self.embeddings):
            digest.update(str(self.embeddings.catalog[name].to_pylist()).encode())
        return digest.hexdigest()[:16]

    @functools.cached_property
    def info(self) -> dict[str, Any]:
        """What is served, and what can be asked of it."""
        embeddings, pictures = self.embeddings, self.pictures
        frame: dict[str, Any] | None = None
        if pictures is not None:
            height, width = pictures.cutouts.shape[2:]
            side = min(pictures.crop or width, width)
            frame = {"width": width, "height": height, "shown": side}
        return {
            "name": self.settings.embedding.resolve().name,
            "objects": len(embeddings),
            "dim": embeddings.dim,
            "encoder": embeddings.encoder_name,
            "bands": list(embeddings.bands),
            "pixel_scale": pictures.cutouts.pixel_scale if pictures else embeddings.pixel_scale,
            "frame": frame,
            "images": pictures is not None,
            "no_images": self.no_pictures,
            "query_images": self.uploads.possible,
            "positions": embeddings.positions is not None,
            "samp": self.samp.possible,
            "sky": self.sky.possible,
            "mocs": list(self.sky.mocs),
            "aladin": self.settings.aladin,
            "columns": rows.column_facts(embeddings),
            "shown": list(rows.default_columns(embeddings)),
            "metrics": list(METRICS),
            "metric": DEFAULT_METRIC,
            "combinations": list(COMBINATIONS),
            "combine": DEFAULT_COMBINE,
            "positive": list(self.positive),
            "maps": list(self.maps),
            "beside": list(self.beside),
            "version": self.version,
        }

    def object(self, name: str) -> dict[str, Any]:
        """All that the catalogue has of an object."""
        if name not in self.embeddings.index:  # with no guess at another: that takes long
            raise UnknownName(f"unknown id {name!r}; search by a position, or correct it")
        every = [c for c in self.embeddings.catalog.column_names if c not in {"id", "ra", "dec"}]
        return rows.rows_of(self.embeddings, [self.embeddings.index[name]], every)[0]

    def rows_at(self, numbers: tuple[int, ...], columns: tuple[str, ...]) -> dict[str, Any]:
        """Objects by their row numbers."""
        count = len(self.embeddings)
        bad = [number for number in numbers if not 0 <= number < count]
        if bad:
            raise UsageError(f"row {bad[0]}; expected 0 to {count - 1}")
        return {"rows": rows.rows_of(self.embeddings, numbers, self._columns(columns))}

    async def objects(
        self,
        *,
        where: str | None,
        inside: str,
        sort: str | None,
        descending: bool,
        seed: int,
        offset: int,
        limit: int,
        columns: tuple[str, ...],
    ) -> dict[str, Any]:
        """Objects in the order of a column, or in a random one."""

        def made() -> np.ndarray:
            found = np.arange(len(self.embeddings))
            if where:
                found = np.flatnonzero(matching_rows(self.embeddings.catalog, where))
            if inside:
                found = found[self.sky.within(inside)[found]]
            if sort:
                return rows.sorted_by(self.embeddings.column(sort), found, descending)
            return np.random.default_rng(seed).permutation(found)

        key = ("objects", where, inside, sort, descending, seed)
        order = await self._answers.get(key, made)
        names, part = self._columns(columns), order[offset : offset + limit]
        found = rows.rows_of(self.embeddings, part, names)
        return {"total": len(order), "offset": offset, "rows": found}

    async def matches(
        self, ask: Ask, *, embedding: str = "", inside: str = "", **settings: Any
    ) -> Matches:
        """The objects most like some references: `skytwin.search`, whose settings these are.

        ``inside`` is the name of a MOC that is served.
        """
        source = self._source(embedding)
        moc = self.sky.path(inside)
        key = ("search", embedding, inside, ask, tuple(sorted(settings.items())))

        def made() -> Matches:
            likes_, unlikes = self._given(ask, source)
            return search(source, likes_, unlike=unlikes, inside=moc, **settings, **ask.how)

        found: Matches = await self._answers.get(key, made)
        return found

    async def search(
        self,
        ask: Ask,
        *,
        embedding: str,
        probability: bool,
        offset: int,
        limit: int,
        columns: tuple[str, ...],
        **settings: Any,
    ) -> dict[str, Any]:
        """A page of `matches`, as JSON."""
        source = self._source(embedding)
        names = columns or rows.default_columns(source)
        rows.rows_of(source, [], names)
        matches = await self.matches(ask, embedding=embedding, **settings)
        part = slice(offset, offset + limit)
        distance = matches.distance[part]
        chance: list[float | None] = [None] * len(distance)
        notes: list[str] = []
        if probability:
            if embedding:
                raise UsageError(
                    "probabilities are of the first embedding; leave one of the two out"
                )
            chance, notes = await self.probability(ask, matches, distance)
        found = rows.rows_of(source, matches.rows[part], names)
        texts = [*ask.like, *ask.unlike]
        for number, one in enumerate(found):
            one["rank"] = offset + number + 1
            one["distance"] = float(distance[number])
            one["reference"] = int(matches.reference[part][number])
            one["probability"] = chance[number]
        return {
            "total": len(matches),
            "offset": offset,
            "references": [
                {
                    "text": text,
                    "id": reference.id,
                    "name": self.uploads[text].name if reference.id is None else reference.name,
                    "negative": reference.negative,
                    "ra": reference.ra,
                    "dec": reference.dec,
                }
                for text, reference in zip(texts, matches.references, strict=True)
            ],
            "how": how_named(matches.settings),
            "scanned": matches.scanned,
            "excluded": matches.excluded,
            "reach": float(matches.distance[-1]) if len(matches) else None,
            "command": self._command(ask, source, **settings),
            "notes": notes,
            "rows": found,
        }

    async def probability(
        self, ask: Ask, matches: Matches, distance: np.ndarray
    ) -> tuple[list[float | None], list[str]]:
        """Probabilities of being positive at some distances, and what is to be said of them."""
        if not self.positive:
            raise UsageError("no labels; start with --positive COLUMN=VALUE or --labels FILE")

        def made() -> Any:
            try:
                found = trust(
                    matches,
                    positive=self.positive,
                    null_queries=0,
                    group_arcsec=ask.same_arcsec,
                    seed=ask.seed,
                )
            except SkytwinError as reason:  # too few labels: the matches are still worth showing
                return None, [f"no probabilities: {reason}"]
            return found.calibration, found.lines

        calibration, notes = await self._answers.get(("probability", ask), made)
        if calibration is None:
            return [None] * len(distance), notes
        return [float(p) for p in calibration.predict(distance)], notes

    async def purity(self, ask: Ask, positive: tuple[str, ...]) -> dict[str, Any]:
        """Purity against distance, thinned to what a screen shows: `skytwin.purity`."""
        asked = positive or self.positive
        if not asked:
            raise UsageError("nothing is positive; give positive=COLUMN=VALUE")

        def made() -> dict[str, Any]:
            likes_, unlikes = self._given(ask)
            return curve_of(purity(self.embeddings, likes_, asked, unlike=unlikes, **ask.how))

        found: dict[str, Any] = await self._answers.get(("purity", ask, asked), made)
        return found

    async def distances(self, ask: Ask, where: str | None, inside: str) -> dict[str, Any]:
        """How many objects lie within every distance, thinned likewise."""
        nearest = await self.matches(ask, k=1, where=where, inside=inside)
        key = ("distances", ask, where, inside)
        found: dict[str, Any] = await self._answers.get(key, lambda: counts_of(nearest))
        return found

    async def why(self, ask: Ask, name: str) -> dict[str, Any]:
        """Where in the images the likeness of an object lies: `skytwin.answers.explain`."""
        self.object(name)

        def made() -> Matches:
            likes_, unlikes = self._given(ask)
            return search(self.embeddings, likes_, unlike=unlikes, k=1, **ask.how)

        one: Matches = await self._answers.get(("why", ask), made)
        return await self._whys.get((ask, name), lambda: self._why.of(one, name))

    async def why_state(self, load: bool) -> dict[str, Any]:
        """Whether an explanation can be had at once, and what takes time now."""
        if load and self.pictures is not None and not self._why.ready:
            # Not waited for: a server that is stopped must not have to wait for a reply to it.
            loading = self._whys.get("ready", lambda: {"ready": self._why.prepare()})
            self._loading = asyncio.ensure_future(loading)
            self._loading.add_done_callback(lambda done: done.cancelled() or done.exception())
        return {"ready": self._why.ready, "doing": self._why.doing}

    def check_picture(self, picture: Picture) -> Pictures:
        """The pictures, if there are any and they can be drawn so."""
        if self.pictures is None:
            raise unknown("picture", "thumbnail", (), self.no_pictures)
        self.pictures.check(picture)
        return self.pictures

    async def thumbnail(self, name: str, picture: Picture) -> bytes:
        """An object, or a dropped image, as PNG."""
        pictures = self.check_picture(picture)
        if name in self.embeddings.index:
            return await self._thumbnails.get((name, picture), lambda: pictures.of(name, picture))
        dropped = self.uploads[name]
        return await self._thumbnails.get(
            (name, picture), lambda: pictures.of_dropped(dropped, picture)
        )

    async def add_image(self, name: str, content: bytes) -> Dropped:
        """Take in an image file that was dropped on the page."""
        key = ("image", name, hashlib.sha256(content).hexdigest())
        found: Dropped = await self._answers.get(key, lambda: self.uploads.made(name, content))
        return self.uploads.keep(found)

    async def column(self, name: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
        """A column for colours; see `rows.column_values`."""
        self.embeddings.column(name)
        found: tuple[np.ndarray, tuple[str, ...] | None] = await self._answers.get(
            ("column", name), lambda: rows.column_values(self.embeddings, name)
        )
        return found

    def points(self, name: str) -> bytes:
        """A map's points: x, y (float32) and row (uint32), little-endian, one after the other."""
        if name not in self.maps:
            raise unknown("map", name, self.maps, "" if self.maps else "start with --maps FOLDER")
        return self.maps[name]

    def _given(self, ask: Ask, source: Embeddings | None = None) -> tuple[list[Any], list[Any]]:
        asked = source or self.embeddings
        # A dropped image was encoded as the first embedding was.
        uploads = self.uploads if asked is self.embeddings else None
        return likes(asked, uploads, ask.like), likes(asked, uploads, ask.unlike)

    def _source(self, name: str) -> Embeddings:
        if not name:
            return self.embeddings
        if name not in self.beside:
            raise unknown("embedding", name, self.beside, "others are given with --beside")
        return self.beside[name]

    def _command(
        self,
        ask: Ask,
        source: Embeddings,
        *,
        k: int,
        radius: float | None,
        where: str | None,
        inside: str,
        **_: Any,
    ) -> str:
        moc = self.sky.path(inside)
        return ask.command(str(source.folder), self._file_name, k, radius, where, moc)

    def _file_name(self, text: str) -> str:
        in_set = text in self.embeddings.index or not text.startswith("image:")
        return text if in_set else self.uploads[text].name

    def _columns(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        return asked or rows.default_columns(self.embeddings)


def _prepared(bounds: Bounds) -> None:
    bound_this_thread(bounds)
    threadpool_limits(1)  # for good: with more, pictures would have to wait for a search
