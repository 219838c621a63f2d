"""Tables to TOPCAT, Aladin and other SAMP clients, and from them positions and rows as queries.

Reference: Taylor et al. 2012, *Simple Application Messaging Protocol*, IVOA recommendation 1.3;
the messages are ``table.load.votable``, ``table.highlight.row``, ``table.select.rowList`` and
``coord.pointAt.sky``.
"""

from __future__ import annotations

import contextlib
import queue
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
from pyvo.samp import SAMPHubError, SAMPIntegratedClient, conf

from skytwin.answers.export import write_table
from skytwin.answers.search import Matches, search
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, SkytwinError, Unreachable, UsageError, in_words, unknown
from skytwin.vo.samp_rows import position_text, require_rows, rows_of_file

__all__ = ["ALL", "Desk", "Question", "Sent", "answer", "send_matches"]

#: In place of a client's name: every client that takes tables.
ALL = "all"
_LOAD, _POINT = "table.load.votable", "coord.pointAt.sky"
_ROW, _ROWS = "table.highlight.row", "table.select.rowList"
_END = ("samp.hub.event.shutdown", "samp.hub.disconnect")
_MOST_ROWS = 50
_LOAD_S = 60
_PING_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a client pointed at.

    Attributes
    ----------
    sender : str
        The client's identifier at the hub.
    client : str
        Its name.
    mtype : str
        The message.
    params : mapping
        What it says.
    """

    sender: str
    client: str
    mtype: str
    params: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Who has a table, and who has not; as text, both.

    Attributes
    ----------
    clients : tuple of str
        The names of the clients that have it; at least one.
    refused : tuple of str
        The others, each with its reason.
    """

    clients: tuple[str, ...]
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        rest = f"; not to {'; '.join(self.refused)}" if self.refused else ""
        return ", ".join(self.clients) + rest


class Desk:
    """A connection to the SAMP hub, as a context manager.

    Raises
    ------
    Unreachable
        There is no hub, or it does not answer.
    """

    def __init__(self) -> None:
        self._client: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._ids: dict[str, list[str]] = {}
        self._questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        try:
            # Whether this machine is on the internet is none of a local hub's business.
            with conf.set_temp("use_internet", False):
                client = SAMPIntegratedClient(
                    name="skytwin",
                    description="finds more objects like the one pointed at",
                    metadata={"author.name": "The skytwin developers"},
                    addr="127.0.0.1",
                )
                client.connect()
        except (SAMPHubError, OSError) as error:
            raise Unreachable(
                f"no SAMP hub ({error}); start TOPCAT or Aladin on this machine first"
            ) from None
        self._client = client
        self._folder = tempfile.TemporaryDirectory(prefix="skytwin-samp-")
        return self

    def __exit__(self, *_: object) -> None:
        self._ended()
        # A hub that has gone cannot be taken leave of.
        with contextlib.suppress(Exception):
            self._client.disconnect()
        if self._folder is not None:
            self._folder.cleanup()

    def clients(self) -> dict[str, str]:
        """Names of the clients that take tables, by their identifiers."""
        with _hub_errors():
            found = self._client.get_subscribed_clients(_LOAD)
            names = {}
            for one in found:
                about = self._client.get_metadata(one)
                names[str(one)] = str(about.get("samp.name", one))
        return names

    def send(
        self,
        table: pa.Table,
        meta: Mapping[str, str],
        name: str,
        to: str = ALL,
        *,
        timeout_s: float = _LOAD_S,
    ) -> Sent:
        """Have clients load a table, and wait until they have.

        Parameters
        ----------
        table : pyarrow.Table
        meta : mapping of str to str
            Where it comes from.
        name : str
            What to call it.
        to : str
            A client's name, the beginning of one, its identifier, or `ALL`.
        timeout_s : float
            Seconds to wait for them.

        Raises
        ------
        UnknownName
            No such client.
        DataError
            None takes tables, or none could load it.
        """
        there = self.clients()
        chosen = _chosen(there, to)
        if self._folder is None:
            raise UsageError("not connected to a SAMP hub; use the desk as a context manager")
        key = f"skytwin-{uuid.uuid4()}"
        path = Path(self._folder.name) / f"{key}.vot"
        write_table(table, path, meta)
        if "id" in table.column_names:
            self._ids[key] = table["id"].to_pylist()
        params = {"url": path.as_uri(), "table-id": key, "name": name}
        message = {"samp.mtype": _LOAD, "samp.params": params}
        why = self._refusals(chosen, message, timeout_s)
        took = [there[one] for one in chosen if not why[one]]
        refused = [f"{there[one]}: {why[one]}" for one in chosen if why[one]]
        if not took:
            raise DataError(f"no SAMP client could load the table ({'; '.join(refused)})")
        return Sent(clients=tuple(took), refused=tuple(refused))

    def _refusals(
        self, clients: Iterable[str], message: Mapping[str, Any], timeout_s: float
    ) -> dict[str, str]:
        """Why each client has not done what a message says; empty where it has.

        All are asked at once. The hub's own way of waiting for a client loses a reply that comes
        before the hub has begun to wait.
        """
        replies: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        tag = str(uuid.uuid4())
        self._client.bind_receive_response(
            tag, lambda _key, sender, _tag, reply: replies.put((str(sender), reply))
        )
        why = dict.fromkeys(clients, f"no reply within {timeout_s:g} s")
        waiting = set()
        for one in why:
            try:
                self._client.call(one, tag, message)
                waiting.add(one)
            except Exception as error:  # the hub's faults are of many kinds
                why[one] = in_words(error)
        end = time.monotonic() + timeout_s
        while waiting:
            try:
                one, reply = replies.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            waiting.discard(one)
            status = str(reply.get("samp.status"))
            # A warning comes with the table loaded.
            done = status in ("samp.ok", "samp.warning")
            told = dict(reply.get("samp.error", {})).get("samp.errortxt", status)
            why[one] = "" if done else str(told)
        self._client.unbind_receive_response(tag)
        return why

    def send_matches(
        self,
        matches: Matches,
        to: str = ALL,
        table: pa.Table | None = None,
        *,
        timeout_s: float = _LOAD_S,
    ) -> Sent:
        """Have clients load matches, called after their references; see `send`."""
        shown = matches.table if table is None else table
        return self.send(shown, matches.describe(), _title(matches), to, timeout_s=timeout_s)

    def listen(self) -> None:
        """Take positions and rows that clients point at as questions."""
        with _hub_errors():
            for mtype in (_POINT, _ROW, _ROWS):
                self._client.bind_receive_message(mtype, self._heard)
            for mtype in _END:
                self._client.bind_receive_notification(mtype, self._ended)

    def questions(self) -> Iterator[Question]:
        """What clients point at, one by one as it comes; ends when the hub or the desk does."""
        asked = time.monotonic()
        while True:
            try:
                # With a bound, so that an interrupt gets through.
                question = self._questions.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() - asked > _PING_S:  # a hub that was killed says no farewell
                    try:
                        self._client.ping()
                    except Exception:  # the hub's faults are of many kinds
                        return
                    asked = time.monotonic()
                continue
            if question is None:
                return
            yield question

    def references(self, question: Question) -> list[str]:
        """What a question names, as a search takes it: ids, or ``"RA,DEC"``.

        Raises
        ------
        UsageError
            It names nothing, or too much.
        DataError
            Its table cannot be read.
        """
        params = question.params
        if question.mtype == _POINT:
            return [position_text(params.get("ra"), params.get("dec"))]
        given = params.get("row-list") if question.mtype == _ROWS else [params.get("row")]
        try:
            rows = [int(str(row)) for row in given or []]
        except ValueError:
            raise UsageError(f"rows {given!r}; expected numbers") from None
        if not 1 <= len(rows) <= _MOST_ROWS:
            raise UsageError(f"{len(rows)} rows selected; expected 1 to {_MOST_ROWS}")
        known = self._ids.get(str(params.get("table-id")))
        if known is not None:
            require_rows(rows, len(known))
            return [str(known[row]) for row in rows]
        return rows_of_file(str(params.get("url", "")), rows)

    def _heard(
        self,
        _key: str,
        sender: str,
        message: str | None,
        mtype: str,
        params: Mapping[str, Any],
        _extra: object,
    ) -> None:
        """Take a message; one that wants a reply has it at once, before the search."""
        if message is not None:
            self._client.reply(message, {"samp.status": "samp.ok", "samp.result": {}})
        name = sender
        with contextlib.suppress(Exception):
            name = str(self._client.get_metadata(sender).get("samp.name", sender))
        self._questions.put(Question(sender=sender, client=name, mtype=mtype, params=dict(params)))

    def _ended(self, *_: object) -> None:
        self._questions.put(None)


