"""The gate: what a module is measured to know, and to have left alone, before it is used. Thresholds are fixed here.

Measured with the module forced on, on questions that it was not trained on: held-out phrasings of its facts; what everybody knows (other
questions than were rehearsed); names that nobody has and names half taught, from other lists; plain text and assistants' turns; open and
in-context questions. Source: MemOS §4.1 asks for reliability of parametric memory; the measures and thresholds are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from memos_core.cube import Answer, Report
from memos_core.examination import IN_CONTEXT, KNOWN, OPEN, TURNS, essence, halves, holds, strangers
from memos_core.hf.distil import Distilling
from memos_core.hf.module import Module
from memos_core.hf.prefix import Prompt, Scope
from memos_core.hf.prompt import Message
from memos_core.hf.request import Request
from memos_core.hf.signals import ORDINARY
from memos_core.lessons import Course, Probe
from memos_core.statements import Fact
from memos_core.statements.questions import question as question_of

NEW = 20  # tokens of a greedy answer
BATCH = 16
BOUNDS: dict[str, tuple[str, float]] = {
    "ranked": (">=", 0.9),
    "said": (">=", 0.75),
    "known": (">=", 0.8),
    "leaked": ("<=", 0.2),
    "neighbours": ("<=", 0.75),
    "text": ("<=", 1.05),
    "turns": ("<=", 1.1),
    "unharmed": (">=", 0.8),
}
"""measure: (at least or at most, threshold). See `cube.Report`."""
SURE = 0.1
"""The probability of a whole answer from which the model is sure of it. Of entities that nobody knows it stayed below 0.012 (24 facts)."""
TAIL = 8  # tokens of such an answer
STOPS = frozenset(".,!?\n")
WORSE = 1.25  # how much more perplexed a module may be about what the base says to an open question


@dataclass(frozen=True)
class Baseline:
    """What the base does on the questions of the examination: computed once for a model, and the same for every module."""

    known: tuple[bool, ...]
    in_context: tuple[bool, ...]
    open: tuple[str, ...]
    open_perplexity: tuple[float, ...]
    text: float
    turns: float


def failed(report: Report) -> tuple[str, ...]:
    """The measures that do not reach their thresholds, with both numbers. Pure."""
    found = []
    for name, (sign, bound) in BOUNDS.items():
        value = getattr(report, name)
        if not (value >= bound if sign == ">=" else value <= bound):
            found.append(f"{name} {value:.2f}, asked {sign} {bound:g}")
    return tuple(found)


class Examining(Distilling):
    """Examining modules."""

    if TYPE_CHECKING:  # of the engine that this is a part of

        def rank(self, question: str | Sequence[Message], answers: Sequence[str], scope: Scope = None) -> list[tuple[str, float]]: ...

    _baseline: tuple[str, Baseline] | None = None

    @staticmethod
    def module(data: bytes) -> Module:
        """The module of a file. Raises InvalidInput when it is none."""
        return Module.from_bytes(data)

    @staticmethod
    def module_in(folder: Path) -> Module:
        """The module of a PEFT directory. Raises InvalidInput for one that cannot be used."""
        return Module.from_directory(folder)

    def examine(self, module: Module, course: Course, seconds: float = 0.0) -> Report:
        """What a module does, measured; it is forced on. Deterministic. seconds: what making it took, for the report."""
        base = self.baseline()
        believed = {fact.id: instead for fact in course.facts if (instead := self._believed(fact))}
        taught = [probe.expected for probe in course.probes]
        with self.activate(module):
            answers = [answer.model_copy(update={"believed": believed.get(answer.fact, "")}) for answer in self._probed(course.probes)]
            known = self._held([question for question, _ in KNOWN], [words for _, words in KNOWN])
            leaked = self._named(strangers(course.facts), taught)
            neighbours = self._named(halves(course.facts), taught)
            context = self._held([f"{text} {question}" for text, question, _ in IN_CONTEXT],
                                 [words for *_, words in IN_CONTEXT])  # fmt: skip
            opened = self._named(OPEN, taught)
            perplexed = [self._turn_perplexity([(question, reply)]) for question, reply in zip(OPEN, base.open, strict=True)]
            text, turns = self._text_perplexity(ORDINARY), self._turn_perplexity(TURNS)
        fine = [now or not then for now, then in zip(context, base.in_context, strict=True)]
        fine += [not named and now <= WORSE * then for named, now, then in zip(opened, perplexed, base.open_perplexity, strict=True)]
        report = Report(
            ranked=_mean([answer.ranked for answer in answers]),
            said=_mean([answer.said for answer in answers]),
            known=_mean([now for now, then in zip(known, base.known, strict=True) if then]),
            leaked=_mean(leaked),
            neighbours=_mean(neighbours) if neighbours else 0.0,  # names of one word have no half that could be taken for the whole
            text=text / base.text,
            turns=turns / base.turns,
            unharmed=_mean(fine),
            seconds=seconds,
            answers=tuple(answers),
        )
        return report.model_copy(update={"failed": failed(report)})

    def baseline(self) -> Baseline:
        """What the model does without any module."""
        key = self.base_identity.key
        if self._baseline is None or self._baseline[0] != key:
            replies = tuple(self._said(list(OPEN)))
            found = Baseline(
                known=tuple(self._held([question for question, _ in KNOWN], [words for _, words in KNOWN])),
                in_context=tuple(
                    self._held([f"{text} {question}" for text, question, _ in IN_CONTEXT],
                               [words for *_, words in IN_CONTEXT])
                ),
                open=replies,
                open_perplexity=tuple(self._turn_perplexity([pair]) for pair in zip(OPEN, replies, strict=True)),
                text=self._text_perplexity(ORDINARY),
                turns=self._turn_perplexity(TURNS),
            )  # fmt: skip
            self._baseline = (key, found)
        return self._baseline[1]

    def _probed(self, probes: Sequence[Probe]) -> list[Answer]:
        replies = self._said([probe.question for probe in probes])
        found = []
        for probe, reply in zip(probes, replies, strict=True):
            options = [f"{probe.lead} {answer}." for answer in (probe.expected, *probe.others)]
            best = self.rank(probe.question, options)[0][0]
            found.append(
                Answer(question=probe.question, expected=probe.expected, fact=probe.fact, ranked=best == options[0],
                       said=holds(reply, essence(probe.expected)))
            )  # fmt: skip
        return found

    def _believed(self, fact: Fact) -> str:
        """What the model alone says in place of a fact's answer, where it is sure of it; else ""."""
        text = self._renderer.with_reply([{"role": "user", "content": question_of(fact)}], fact.says)
        said: list[int] = []
        chance = 1.0
        while chance >= SURE and len(said) < TAIL and not STOPS & set(self.tokenizer.decode(said[-1:])):
            _, logits = self._read_on(None, [[*text, *said]], 1)
            likeliest = logits[0, -1].softmax(dim=-1).max(dim=-1)
            chance *= float(likeliest.values)
            said.append(int(likeliest.indices))
        answer = str(self.tokenizer.decode(said, skip_special_tokens=True)).strip(" .,!?\n")
        return answer if chance >= SURE and answer and not holds(answer, essence(fact.answer)) else ""

    def _said(self, questions: Sequence[str]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(questions), BATCH):
            asked = [[{"role": "user", "content": question}] for question in questions[start : start + BATCH]]
            found += [reply.text for reply in self.generate_batch(asked, max_new_tokens=NEW)]
        return found

    def _held(self, questions: Sequence[str], words: Sequence[str]) -> list[bool]:
        """Whether each greedy answer holds one of its words."""
        return [holds(reply, wanted) for reply, wanted in zip(self._said(questions), words, strict=True)]

    def _named(self, questions: Sequence[str], taught: Sequence[str]) -> list[bool]:
        """Whether each greedy answer holds something that was taught."""
        words = [essence(answer) for answer in taught]
        return [any(holds(reply, word) for word in words) for reply in self._said(questions)]

    def _turn_perplexity(self, turns: Sequence[tuple[str, str]]) -> float:
        """Of assistants' replies, per token."""
        total, count = 0.0, 0
        for question, reply in turns:
            if reply.strip():
                total -= self.rank(question, [reply])[0][1]
                count += len(self._renderer.inner(reply))
        return math.exp(total / max(count, 1))

    def _text_perplexity(self, texts: Sequence[str]) -> float:
        """Of plain text, per token, under what is active here."""
        total, count = 0.0, 0
        for text in texts:
            tokens = self._renderer.plain(text)
            modules = self._acting([{"role": "user", "content": text}], None, None)
            prompt = self._prompt(tokens, None, None, modules)
            prompt = Prompt(prompt.identity, prompt.tokens, prompt.public, "", modules, len(tokens))
            request = Request(self, prompt, 0, False)
            try:
                logits = request.feed(tokens, last=len(tokens))[:-1].log_softmax(dim=-1)
            finally:
                request.close([])
            total -= float(logits.gather(1, torch.tensor(tokens[1:], device=logits.device).unsqueeze(1)).sum())
            count += len(tokens) - 1
        return math.exp(total / count)


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 1.0
