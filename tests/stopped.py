"""A command stopped between two steps that it keeps, in this process: no kill, but quick."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

from skytwin.answers.resume import Arrays, Step, Steps

__all__ = ["Stop", "stopped_after"]


class Stop(BaseException):
    """In place of a kill."""


@contextlib.contextmanager
def stopped_after(most: int) -> Iterator[list[Step]]:
    """Stop what runs within before it keeps one more step than this; those that it kept."""
    made: list[Step] = []
    put = Steps.put

    def counted(self: Steps, step: Step, arrays: Arrays) -> None:
        if len(made) == most:
            raise Stop
        put(self, step, arrays)
        made.append(step)

    with mock.patch.object(Steps, "put", counted), contextlib.suppress(Stop):
        yield made
