"""Text to terms for lexical search: words, folded, without stop-words, stemmed, hashed to 32 bits. Pure.

Source: BM25 practice (stop-words and Snowball stemming); hashing words to integers is ours, so that a scope's whole
lexical data is one flat array that numpy scans faster than the vectors beside it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import snowballstemmer

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_STOP = frozenset(
    """a about above after again all am an and any are aren as at be because been before being below between both but by can could couldn
    d did didn do does doesn doing don down during each few for from further had hadn has hasn have haven having he her here hers him his
    how i if in into is isn it its just ll m me more most mustn my no nor not now o of off on once only or other our ours out over own re s
    same shan she should shouldn so some such t than that the their theirs them then there these they this those through to too under until
    up ve very was wasn we were weren what when where which while who whom why will with won would wouldn y you your yours""".split()
)


@lru_cache(maxsize=200_000)
def _stem(word: str) -> str:
    if not word.isalpha():  # codes and numbers have no stem
        return word
    # A new stemmer each time a new word is met: the object keeps state while it works and threads share this cache.
    return str(snowballstemmer.stemmer("english").stemWord(word))


def fold(text: str) -> str:
    """Without case and accents."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return folded if folded.isascii() else "".join(character for character in folded if not unicodedata.combining(character))


def words(text: str) -> list[str]:
    """Terms of a text in order, with repeats. Emoji and punctuation are not terms; any script's letters are."""
    return [_stem(word) for word in _WORD.findall(fold(text).replace("'", " ").replace("’", " ")) if word not in _STOP]


@lru_cache(maxsize=200_000)
def term(word: str) -> int:
    """A stemmed word as an unsigned 32-bit integer."""
    return int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "little")


def terms(found: Sequence[str]) -> np.ndarray:
    """uint32 [n]: the hashed terms of a text's words."""
    return np.array([term(word) for word in found], dtype=np.uint32)
