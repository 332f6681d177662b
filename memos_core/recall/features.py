"""What ranking needs to know of a message besides its words and meaning, read off its text once, when it is written. Pure.

Rules ours: who speaks and whom they address by name, whether the message only asks, whether it says when, whether it is a
standing wish. Names are kept as hashes of 32 bits: enough to recognise, nothing to read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from memos_core.analyse import fold, term, words
from memos_core.duplicate.fingerprint import BYTES

ASKS, QUESTION, DATED, STANDING, REPLY = 1, 2, 4, 8, 16
"""Bits of `traits`: holds nothing but a question; holds one; says when; asks to be kept to from now on; an assistant's own words."""

FEATURES = np.dtype(
    [("traits", "u1"), ("voice", "<u4"), ("name", "<u4"), ("called", "<u4"), ("length", "<u2"), ("from", "<f8"), ("to", "<f8"),
     ("fingerprint", "u1", (BYTES,))]
)  # fmt: skip
"""voice: who spoke. name: their first name, 0 for a mere role. called: the name they addressed somebody by, 0 for none. length: terms.
from, to: the time it speaks of, in seconds; where it says when. fingerprint: uint8 [32]."""

LONGEST_QUESTION = 15

_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_ONLY_ASKS = re.compile(r"[^.!]*\?(?:\W*\w+){0,2}\W*\Z")  # give or take two words behind it
_ASKING = re.compile(
    r"(?:\w+,\s+|(?:and|so|but|oh|wow|hey|hi|well|hmm|ok|okay|yeah|nice|great|cool)\b[\s,!.]*)*"
    r"(?:what|how|when|where|why|who|which|whose|do|does|did|have|has|had|are|is|was|were|can|could|would|will|should|shall|may|might|must|am|isn|aren|don|doesn|didn|won|any|got|ever)\b",
    re.IGNORECASE,
)
_CALLED = re.compile(
    r"(?:^|[.!?,]\s*)(?:hey|hi|hello|hiya|thanks|thank you|thx|good (?:morning|evening|night|afternoon)|morning|wow|oh|yes|yeah|yep|sure|sorry|dear"
    r"|cheers|absolutely|congrats|congratulations),?!?\s+(?-i:([A-Z][^\W\d_]+))\b|,\s+(?-i:([A-Z][^\W\d_]+))\s*(?:[!?.,]|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Features:
    """The features of one message; see FEATURES."""

    traits: int = 0
    voice: int = 0
    name: int = 0
    called: int = 0
    length: int = 0
    about: tuple[float, float] = (0.0, 0.0)
    fingerprint: bytes = bytes(BYTES)

    def packed(self) -> bytes:
        """As the store keeps them."""
        plain = self.traits, self.voice, self.name, self.called, min(self.length, 65535), *self.about
        return np.array((*plain, np.frombuffer(self.fingerprint, dtype=np.uint8)), dtype=FEATURES).tobytes()


def prose(text: str) -> str:
    """The text without its code blocks, or the whole where nothing else is left: what is embedded and indexed."""
    return _CODE.sub(" ", text).strip() or text


def first_name(name: str) -> str:
    """The name's first word, folded: what people call each other."""
    found = fold(name).split()
    return found[0] if found else ""


def called(texts: Iterable[str]) -> set[str]:
    """The names by which people address each other in these texts, folded."""
    return {fold(group) for text in texts for match in _CALLED.finditer(text) for group in match.groups() if group}


def features(
    text: str,
    role: str | None,
    speaker: str | None,
    *,
    about: tuple[float, float] | None,
    standing: bool,
    fingerprint: bytes = bytes(BYTES),
) -> Features:
    """Read a message's features off its text. about: the time it speaks of, None for none. standing: a standing wish was found in it."""
    plain = prose(text)
    count = len(words(plain))
    asks = "?" in plain
    only = asks and count <= LONGEST_QUESTION and _ONLY_ASKS.match(plain) is not None and _ASKING.match(plain) is not None
    named = speaker if speaker and fold(speaker) != fold(role or "") else None
    called = next((group for match in _CALLED.finditer(plain) for group in match.groups() if group), None)
    return Features(
        traits=ASKS * only | QUESTION * asks | DATED * (about is not None) | STANDING * standing | REPLY * (role == "assistant"),
        voice=term(fold(speaker or role or "")) if speaker or role else 0,
        name=term(first_name(named)) if named else 0,
        called=term(fold(called)) if called else 0,
        length=count,
        about=about or (0.0, 0.0),
        fingerprint=fingerprint,
    )


def unpack(blobs: Iterable[bytes]) -> np.ndarray:
    """FEATURES [n] from what the store keeps."""
    return np.frombuffer(b"".join(blobs), dtype=FEATURES)
