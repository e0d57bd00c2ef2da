"""Full text over descriptions: which clips speak of the words, best first.

Belongs here: the ranking. Does not belong here: writing descriptions; the index of the whole lake.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_WORD: Final = re.compile(r"\w+")
MOST_WORDS: Final = 32


def matching_clips(texts: Iterable[tuple[str, str]], words: str) -> list[str]:
    """Ids of the (id, text) that hold all of `words`, best BM25 first (SQLite FTS5, Porter stems), ties by id.

    An id that several texts stand for takes its best place. Words are taken as words: there is no query syntax
    that a text could break. Without a word nothing matches.
    """
    asked = _WORD.findall(words.lower())[:MOST_WORDS]
    if not asked:
        return []
    with closing(sqlite3.connect(":memory:")) as index:
        index.execute(
            "create virtual table texts using fts5(id unindexed, body, tokenize='porter unicode61')"
        )
        index.executemany("insert into texts values (?, ?)", sorted(texts))
        query = " AND ".join(f'"{word}"' for word in asked)
        found = index.execute("select id from texts where texts match ? order by bm25(texts), id", (query,))
        return list(dict.fromkeys(str(row[0]) for row in found))
