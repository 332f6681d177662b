"""Names for tasks and concepts, read from the facts that are filed there. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Protocol

from memos_core.parse.phrases import SAMPLE, label
from memos_core.recall.features import called, first_name

FEW = 16
"""How many texts the label of each concept is read from where there are many concepts."""
MANY = 200
UNFILED = "not filed yet"


class Told(Protocol):
    """A fact, who said it and where it is filed."""

    @property
    def concept(self) -> int: ...
    @property
    def task(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def speaker(self) -> str | None: ...


def label_all(facts: Sequence[Told], known: Mapping[int, str]) -> dict[int, str]:
    """A label for every task and concept of one scope's facts. known: those that have one already; they are kept.

    Read from these facts alone, so a label tells nobody what they may not read.
    """
    names = {first_name(fact.speaker) for fact in facts if fact.speaker} | called(
        [fact.text for fact in facts[:: max(1, len(facts) // 512)]]
    )
    groups: dict[int, list[str]] = defaultdict(list)
    for fact in facts:
        for number in {fact.concept, fact.task} - {0}:
            groups[number].append(fact.text)
    size = SAMPLE if len(groups) <= MANY else FEW
    step = max(1, len(facts) // (4 * size))
    elsewhere = [fact.text for fact in facts[::step]]
    labels = {number: text for number, text in known.items() if number in groups}
    for number in sorted(groups, key=lambda number: (-len(groups[number]), number)):
        if number not in labels:
            texts = _spread(groups[number], size)
            found = label(texts, elsewhere, names, set(labels.values())) or _beginning(texts[0])
            labels[number] = found[:1].upper() + found[1:]
    return labels


def _spread(texts: Sequence[str], size: int) -> list[str]:
    """At most so many of the texts, evenly from all."""
    return [texts[place * len(texts) // min(size, len(texts))] for place in range(min(size, len(texts)))]


def _beginning(text: str) -> str:
    words = " ".join(text.split()[:6])
    return words if len(words) <= 40 else words[:39] + "…"
