"""Cutouts of a survey by position: asked for one by one, checked, kept at once.

An image that came stays, whatever happens afterwards; what did not come is listed with the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from skytwin.addresses import address_of, shown
from skytwin.errors import DataError, SkytwinError, Unreachable, UsageError
from skytwin.images.fetch_cache import Cache
from skytwin.images.fetch_check import check_image
from skytwin.images.fetch_positions import IMAGES, Wanted, catalog_of, failed_csv, read_wanted
from skytwin.images.fetch_surveys import Request, choose
from skytwin.images.fetch_threads import Waiters
from skytwin.images.fetch_web import Answer, Manners, Passing, Pause, Refused, Stopped, Web
from skytwin.images.tables import table_sha256
from skytwin.progress import Progress
from skytwin.run import Run

__all__ = ["CATALOG", "FAILED", "IMAGES", "Fetched", "fetch"]

CATALOG, FAILED = "catalog.parquet", "failed.csv"
# After so many without any answer, or so many refusals and no image, a server is left alone.
_IN_A_ROW, _NOES = 10, 25
_GRACE_S = 3.0
_MOST_WORKERS = 16


@dataclass(frozen=True, eq=False, kw_only=True)
class Fetched:
    """What came and what did not.

    Attributes
    ----------
    folder : Path
        With ``images/``, ``catalog.parquet`` and ``failed.csv``.
    request : Request
    came : int
        Images.
    failed : dict of str to int
        How many did not come, by reason.
    """

    folder: Path
    request: Request
    came: int
    failed: Mapping[str, int]

    @property
    def ingest_command(self) -> str:
        """The command that turns the images into cutouts."""
        more = ""
        if names := self.request.bands or self.request.colours:
            more += f" --bands {','.join(names)}"
        if self.request.format == "jpeg":  # which has no place for it
            more += f" --pixel-scale {self.request.pixel_scale:g}"
        return (
            f"skytwin ingest {self.folder / IMAGES} --catalog {self.folder / CATALOG}{more} "
            "--out CUTOUTS"
        )

    @property
    def summary(self) -> str:
        """Plain text: the numbers, the reasons, what to do next."""
        request = self.request
        lines = [
            f"{self.came} image(s) of {request.survey}, {request.pixels} x {request.pixels} pixels "
            f"of {request.pixel_scale:g} arcsec, {request.format.upper()}; {self.folder}"
        ]
        if self.failed:
            lines.append(f"  did not come ({sum(self.failed.values())}), listed in {FAILED}:")
            lines += _most_common(self.failed)
        if self.came:
            lines.append(f"next: {self.ingest_command}")
        return "\n".join(lines)


@dataclass(eq=False, kw_only=True)
class _State:
    """What is known of every position so far, by row."""

    came: dict[int, dict[str, Any]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)

    def reasons(self) -> dict[int, str]:
        return self.refused | self.missing


def fetch(
    positions: str | Path,
    out: str | Path,
    *,
    survey: str,
    size_arcsec: float,
    pixel_scale: float | None = None,
    bands: Sequence[str] | None = None,
    format: str | None = None,  # noqa: A002  (its name on the command line)
    base_url: str | None = None,
    id_column: str | None = None,
    ra_column: str | None = None,
    dec_column: str | None = None,
    rate: float | None = None,
    retries: int = 4,
    backoff_s: float = 2.0,
    timeout_s: float = 60.0,
    workers: int = 4,
    seed: int = 0,
    cache: str | Path | None = None,
    give_up: bool = False,
    quiet: bool = False,
) -> Fetched:
    """Fetch an image of every position.

    Killed at any moment, the same call goes on; an image that came is not asked for again. While
    some positions have got no answer, the folder stays unfinished, so that the same call asks for
    these again.

    Parameters
    ----------
    positions : path
        Table with RA and Dec, and identifiers if it has them.
    out : path
        New folder, or that of an unfinished run of this very call.
    survey, size_arcsec, pixel_scale, bands, format, base_url
        See `skytwin.images.fetch_surveys.choose`.
    id_column, ra_column, dec_column : str, optional
        Columns of the table, where their names do not say what they are.
    rate : float, optional
        Requests per second at most; 2 for SDSS and Legacy, 5 for HiPS by default.
    retries : int
        Further attempts at one image.
    backoff_s : float
        Longest pause before the first of them; doubled for each next one, to a minute at most.
    timeout_s : float
        Seconds that one answer may take.
    workers : int
        Requests under way at a time, 1 to 16.
    seed : int
        Of the pauses' jitter; the images do not depend on it.
    cache : path, optional
        Folder that keeps answers for other runs.
    give_up : bool
        Finish without what did not come.
    quiet : bool

    Raises
    ------
    UsageError
        The service cannot do this, or the table has no positions.
    DataError
        No image at all could be had.
    Unreachable
        Some or all positions got no answer; what came is kept.
    """
    request = choose(
        survey,
        size_arcsec=size_arcsec,
        pixel_scale=pixel_scale,
        bands=bands,
        format=format,
        base_url=base_url,
    )
    manners = Manners(
        rate=request.rate if rate is None else rate,
        retries=retries,
        backoff_s=backoff_s,
        timeout_s=timeout_s,
        seed=seed,
    )
    if not 1 <= workers <= _MOST_WORKERS:
        raise UsageError(f"--workers {workers}; expected 1 to {_MOST_WORKERS}")
    path = Path(positions)
    wanted = read_wanted(path, request, id_column, ra_column, dec_column)
    recipe = {
        "survey": request.survey,
        "base_url": request.base_url,
        "pixels": request.pixels,
        "pixel_scale": request.pixel_scale,
        "bands": list(request.bands),
        "format": request.format,
        "positions_sha256": table_sha256(path),
        "columns": [wanted.id_name, wanted.columns.ra, wanted.columns.dec],
    }
    inputs = {"positions": str(path.resolve()) if address_of(path) is None else shown(path)}
    with Run(out, kind="images", recipe=recipe, inputs=inputs) as run:
        state = _resume(run, wanted)
        errand = _Errand(
            run=run,
            request=request,
            wanted=wanted,
            state=state,
            web=Web(manners),
            cache=Cache(Path(cache)) if cache is not None else None,
            give_up=give_up,
        )
        try:
            errand.go(workers, quiet)
        finally:
            if run.journal:
                run.write(FAILED, failed_csv(request, wanted, state.reasons()))
        failed = Counter(map(_kind, state.reasons().values()))
        if state.missing and not give_up:
            raise Unreachable(
                f"{len(state.missing)} of {len(wanted.ids)} positions got no answer of use "
                f"(e.g. {_kind(next(iter(state.missing.values())))}), {len(state.came)} images "
                "came; repeat the command to ask again for the rest, or add --give-up to finish "
                "without them"
            )
        if not state.came:
            raise DataError(
                f"no image of {len(wanted.ids)} position(s) could be had "
                f"({failed.most_common(1)[0][0]}); check the positions and the survey's footprint"
            )
        table = catalog_of(request, wanted, state.came)
        run.write(CATALOG, lambda place: pq.write_table(table, place))
        run.finish({"images": len(state.came), "failed": dict(failed)})
    return Fetched(folder=Path(out), request=request, came=len(state.came), failed=failed)


def _resume(run: Run, wanted: Wanted) -> _State:
    """What the journal says, as far as the files are still there."""
    state = _State()
    for row in range(len(wanted.ids)):
        if not wanted.sky.known[row]:
            state.refused[row] = "no position"
    for entry in run.journal:
        if "refused" in entry:
            state.refused[entry["row"]] = entry["refused"]
            continue
        place = run.folder / wanted.files[entry["row"]]
        with contextlib.suppress(OSError):
            if place.stat().st_size == entry["bytes"]:
                state.came[entry["row"]] = entry
    return state


@dataclass(frozen=True, eq=False, kw_only=True)
class _Errand:
    """Asking for every position that is not settled, and recording each answer as it comes."""

    run: Run
    request: Request
    wanted: Wanted
    state: _State
    web: Web
    cache: Cache | None
    give_up: bool

    def go(self, workers: int, quiet: bool) -> None:
        state, total = self.state, len(self.wanted.ids)
        todo = iter(self._rows_by_address().items())
        running: dict[Future[Answer], tuple[str, list[int]]] = {}
        silent = noes = 0
        settled = len(state.came) + len(state.refused)
        with (
            contextlib.closing(self.web),
            Waiters[Answer](workers) as pool,
            Progress("fetch", total, done=settled, quiet=quiet) as progress,
            self._keeping(running),
        ):
            while True:
                for url, rows in itertools.islice(todo, workers - len(running)):
                    running[pool.submit(self._ask, url, rows[0])] = url, rows
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda one: running[one][1]):
                    url, rows = running[future]
                    silent = 0 if self._settle(future, url, rows) else silent + 1
                    noes = noes + 1 if state.refused.get(rows[0], "").startswith("HTTP") else 0
                    del running[future]
                    without = len(state.refused) + len(state.missing)
                    progress.advance(len(rows), f"{without} did not come" if without else "")
                if silent >= _IN_A_ROW and not (self.give_up and state.came):
                    raise Unreachable(
                        f"{self.request.base_url} gave nothing for {silent} images in a row "
                        f"({_kind(list(state.missing.values())[-1])}); {len(state.came)} images "
                        "are kept: check the connection, then repeat the command to go on"
                    )
                if noes >= _NOES and not (self.give_up or state.came):
                    raise DataError(
                        f"{self.request.base_url} said no to the first {noes} positions "
                        f"({state.refused[rows[0]]}); check --survey and --bands (with another "
                        "--out), or repeat the command to go on with the others"
                    )

    def _rows_by_address(self) -> dict[str, list[int]]:
        # Two rows at one place are one request.
        found: dict[str, list[int]] = {}
        sky = self.wanted.sky
        for row in range(len(self.wanted.ids)):
            if row not in self.state.came and row not in self.state.refused:
                url = self.request.url(float(sky.ra[row]), float(sky.dec[row]))
                found.setdefault(url, []).append(row)
        return found

    @contextlib.contextmanager
    def _keeping(self, running: Mapping[Future[Answer], tuple[str, list[int]]]) -> Iterator[None]:
        """At an error or interrupt: no further request, but what has come is kept."""
        try:
            yield
        except BaseException:
            self.web.stop()
            for future in wait(running, timeout=_GRACE_S).done:
                with contextlib.suppress(SkytwinError):
                    self._settle(future, *running[future])
            raise

    def _ask(self, url: str, row: int) -> Answer:
        ra, dec = float(self.wanted.sky.ra[row]), float(self.wanted.sky.dec[row])

        def check(content: bytes) -> None:
            check_image(content, self.request, ra, dec)

        if self.cache is not None and (kept := self.cache.get(url, check)) is not None:
            return kept
        return self.web.fetch(url, row, largest=self.request.largest_answer, check=check)

    def _settle(self, future: Future[Answer], url: str, rows: list[int]) -> bool:
        """Record one answer; whether the server answered at all."""
        state = self.state
        try:
            answer = future.result()
        except Refused as error:
            for row in rows:
                state.refused[row] = str(error)
                self.run.record({"row": row, "refused": str(error)})
            return True
        except Passing as error:
            state.missing.update(dict.fromkeys(rows, str(error)))
            return False
        except Stopped:
            state.missing.update(dict.fromkeys(rows, "stopped before it came"))
            return False
        except Pause as error:
            raise Unreachable(
                f"{error}; {len(state.came)} images are kept: repeat the command then"
            ) from None
        if self.cache is not None and answer.attempts:
            self.cache.put(url, answer)
        for row in rows:
            self.run.write(self.wanted.files[row], answer.content)
            entry = {
                "row": row,
                "bytes": len(answer.content),
                "sha256": hashlib.sha256(answer.content).hexdigest(),
                "url": answer.url,
                "date": answer.date,
                "attempts": answer.attempts,
            }
            self.run.record(entry)
            state.came[row] = entry
        return True


def _kind(reason: str) -> str:
    """A reason without what is of one image alone."""
    return re.sub(r"\s*\(\d+ attempts\)$", "", reason)


def _most_common(failed: Mapping[str, int]) -> list[str]:
    lines = [f"    {count} x {reason}" for reason, count in Counter(failed).most_common(8)]
    if len(failed) > 8:
        lines.append(f"    and {len(failed) - 8} more reasons")
    return lines
