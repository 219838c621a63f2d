"""Labelling behind the pages: what to look at next, and what the answers add up to.

The book is read and written in a pool of one thread, rankings are learnt where searches are
made: neither holds up what else is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from skytwin.answers.labelling import Meaning, by_row
from skytwin.answers.labelling_learn import LEARNT, Relearnt, relearn
from skytwin.answers.labelling_purity import list_purity, random_order
from skytwin.answers.labelling_question import Question
from skytwin.answers.query import Like, Reference, resolve
from skytwin.answers.search import search
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.web import rows
from skytwin.web.ask import Ask
from skytwin.web.labels_store import State, Store
from skytwin.web.labels_summary import certificate_of, purity_of
from skytwin.web.once import Busy, Once
from skytwin.web.settings import Settings

__all__ = ["ORDERS", "Desk"]

#: Orders to go through objects in.
ORDERS = (*LEARNT, "random", "plan", "conflicts", "done")
_OF_PLAN = ("plan", "conflicts", "done")
# Nothing shows where an object stands, nor what others say of it.
_BLIND = ("plan", "random")
_KEPT = 4

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class _Ranking:
    """Rows in an order, and what it goes by.

    Attributes
    ----------
    rows : ndarray of int
    score, probability : ndarray or None, shape (N,)
    model : Relearnt or None
    """

    rows: np.ndarray
    score: np.ndarray | None = None
    probability: np.ndarray | None = None
    model: Relearnt | None = None


class Desk:
    """Questions, answers, and orders to go through the objects in.

    Parameters
    ----------
    embeddings : Embeddings
    settings : Settings
    searching : Executor
        Where rankings are made.
    given : callable
        The references of a query, positive and negative.

    Raises
    ------
    SkytwinError
        See `Store`.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        settings: Settings,
        searching: Executor,
        given: Callable[[Ask], tuple[list[Like], list[Like]]],
    ) -> None:
        self.embeddings, self.limits, self._given = embeddings, settings.limits, given
        self._store = Store(embeddings, settings)
        self._pool = ThreadPoolExecutor(1, "labels")
        self._waiting = 0
        waiting = self.limits.waiting
        self._models: Once[Relearnt] = Once(searching, room=_KEPT, waiting=waiting)
        self._rankings: Once[_Ranking] = Once(searching, room=_KEPT, waiting=waiting)
        self._sums: Once[dict[str, Any]] = Once(searching, room=_KEPT, waiting=waiting)
        self._rounds: Once[Any] = Once(searching, room=1, waiting=waiting)

    def close(self) -> None:
        """Let go of the book."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._store.close()

    async def _on_book(self, work: Callable[[], T]) -> T:
        if self._waiting >= self.limits.waiting:
            raise Busy(f"{self._waiting} requests wait for the label book; ask again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    async def questions(self) -> dict[str, Any]:
        """All questions, those of plans among them."""
        return await self._on_book(self._store.questions)

    async def ask(self, question: Question) -> dict[str, Any]:
        """Put a new question."""
        return await self._on_book(lambda: self._store.ask(question))

    async def answer(
        self, name: str, *, who: str, object_: str, answer: str, order: str
    ) -> dict[str, Any]:
        """Store one answer; it is on disk when this returns."""
        return await self._on_book(lambda: self._store.answer(name, who, object_, answer, order))

    async def undo(self, name: str, who: str) -> dict[str, Any]:
        """Take back the last answer of a person."""
        return await self._on_book(lambda: self._store.undo(name, who))

    async def export(self, name: str, *, parquet: bool, every: bool) -> bytes:
        """The answers as a file."""
        return await self._on_book(lambda: self._store.export(name, parquet=parquet, every=every))

    async def take(self, name: str, *, who: str | None, content: bytes) -> dict[str, Any]:
        """Store the answers of a file."""
        return await self._on_book(lambda: self._store.take(name, who, content))

    async def next(self, name: str) -> dict[str, Any]:
        """Draw the next round of a plan."""
        state = await self._on_book(lambda: self._store.state(name, None))
        planned = state.planned
        if planned is None:
            raise UsageError(f"question {name!r} is of no plan; it has no rounds")
        key = (name, planned.plan.number, state.last)
        made = await self._rounds.get(key, lambda: planned.next(state.resolved))
        return await self._on_book(lambda: self._store.go_on(name, made))

    async def objects(
        self,
        name: str,
        *,
        who: str | None,
        order: str | None,
        ask: Ask,
        positive: str | None,
        others: bool,
        offset: int,
        limit: int,
        columns: tuple[str, ...],
    ) -> dict[str, Any]:
        """The objects to look at, in an order."""
        names = columns or rows.default_columns(self.embeddings)
        rows.rows_of(self.embeddings, [], names)
        state = await self._on_book(lambda: self._store.state(name, who))
        chosen = _order(state, order)
        ranking = await self._ranking(state, chosen, ask, positive)
        found = ranking.rows
        if chosen in LEARNT or chosen == "random":
            done = state.done if others else state.answers
            found = await self._on_book(lambda: found[~np.isin(found, self._store.rows(done))])
        part = found[offset : offset + limit]
        listed = rows.rows_of(self.embeddings, part, names)
        for row, one in zip(part.tolist(), listed, strict=True):
            said = state.answers.get(one["id"], {})
            one["label"] = said.get(who) if who else None
            one["labels"] = {w: a for w, a in said.items() if chosen not in _BLIND or w == who}
            one["score"] = _at(ranking.score, row)
            one["probability"] = _at(ranking.probability, row)
        return {
            "total": len(found),
            "offset": offset,
            "order": chosen,
            "model": None if ranking.model is None else _told(ranking.model),
            "rows": listed,
        }

    async def _ranking(self, state: State, order: str, ask: Ask, positive: str | None) -> _Ranking:
        listed: Sequence[str] | None = None
        if order == "plan" and state.planned is not None:
            listed = state.planned.ids
        elif order == "conflicts":
            listed = sorted(n for n, said in state.answers.items() if len(set(said.values())) > 1)
        elif order == "done":
            listed = sorted(state.done, key=lambda name: -state.done[name])
        if listed is not None:
            return _Ranking(rows=await self._on_book(lambda: self._store.rows(listed)))
        if order == "random":
            count = len(self.embeddings)
            return await self._rankings.get(order, lambda: _Ranking(rows=random_order(count)))
        if not state.resolved and order == "top" and ask.like:
            return await self._rankings.get(("search", ask), lambda: self._searched(ask))
        model = await self._model(state, ask, positive)

        def made() -> _Ranking:
            return _Ranking(
                rows=model.order(next(one for one in LEARNT if one == order)),
                score=model.logit,
                probability=model.probability,
                model=model,
            )

        key = (order, *_version(state), ask, positive)
        return await self._rankings.get(key, made)

    def _searched(self, ask: Ask) -> _Ranking:
        """As the references alone have it, while nothing is labelled."""
        likes, unlikes = self._given(ask)
        count = len(self.embeddings)
        found = search(self.embeddings, likes, unlike=unlikes, k=count, exact=True, **ask.how)
        score = np.full(count, -np.inf)
        score[found.rows] = -found.distance
        return _Ranking(rows=found.rows, score=score)

    async def _model(self, state: State, ask: Ask, positive: str | None) -> Relearnt:
        def made() -> Relearnt:
            meaning = Meaning.read(state.question, positive)
            labelled, good = by_row(state.resolved, meaning, self.embeddings.index)
            return relearn(self.embeddings, labelled, good, **self._learning(ask))

        return await self._models.get(("model", *_version(state), ask, positive), made)

    def _learning(self, ask: Ask) -> dict[str, Any]:
        """What is learnt from, labels aside."""
        likes, unlikes = self._given(ask)
        references: tuple[Reference, ...] = ()
        if likes:
            references = resolve(
                self.embeddings, likes, unlike=unlikes, match_arcsec=ask.match_arcsec
            )
        return {"references": references, "same_arcsec": ask.same_arcsec, "seed": ask.seed}

    async def summary(
        self, name: str, *, who: str | None, ask: Ask, positive: str | None, k: int
    ) -> dict[str, Any]:
        """What the answers add up to."""
        state = await self._on_book(lambda: self._store.state(name, who))
        found = await self._on_book(lambda: self._store.counted(name, who))
        planned = state.planned
        if planned is not None:
            key: tuple[Any, ...] = (name, planned.plan.number, state.last)
            told = await self._sums.get(key, lambda: certificate_of(planned, state.resolved))
            return {**found, "purity": None, "certificate": told}

        def made() -> dict[str, Any]:
            meaning = Meaning.read(state.question, positive)
            return purity_of(
                list_purity(self.embeddings, state.resolved, meaning, k=k, **self._learning(ask))
            )

        told = await self._sums.get((*_version(state), ask, positive, k), made)
        return {**found, "purity": told, "certificate": None}


def _version(state: State) -> tuple[str, int]:
    return state.question.name, state.last


def _order(state: State, asked: str | None) -> str:
    """The order that was asked for, or the usual one."""
    planned = state.planned is not None
    chosen = asked or ("plan" if planned else "top")
    if planned and chosen not in _OF_PLAN:
        raise UsageError(
            f"order {chosen!r} of a plan; its objects are shown in a blind order: plan, or "
            "conflicts, or done"
        )
    if not planned and chosen == "plan":
        raise UsageError("this question has no plan; choose top, uncertain, gain or random")
    return chosen


def _at(values: np.ndarray | None, row: int) -> float | None:
    return None if values is None else float(values[row])


def _told(model: Relearnt) -> dict[str, Any]:
    yes = int(model.positive.sum())
    return {
        "trained_on": {
            "yes": yes,
            "no": len(model.positive) - yes,
            "references": model.references,
        },
        "seconds": model.seconds,
        "note": model.note,
    }
