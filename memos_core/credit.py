"""Which of the memories in a prompt an answer came from. Pure: attention, where the model can be looked into, comes as an argument.

Source: MemOS §4.1-4.2 (attention as activation memory; usage indicators). The rule and its constants are ours: they were chosen on 120
answers of LoCoMo and are measured on others (tests/benchmarks/bench_influence.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from memos_core.analyse import words

BESIDE_THE_TOP = 0.5
"""A memory counts when it has at least this share of what the first one has."""
LEAST_ATTENTION = 0.004
"""Mean attention per head and layer beyond that of an empty answer; below it nothing was used."""
PLAIN_ATTENTION = 0.008
"""From here on a memory counts without a word in common with the answer."""
LEAST_COVERED = 1 / 3
"""Without attention: which share of the answer's own words the memory has to hold."""


class Credit(StrEnum):
    """By what a memory is held to have been used: the words that it has in common with the answer, or the answer's attention to it."""

    WORDS = "words"
    ATTENTION = "attention"


def answered_from(question: str, answer: str, texts: Sequence[str], attention: Sequence[float] | None = None) -> list[int]:
    """Places of the texts that the answer came from. attention: of the answer to each text, as `engine.influence` gives it."""
    own = set(words(answer)) - set(words(question))
    held = [set(words(text)) for text in texts]
    common = [len(own & each) / max(len(each), 1) ** 0.5 for each in held]
    if attention is None:
        covered = [len(own & each) >= LEAST_COVERED * len(own) for each in held]
        least = BESIDE_THE_TOP * max(common, default=0.0)
        return [place for place, value in enumerate(common) if value > 0 and value >= least and covered[place]]
    least = max(BESIDE_THE_TOP * max(attention, default=0.0), LEAST_ATTENTION)
    return [place for place, value in enumerate(attention) if value >= least and (common[place] > 0 or value >= PLAIN_ATTENTION)]
