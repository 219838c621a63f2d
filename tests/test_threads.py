"""Work that threads of one process do side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from skytwin.threads import Threads


def test_answers_come_in_the_order_of_the_tasks_however_long_each_takes() -> None:
    def slow(task: int, shared: float) -> int:
        time.sleep(shared * (task % 3))
        return task * task

    found = list(Threads(3).in_order(slow, range(20), shared=0.005))
    assert found == [task * task for task in range(20)]


def test_tasks_are_done_side_by_side() -> None:
    both = threading.Barrier(2, timeout=30)
    assert len(list(Threads(2).in_order(lambda _, __: both.wait(), range(4)))) == 4


def test_tasks_are_asked_for_as_they_are_needed() -> None:
    asked = []

    def tasks() -> Iterator[int]:
        for task in range(100):
            asked.append(task)
            yield task

    found = Threads(2).in_order(lambda task, _: task, tasks(), ahead=3)
    assert next(found) == 0
    assert len(asked) == 6
    found.close()


def test_an_error_comes_where_its_answer_would_and_ends_the_threads() -> None:
    def work(task: int, _: None) -> int:
        if task == 3:
            raise ValueError("three")
        return task

    before, found = threading.active_count(), []
    with pytest.raises(ValueError, match="three"):
        found += list(Threads(2).in_order(work, range(3)))
        for each in Threads(2).in_order(work, range(50)):
            found.append(each)
    assert found == [0, 1, 2, 0, 1, 2]
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before
