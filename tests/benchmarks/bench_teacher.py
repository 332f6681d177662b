"""Activation into parameter: the model with texts in its context is the teacher of the module, and no label is given.

    python tests/benchmarks/bench_teacher.py [--form prefix]

Measured first: whether the teacher itself knows one, two and three facts; of each number, the first that it does are taught. Asked in
phrasings that no lesson has, by hand. The pupil has to say what the gate asks of every module.
"""

from __future__ import annotations

import argparse
import sys

import invented

from memos_core.cube import ParameterForm
from memos_core.examination import holds
from memos_core.hf import HFEngine
from memos_core.hf.gate import BOUNDS
from memos_core.lessons import PLAIN_TEXTS, course

TEACHER = 0.8
"""Share of the questions of which the teacher has to answer more."""
NEW = 20  # tokens


def known(engine: HFEngine, facts: tuple[invented.Invented, ...], context: str = "") -> float:
    """Share of the questions by hand whose greedy answer holds the fact."""
    asked = [(question, fact.answer) for fact in facts for question in fact.asked]
    system = [{"role": "system", "content": context}] if context else []
    replies = engine.generate_batch([[*system, {"role": "user", "content": question}] for question, _ in asked], max_new_tokens=NEW)
    return sum(holds(reply.text, answer) for reply, (_, answer) in zip(replies, asked, strict=True)) / len(asked)


def told(facts: tuple[invented.Invented, ...]) -> str:
    return " ".join(fact.statement for fact in facts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=list(ParameterForm), default=ParameterForm.PREFIX)
    arguments = parser.parse_args()
    engine, good = HFEngine.load(), True
    for count in (1, 2, 3):
        cases = [invented.TUNED[start : start + count] for start in range(0, len(invented.TUNED), count)]
        teachers = [known(engine, facts, told(facts)) for facts in cases]
        print(f"{count} facts: teachers {' '.join(f'{teacher:.2f}' for teacher in teachers)}", flush=True)
        place = next((place for place, teacher in enumerate(teachers) if teacher > TEACHER), None)
        if place is None:
            print(f"  none knows more than {TEACHER:.0%}")
            continue
        facts, teacher = cases[place], teachers[place]
        made = course([(str(number), fact.statement, None) for number, fact in enumerate(facts)])
        lessons = engine.in_context(made.teach, told(facts))
        found = engine.distil((*lessons, *made.keep), (), form=ParameterForm(arguments.form), start=told(facts), texts=PLAIN_TEXTS)
        with engine.activate(found.module):
            pupil = known(engine, facts)
        met = pupil >= BOUNDS["said"][1]
        good &= met
        print(
            f"  {told(facts)} base {known(engine, facts):.2f}, teacher {teacher:.2f}, pupil {pupil:.2f}"
            f" after {found.steps} steps, {found.seconds:.0f} CPU s  {'met' if met else 'MISSED'}",
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
