"""CLIP's words to numbers: byte-level BPE, read from the `tokenizer.json` that CLIP exports bring along.

Written here rather than taken from a package: the one kind that is needed fits on a page, and reading a vocabulary runs
no foreign code. Other kinds of tokenizers are refused, never guessed.
Algorithm: Radford et al. 2021 (arXiv:2103.00020), text as in its reference: lower case, single spaces, words split by
the pattern below, bytes as printable characters (Radford et al. 2019), merges by rank with an end-of-word mark.
Belongs here: that. Does not belong here: the text network.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from av_assets.domain.errors import ModelError
from av_assets.domain.evidence.digests import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 16 << 20
MAX_CHARACTERS: Final = 1000
START, END, WORD_END = "<|startoftext|>", "<|endoftext|>", "</w>"
# Letters, single numerals, runs of other signs; contractions apart.
_WORDS: Final = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|[^\s\w]+|_+", re.IGNORECASE)


class ClipTokens:
    """A vocabulary with its merges.

    Raises:
        ModelError: `bad_tokenizer`, missing, too large, or not a CLIP tokenizer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        model = self._model()
        try:
            self._ids: dict[str, int] = {str(word): int(number) for word, number in model["vocab"].items()}
            pairs = (m.split(" ") if isinstance(m, str) else m for m in model["merges"])
            self._ranks = {(left, right): rank for rank, (left, right) in enumerate(pairs)}
            self.start, self.end = self._ids[START], self._ids[END]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._bad(f"lacks {error}") from error
        self._alphabet = _printable_bytes()

    def _model(self) -> dict[str, Any]:
        import json

        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise self._bad("larger than 16 MiB")
            found = json.loads(self._path.read_bytes())["model"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._bad(f"not readable: {type(error).__name__}") from error
        if not isinstance(found, dict) or found.get("end_of_word_suffix") != WORD_END:
            raise self._bad("not byte-level BPE with </w>, as CLIP has it")
        return found

    def _bad(self, reason: str) -> ModelError:
        remedy = "give the tokenizer.json of a CLIP model"
        return ModelError(f"tokenizer: {reason}", code="bad_tokenizer", file=self._path, remedy=remedy)

    @cached_property
    def digest(self) -> str:
        return sha256_file(self._path)

    def encode(self, text: str, length: int) -> list[int]:
        """`length` numbers: start, the words as far as there is place, end, and then ends.

        Raises:
            ModelError: `bad_tokenizer`, the vocabulary lacks a piece that its merges lead to.
        """
        cleaned = " ".join(unicodedata.normalize("NFC", text[:MAX_CHARACTERS]).split()).lower()
        pieces = [piece for word in _WORDS.findall(cleaned) for piece in self._pieces(word)]
        try:
            ids = [self._ids[piece] for piece in pieces]
        except KeyError as error:
            raise self._bad(f"no number for {error}") from error
        ids = [self.start, *ids[: length - 2], self.end]
        return ids + [self.end] * (length - len(ids))

    def _pieces(self, word: str) -> list[str]:
        letters = [self._alphabet[byte] for byte in word.encode()]
        parts = [*letters[:-1], letters[-1] + WORD_END]
        while len(parts) > 1:
            ranked = [(self._ranks.get(pair, len(self._ranks)), pair) for pair in itertools.pairwise(parts)]
            rank, pair = min(ranked)
            if rank == len(self._ranks):
                break
            parts = _merged(parts, pair)
        return parts


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    merged, at = [], 0
    while at < len(parts):
        together = tuple(parts[at : at + 2]) == pair
        merged.append("".join(pair) if together else parts[at])
        at += 2 if together else 1
    return merged


def _printable_bytes() -> dict[int, str]:
    """byte -> character: itself where it prints, else one from beyond Latin-1."""
    printing = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printing]
    return {byte: chr(byte) for byte in printing} | {byte: chr(256 + n) for n, byte in enumerate(others)}
