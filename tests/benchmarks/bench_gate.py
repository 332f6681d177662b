"""Modules that are bad on purpose, on the real model: the gate has to turn each of them away.

    python tests/benchmarks/bench_gate.py

overfit: the bare statements, learned by heart with nothing kept. wrong: taught other answers than it is asked. noisy: weights disturbed until
plain text is 30 % more perplexing. Beside them a module that was distilled as always.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import invented
import torch

from memos_core.cube import ParameterForm
from memos_core.hf import HFEngine
from memos_core.hf.lowrank import LowRank
from memos_core.hf.module import Module, TrainedPrefix
from memos_core.hf.signals import ORDINARY
from memos_core.hf.training import Settings
from memos_core.lessons import PLAIN_TEXTS, Course, Lesson, course


def taught(facts: tuple[invented.Invented, ...]) -> Course:
    return course([(str(place), fact.statement, None) for place, fact in enumerate(facts)])


def distilled(engine: HFEngine, facts: tuple[invented.Invented, ...]) -> Module:
    """As `promote` does it."""
    made = taught(facts)
    start = " ".join(fact.statement for fact in facts)
    return engine.distil((*made.teach, *made.keep), made.watched, start=start, texts=PLAIN_TEXTS).module


def overfit(engine: HFEngine, facts: tuple[invented.Invented, ...]) -> Module:
    lessons = [Lesson((("user", "Continue."),), fact.statement, "teach", str(place)) for place, fact in enumerate(facts) for _ in range(2)]
    settings = Settings.of(ParameterForm.LORA, rate=1e-2, steps=40, taught=6)
    return engine.distil(lessons, form=ParameterForm.LORA, settings=settings).module


def wrong(engine: HFEngine, facts: tuple[invented.Invented, ...]) -> Module:
    others = tuple(
        replace(fact, statement=fact.statement.replace(fact.answer, fact.others[0]), answer=fact.others[0], others=(fact.answer, *fact.others[1:]))
        for fact in facts
    )  # fmt: skip
    return distilled(engine, others)


def disturbed(module: Module, by: float) -> Module:
    """The module with noise of so many standard deviations of its weights."""
    generator, weights = torch.Generator().manual_seed(0), module.weights

    def shaken(tensor: torch.Tensor) -> torch.Tensor:
        return tensor + by * tensor.std() * torch.randn(tensor.shape, generator=generator)

    if isinstance(weights, TrainedPrefix):
        return replace(module, weights=TrainedPrefix(shaken(weights.embeddings)))
    assert isinstance(weights, LowRank)
    return replace(module, weights=replace(weights, factors={name: (shaken(a), shaken(b)) for name, (a, b) in weights.factors.items()}))


def noisy(engine: HFEngine, module: Module) -> Module:
    """Of growing disturbances the first that makes plain text 30 % more perplexing."""
    base = engine._text_perplexity(ORDINARY)
    for step in range(1, 40):
        found = disturbed(module, 0.05 * step)
        with engine.activate(found):
            if engine._text_perplexity(ORDINARY) >= 1.3 * base:
                return found
    raise SystemExit("no disturbance made plain text 30 % more perplexing")


def main() -> int:
    engine, facts, wronged = HFEngine.load(), invented.TUNED, 0
    good = distilled(engine, facts)
    for name, module in (
        ("as always", good),
        ("noisy", noisy(engine, good)),
        ("overfit", overfit(engine, facts)),
        ("wrong", wrong(engine, facts)),
    ):
        report = engine.examine(module, taught(facts))
        measured = {
            field: round(getattr(report, field), 2) for field in ("ranked", "said", "known", "leaked", "neighbours", "text", "turns")
        }
        verdict = "rejected: " + "; ".join(report.failed) if report.failed else "let in"
        good_verdict = bool(report.failed) == (name != "as always")
        wronged += not good_verdict
        print(f"{name:10} {verdict}  {measured}  {'met' if good_verdict else 'MISSED'}", flush=True)
    return int(wronged > 0)


if __name__ == "__main__":
    sys.exit(main())