def send_matches(matches: Matches, to: str = ALL, table: pa.Table | None = None) -> Sent:
    """Have SAMP clients load matches.

    Parameters
    ----------
    matches : Matches
    to : str
        See `Desk.send`.
    table : pyarrow.Table, optional
        Their table with more columns, such as a probability.

    Raises
    ------
    Unreachable, UnknownName, DataError
        See `Desk` and `Desk.send`.
    """
    with Desk() as desk:
        return desk.send_matches(matches, to, table)


def answer(
    desk: Desk,
    embeddings: Embeddings,
    tell: Callable[[str], object],
    *,
    ready: Callable[[], object] = lambda: None,
    **settings: Any,
) -> None:
    """Answer whatever clients point at with the objects most like it, until the hub ends.

    Parameters
    ----------
    desk : Desk
    embeddings : Embeddings
    tell : callable
        Is given a line about each question and its answer.
    ready : callable
        Called once questions are heard.
    **settings
        Of the search; see `skytwin.answers.search.search`.
    """
    desk.listen()
    ready()
    for question in desk.questions():
        try:
            like = desk.references(question)
            names = [_as_id(embeddings, one) for one in like]
            found: Matches = search(embeddings, names, **settings)
            to = question.sender if question.sender in desk.clients() else ALL
            sent = desk.send_matches(found, to)
        except SkytwinError as error:
            tell(f"{question.client}: {error}")
        else:
            title = _title(found)
            tell(f"{question.client}: {title}: {len(found)} sent to {sent}")


def _title(matches: Matches) -> str:
    first, *others = matches.references
    return f"like {first.name}" + (f" and {len(others)} more" if others else "")


def _as_id(embeddings: Embeddings, one: str) -> Any:
    """An id stays text; a position becomes numbers, lest a file of that name be taken."""
    if one in embeddings.index or "," not in one:
        return one
    try:
        ra, dec = map(float, one.split(","))
    except ValueError:
        return one
    return ra, dec


def _chosen(there: Mapping[str, str], to: str) -> list[str]:
    """Identifiers of the clients meant."""
    if not there:
        raise DataError("no SAMP client takes tables; start TOPCAT or Aladin")
    if to == ALL:
        return list(there)
    if to in there:
        return [to]
    found = [one for one, name in there.items() if name.lower().startswith(to.lower())]
    if not found:
        raise unknown("SAMP client", to, [*dict.fromkeys(there.values()), ALL])
    return found


@contextlib.contextmanager
def _hub_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's faults are of many kinds
        raise Unreachable(f"the SAMP hub does not answer ({in_words(error)}); restart it") from None
