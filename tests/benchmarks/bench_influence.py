"""Which memory did an answer come from? Attention against words in common, on questions from LoCoMo.

    python tests/benchmarks/bench_influence.py directory-with-locomo_dev.json

Each prompt holds the one message with the evidence among seven others of the same conversation, in any order; the reply is the answer
of the set. Named is the memory of the largest share; chance: 12.5 %. Then the rule by which uses are counted: how often it credits the
right memory, how much of what it credits is right, and how often it credits anything for an answer to another question, or for
"I don't know". How attention is summed up was chosen on the cases before FIRST, the constants of the rule on some before THEN: each is
measured on those behind.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from memos_core.credit import answered_from
from memos_core.hf import HFEngine

FIRST, THEN, OTHERS, SEED = 120, 320, 7, 1
NO_ANSWER = "I'm sorry, I don't know that."


def cases(data: list[dict[str, Any]]) -> list[tuple[str, str, list[str], int]]:
    """(question, answer, memories, place of the right one)."""
    rng, found = random.Random(SEED), []
    for conversation in data:
        turns = {
            turn["dia_id"]: f"{turn['speaker']}: {turn['text']}"
            for name, session in conversation["conversation"].items()
            if re.fullmatch(r"session_\d+", name)
            for turn in session
        }
        for one in conversation["qa"]:
            evidence = one.get("evidence") or []
            if len(evidence) == 1 and evidence[0] in turns and one.get("answer") and one.get("category") in (1, 4):
                ids = [*rng.sample([id for id in turns if id != evidence[0]], OTHERS), evidence[0]]
                rng.shuffle(ids)
                found.append((one["question"], str(one["answer"]), [turns[id] for id in ids], ids.index(evidence[0])))
    rng.shuffle(found)
    return found


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--most", type=int, help="so many answers")
    arguments = parser.parse_args()
    made = cases(json.loads((arguments.data / "locomo_dev.json").read_text()))[FIRST:]
    if arguments.most:
        made = made[: arguments.most]
    engine = HFEngine.load()
    named = overlapping = either = counted = 0
    credited = {by: Counter[str]() for by in ("attention", "words")}
    for place, (question, answer, memories, right) in enumerate(made):
        messages = [{"role": "user", "content": "<memory>\n" + "\n".join(memories) + "\n</memory>\n\n" + question}]
        shares = engine.influence(messages, answer, memories)
        common = [len(words(answer) & words(memory)) / len(words(memory)) ** 0.5 for memory in memories]
        by_attention, by_words = (max(range(len(memories)), key=values.__getitem__) == right for values in (shares, common))
        named, overlapping, either = named + by_attention, overlapping + by_words, either + (by_attention or by_words)
        if place + FIRST < THEN:
            continue
        counted += 1
        replies = {"answer": answer, "answer to another question": made[place - 1][1], "no answer": NO_ANSWER}
        for what, reply in replies.items():
            attention = shares if what == "answer" else engine.influence(messages, reply, memories)
            for by, given in (("attention", attention), ("words", None)):
                places = answered_from(question, reply, memories, given)
                credited[by].update(
                    {what: bool(places), "all": len(places) * (what == "answer"), "right": (what == "answer") and right in places}
                )
    print(f"{len(made)} answers: the memory is named by attention for {named / len(made):.1%}, by words in common for "
          f"{overlapping / len(made):.1%}, by one of the two for {either / len(made):.1%}")  # fmt: skip
    for by, counts in credited.items():
        print(f"uses by {by}: the right memory {counts['right'] / counted:.1%}, of what is credited {counts['right'] / counts['all']:.1%}; "
              f"something for an answer to another question {counts['answer to another question'] / counted:.1%}, "
              f"for no answer {counts['no answer'] / counted:.1%}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
