"""A query as an address holds it, and the references it names."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from skytwin.answers.query import Like
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError, unknown
from skytwin.web.uploads import PREFIX, Uploads

__all__ = ["Ask", "likes"]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What decides on the order of a set; parameters as in `skytwin.search`."""

    like: tuple[str, ...]
    unlike: tuple[str, ...] = ()
    metric: str = DEFAULT_METRIC
    combine: str = DEFAULT_COMBINE
    seed: int = 0
    same_arcsec: float = 2.0
    match_arcsec: float = 3.0

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Of a request's values, others among them left aside."""
        return cls(**{one.name: values[one.name] for one in fields(cls)})

    @property
    def how(self) -> dict[str, Any]:
        """Arguments that `search` and `purity` share, the references aside."""
        return {
            "metric": self.metric,
            "combine": self.combine,
            "seed": self.seed,
            "same_arcsec": self.same_arcsec,
            "match_arcsec": self.match_arcsec,
        }

    def command(
        self,
        folder: str,
        name: Callable[[str], str],
        k: int,
        radius: float | None,
        where: str | None,
        inside: Path | None,
    ) -> str:
        """The same search at the command line."""
        words = ["skytwin", "search", folder]
        for option, texts in (("--like", self.like), ("--unlike", self.unlike)):
            for text in texts:
                words += [option, name(text)]
        words += ["-k", str(k)] if radius is None else ["--radius", f"{radius!r}"]
        words += ["--where", where] if where else []
        words += ["--inside", str(inside)] if inside else []
        plain = Ask(like=self.like)
        for option in ("metric", "combine", "seed", "same_arcsec", "match_arcsec"):
            if getattr(self, option) != getattr(plain, option):
                words += [f"--{option.replace('_', '-')}", f"{getattr(self, option)}"]
        return " ".join(shlex.quote(word) for word in words)


def likes(embeddings: Embeddings, uploads: Uploads | None, texts: Sequence[str]) -> list[Like]:
    """References for `skytwin.answers.query.resolve`: identifiers, positions, dropped images.

    Never a path: what comes over the network must not name a file.

    Raises
    ------
    UnknownName
        No such object, or an image that is no longer held.
    UsageError
        A position out of bounds.
    """
    return [_like(embeddings, uploads, text.strip()) for text in texts]


def _like(embeddings: Embeddings, uploads: Uploads | None, text: str) -> Like:
    if text in embeddings.index:
        return text
    if text.startswith(PREFIX):
        if uploads is None:
            raise UsageError("a dropped image is known to the first embedding only; give an id")
        return uploads[text].vector
    parts = text.replace(",", " ").split()
    if len(parts) == 2:
        try:
            return float(parts[0]), float(parts[1])
        except ValueError:
            raise UsageError(f"position {text!r}; expected RA and Dec in degrees") from None
    raise unknown("id", text, embeddings.ids, "a reference is an id, or RA,DEC in degrees")
