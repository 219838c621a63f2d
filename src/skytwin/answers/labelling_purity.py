"""How pure the top of a learnt ranking is, as far as the labels can honestly say.

Objects that were labelled because a ranking put them first say what share of *them* is positive.
What they do not give is an estimate for a list: those are the very objects the ranking was sure
of, and it learnt from them. An interval comes from objects drawn at random alone: those of
`random_order`, from its beginning up to the first that nobody has answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from skytwin.answers.intervals import Proportion
from skytwin.answers.labelling import Meaning, by_row
from skytwin.answers.labelling_learn import Relearnt, relearn
from skytwin.answers.labels import YES
from skytwin.answers.query import Reference
from skytwin.embeddings.table import Embeddings

__all__ = ["ListPurity", "list_purity", "random_order"]

Kind = Literal["exact", "estimate", "share of the labelled"]


@dataclass(frozen=True, kw_only=True)
class ListPurity:
    """Purity of the first k objects.

    Attributes
    ----------
    k : int
    kind : str
        ``exact``: all k are labelled. ``estimate``: from objects drawn at random, for the list
        as learnt without these. ``share of the labelled``: no statement about the list.
    labelled, yes : int
        Of the k, or of those drawn at random among them.
    share : Proportion or None
        With an interval where it is an estimate; None where nothing is labelled.
    base : Proportion or None
        Positives in the whole set, from objects drawn at random; None without any.
    lines : tuple of str
        The same in words.
    """

    k: int
    kind: Kind
    labelled: int
    yes: int
    share: Proportion | None
    base: Proportion | None
    lines: tuple[str, ...]


def random_order(count: int) -> np.ndarray:
    """All rows in a random order, always the same: people who follow it share a sample."""
    return np.random.default_rng(0).permutation(count)


def list_purity(
    embeddings: Embeddings,
    resolved: Mapping[str, str],
    meaning: Meaning,
    *,
    k: int = 100,
    references: Sequence[Reference] = (),
    same_arcsec: float = 2.0,
    seed: int = 0,
) -> ListPurity:
    """Purity of the top of the ranking that `relearn` makes of these labels.

    Parameters
    ----------
    embeddings : Embeddings
    resolved : mapping of str to str
        One answer per object; what is neither yes nor no counts as no here.
    meaning : Meaning
    k : int
    references, same_arcsec, seed
        See `skytwin.answers.labelling_learn.relearn`.
    """
    drawn = _drawn(embeddings, resolved)
    base = _share(embeddings, drawn, resolved, meaning)
    lines = [_told_base(base)]

    def learnt(without: np.ndarray) -> Relearnt | None:
        rows, positive = by_row(resolved, meaning, embeddings.index)
        kept = ~np.isin(rows, without)
        rows, positive = rows[kept], positive[kept]
        if not positive.any() and not any(not r.negative for r in references):
            return None
        return relearn(
            embeddings, rows, positive, references=references, same_arcsec=same_arcsec, seed=seed
        )

    kind: Kind = "share of the labelled"
    share: Proportion | None = None
    model = learnt(np.empty(0, dtype=np.int64))
    if model is not None:
        first = model.top[:k]
        k = len(first)
        done = np.array([str(embeddings.ids[row]) in resolved for row in first], dtype=bool)
        share = _share(embeddings, first[done], resolved, meaning)
        if share is not None and done.all():
            kind = "exact"
            lines.insert(0, f"the top {k}: {share.hits} yes; all of them are labelled")
        else:
            lines.insert(0, _told_share(share, k))
            found = learnt(drawn) if len(drawn) else None
            inside = drawn[:0] if found is None else drawn[np.isin(drawn, found.top[:k])]
            if len(inside):
                kind, share = "estimate", _share(embeddings, inside, resolved, meaning)
                lines.insert(
                    0,
                    f"the top {k}, as learnt without the objects drawn at random: purity {share}, "
                    "95% interval, from those of them that are in it",
                )
    unsure = sum(meaning.of.get(answer) not in {0, 1} for answer in resolved.values())
    if unsure:
        lines.append(f"{unsure} object(s) neither yes nor no: counted as no here")
    return ListPurity(
        k=k,
        kind=kind,
        labelled=0 if share is None else share.total,
        yes=0 if share is None else share.hits,
        share=share,
        base=base,
        lines=tuple(lines),
    )


def _drawn(embeddings: Embeddings, resolved: Mapping[str, str]) -> np.ndarray:
    """The rows of the random order up to the first without an answer."""
    order = random_order(len(embeddings))
    for place, row in enumerate(order.tolist()):
        if str(embeddings.ids[row]) not in resolved:
            return order[:place]
    return order


def _share(
    embeddings: Embeddings, rows: np.ndarray, resolved: Mapping[str, str], meaning: Meaning
) -> Proportion | None:
    if not len(rows):
        return None
    answers = [resolved[str(embeddings.ids[row])] for row in rows]
    return Proportion.of(sum(meaning.of.get(a) == YES for a in answers), len(rows))


def _told_base(base: Proportion | None) -> str:
    if base is None:
        return "base rate unknown: label some objects in the order random"
    return f"base rate {base}, 95% interval, from objects drawn at random"


def _told_share(share: Proportion | None, k: int) -> str:
    if share is None:
        return f"none of the top {k} is labelled"
    return (
        f"{share.hits} of the {share.total} labelled among the top {k} are yes; not an estimate of "
        "its purity, for they were not drawn at random"
    )
