from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from av_assets.domain.privacy.pipeline import ahead

if TYPE_CHECKING:
    from collections.abc import Iterator


def threads() -> int:
    return sum(t.name == "redaction" for t in threading.enumerate())


def test_items_come_in_order_from_another_thread():
    def items() -> Iterator[tuple[int, str]]:
        for n in range(100):
            yield n, threading.current_thread().name

    assert list(ahead(items(), 4)) == [(n, "redaction") for n in range(100)]
    assert threads() == 0


def test_error_comes_after_the_items_before_it():
    def items() -> Iterator[int]:
        yield from range(5)
        raise KeyError("sixth")

    seen: list[int] = []

    def take() -> None:
        for item in ahead(items(), 2):
            seen.append(item)

    with pytest.raises(KeyError, match="sixth"):
        take()
    assert seen == list(range(5))
    assert threads() == 0


def test_no_more_than_depth_items_wait():
    made = 0

    def items() -> Iterator[int]:
        nonlocal made
        for n in range(50):
            made += 1
            yield n

    for taken, _ in enumerate(ahead(items(), 3), start=1):
        time.sleep(0.001)
        assert made <= taken + 3 + 2  # in the queue, in the hand of either side
    assert made == 50


def test_consumer_that_stops_early_stops_the_thread_and_closes_the_source():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            n = 0
            while True:
                yield (n := n + 1)
        finally:
            closed.set()

    stages = ahead(ahead(items(), 2), 2)
    assert next(stages) == 1
    stages.close()
    assert closed.is_set()
    assert threads() == 0
