"""Which memory did an answer come from? Attention against words in common, on questions from LoCoMo.

    python tests/benchmarks/bench_influence.py directory-with-locomo_dev.json

Each prompt holds the one message with the evidence among seven others of the same conversation, in any order; the reply is the answer
of the set. Named is the memory of the largest share. Chance: 12.5 %.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

from memos_core.hf import HFEngine

CASES, OTHERS, SEED = 200, 7, 1


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
    return found[:CASES]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    made = cases(json.loads((parser.parse_args().data / "locomo_dev.json").read_text()))
    engine = HFEngine.load()
    named = overlapping = either = 0
    for question, answer, memories, right in made:
        messages = [{"role": "user", "content": "<memory>\n" + "\n".join(memories) + "\n</memory>\n\n" + question}]
        shares = engine.influence(messages, answer, memories)
        common = [len(words(answer) & words(memory)) / len(words(memory)) ** 0.5 for memory in memories]
        by_attention, by_words = (max(range(len(memories)), key=values.__getitem__) == right for values in (shares, common))
        named, overlapping, either = named + by_attention, overlapping + by_words, either + (by_attention or by_words)
    print(f"{len(made)} answers: the memory is named by attention for {named / len(made):.1%}, by words in common for "
          f"{overlapping / len(made):.1%}, by one of the two for {either / len(made):.1%}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
