"""Work ahead of its consumer in a thread of its own, in order and with a bound.

Decoding, detection and encoding all leave the interpreter lock, so stages in a row keep several cores busy.
Belongs here: the handing over. Does not belong here: what is handed over.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

T = TypeVar("T")
_POLL_S = 0.1


def ahead(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """The same items in the same order, made by a thread that runs up to `depth` items ahead.

    An error of `items` is raised where the item that it stands for would have come. When the consumer stops
    early, the thread stops after the item that it is making, and `items` is closed.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def hand_over(is_item: bool, value: object) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((is_item, value), timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                if not hand_over(True, item):
                    break
        except BaseException as raised:  # noqa: BLE001
            error = raised
        finally:
            if close := getattr(items, "close", None):
                close()
            hand_over(False, error)

    thread = threading.Thread(target=work, name="redaction", daemon=True)
    thread.start()
    try:
        while True:
            is_item, value = waiting.get()
            if is_item:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stopped.set()
        thread.join()
