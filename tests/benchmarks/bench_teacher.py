"""Activation into parameter: the model with texts in its context is the teacher of the module, and no label is given.

    python tests/benchmarks/bench_teacher.py [--facts 2] [--form prefix]

Measured first: whether the teacher itself knows. Asked in phrasings that no lesson has, by hand.
"""

from __future__ import annotations

import argparse
import sys

import invented

from memos_core.cube import ParameterForm
from memos_core.examination import holds
from memos_core.hf import HFEngine
from memos_core.lessons import PLAIN_TEXTS, course

TEACHER = 0.8
"""Share of the questions that the teacher has to answer."""
NEW = 20  # tokens


def known(engine: HFEngine, facts: tuple[invented.Invented, ...], context: str = "") -> float:
    """Share of the questions by hand whose greedy answer holds the fact."""
    asked = [(question, fact.answer) for fact in facts for question in fact.asked]
    system = [{"role": "system", "content": context}] if context else []
    replies = engine.generate_batch([[*system, {"role": "user", "content": question}] for question, _ in asked], max_new_tokens=NEW)
    return sum(holds(reply.text, answer) for reply, (_, answer) in zip(replies, asked, strict=True)) / len(asked)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--facts", type=int, default=2)
    parser.add_argument("--form", choices=list(ParameterForm), default=ParameterForm.PREFIX)
    arguments = parser.parse_args()
    engine, good = HFEngine.load(), True
    for place in (0, 2, 8):  # of three kinds: work, home, allergy
        facts = invented.TUNED[place : place + arguments.facts]
        text = " ".join(fact.statement for fact in facts)
        made = course([(str(number), fact.statement, None) for number, fact in enumerate(facts)])
        teacher = known(engine, facts, text)
        lessons = engine.in_context(made.teach, text)
        found = engine.distil((*lessons, *made.keep), (), form=ParameterForm(arguments.form), start=text, texts=PLAIN_TEXTS)
        with engine.activate(found.module):
            pupil = known(engine, facts)
        met = teacher > TEACHER and pupil >= teacher
        good &= met
        print(
            f"{len(facts)} facts: base {known(engine, facts):.2f}, teacher {teacher:.2f} (asked > {TEACHER}), pupil {pupil:.2f}"
            f" after {found.steps} steps, {found.seconds:.0f} CPU s  {'met' if met else 'MISSED'}",
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
