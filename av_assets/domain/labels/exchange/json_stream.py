"""JSON files of any length, one element at a time: memory is one window, whatever the file.

Numbers that JSON does not know (NaN, Infinity) or that no float holds, keys that come twice in one object, text that is
not UTF-8 or that UTF-8 cannot hold, and elements longer than a limit are refused. Nesting ends at Python's recursion
limit, as an error.
Belongs here: reading JSON that others wrote. Does not belong here: what the values mean.
"""

from __future__ import annotations

import codecs
import json
import math
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

_CHUNK_BYTES = 1 << 18
LONGEST_ELEMENT = 16 << 20
"""Characters of one element: thousands of boxes."""
_SPACE = " \t\n\r"
_LONGEST_TAIL = 3


class JsonStream:
    """A cursor over one JSON document; all errors are ValueError, and OSError where the file cannot be read.

    `members()` walks the members of an object: each value must be taken by `value()`, `elements()` or `skip()` before
    the next key. `end()` makes sure that nothing follows the document.
    """

    def __init__(self, path: Path, longest: int = LONGEST_ELEMENT) -> None:
        self._file = path.open("rb")
        self._text = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._window, self._at, self._over = "", 0, False
        self._longest = longest
        self._decoder = json.JSONDecoder(
            object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite, strict=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def peek(self) -> str:
        """The next character that is not space; empty at the end of the file."""
        while True:
            while self._at < len(self._window) and self._window[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._window) or not self._more():
                return self._window[self._at : self._at + 1]

    def take(self, wanted: str) -> str:
        """Step over one of the characters `wanted`."""
        found = self.peek()
        if not found or found not in wanted:
            raise ValueError(f"{found or 'the end of the file'!r} stands where one of {wanted!r} is due")
        self._at += 1
        return found

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise ValueError(f"not JSON: {error.msg}") from error
            except RecursionError as error:
                raise ValueError("values are nested too deeply") from error
            else:
                # A number near the end of the window may go on in the next one: 1, 1., 1e, 1e+ and then a digit.
                if end + _LONGEST_TAIL <= len(self._window) or not self._more():
                    if "\\u" in self._window[self._at : end]:
                        _refuse_half_characters(found)
                    self._at = end
                    return found

    def members(self) -> Iterator[str]:
        """Keys of the object that comes next, none of them twice."""
        self.take("{")
        seen: set[str] = set()
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            key = self.value()
            if not isinstance(key, str) or key in seen:
                raise ValueError(f"the key {key!r} comes twice or is none")
            seen.add(key)
            self.take(":")
            yield key
            if self.take(",}") == "}":
                return

    def elements(self) -> Iterator[Any]:
        """Elements of the array that comes next, each as soon as it is read."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def skip(self) -> None:
        """Step over the next value; an array of any length."""
        if self.peek() != "[":
            self.value()
            return
        for _ in self.elements():
            pass

    def end(self) -> None:
        if self.peek():
            raise ValueError("something follows the end of the document")

    def _more(self) -> bool:
        """Read on; False at the end of the file."""
        if self._over:
            return False
        self._window, self._at = self._window[self._at :], 0
        if len(self._window) > self._longest:
            raise ValueError(f"an element is longer than {self._longest:,} characters")
        # Twice as much each time: a long element is then scanned a few times, not once per chunk.
        data = self._file.read(max(_CHUNK_BYTES, len(self._window)))
        self._over = not data
        self._window += self._text.decode(data, final=self._over)
        return True


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return found


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not a number of JSON")


def _refuse_half_characters(value: Any) -> None:
    """Halves of UTF-16 pairs can be escaped in JSON and written nowhere else."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text has half a character, which UTF-8 cannot hold") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no number that a float holds")
    return number
