"""Skewed questions over a memory three times the bytes that KV may take: what stays in RAM by value, by recency, and none.

    python tests/benchmarks/bench_tier.py [--questions 500] [--memories 60]

Each question is asked behind one of many texts, by Zipf's law; the real model, its prompts read in one run, in turns, each with an engine of
its own over the same weights. CPU seconds to the first token; the answers have to be the same.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Hashable

import numpy as np
from rivals import LRU

from memos_core.hf import HFEngine
from memos_core.lessons import PLAIN_TEXTS
from memos_core.residency import Decision

ASKED = {"recency": 0.9, "nothing": 0.6}
"""CPU seconds by value / by what is named, at most."""
TOKENS_OF_ANSWER = 4


class Recency(LRU):
    """Least recently used, as the tier of an engine: what is pinned stays."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.pinned: set[Hashable] = set()

    def __contains__(self, key: object) -> bool:
        return key in self.sizes

    def free(self, key: Hashable, parent: Hashable | None) -> bool:
        return key not in self.pinned and super().free(key, parent)

    def pin(self, key: Hashable) -> None:
        self.pinned.add(key)

    def unpin(self, key: Hashable) -> None:
        self.pinned.discard(key)

    def discard(self, key: Hashable) -> tuple[Hashable, ...]:
        if key in self:
            self.remove(key)
        return ()

    def request(
        self, key: Hashable, size: int, seconds: float, group: Hashable | None = None, parent: Hashable | None = None, together: bool = False
    ) -> Decision:  # fmt: skip
        return super().request(key, size, seconds, group, parent, together)


def texts(count: int, rng: random.Random) -> list[str]:
    """Texts of 80 to 1,500 words or so, lognormal, each its own from the first sentence on."""
    sentences = [f"{sentence.strip()}." for text in PLAIN_TEXTS for sentence in text.split(".") if sentence.strip()]
    found = []
    for number in range(count):
        words = int(min(max(rng.lognormvariate(5.0, 0.8), 60), 1000))
        text = [f"Notes of case {number}, kept by clerk {rng.randrange(1000)}."]
        while sum(len(each.split()) for each in text) < words:
            text.append(rng.choice(sentences))
        found.append(" ".join(text))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--memories", type=int, default=60)
    parser.add_argument("--zipf", type=float, default=1.0)
    arguments = parser.parse_args()
    rng = random.Random(0)
    memory = texts(arguments.memories, rng)
    first = HFEngine.load()
    whole = sum(first.prefill_tokens([{"role": "system", "content": text}]) for text in memory)
    budget = whole * first.sizes(1)[0][1] // 3
    engines = {
        "value": HFEngine(first.model, first.tokenizer, kv_bytes=budget),
        "recency": HFEngine(first.model, first.tokenizer, kv_bytes=budget),
        "nothing": HFEngine(first.model, first.tokenizer, kv_bytes=0),
    }
    engines["recency"].kv.tier = Recency(budget)  # type: ignore[assignment]
    chances = np.arange(1, len(memory) + 1, dtype=float) ** -arguments.zipf
    order = np.random.default_rng(0)
    asked = order.permutation(len(memory))[order.choice(len(memory), arguments.questions, p=chances / chances.sum())]
    spent, reused, total, same = dict.fromkeys(engines, 0.0), dict.fromkeys(engines, 0), 0, 0
    print(
        f"{len(memory)} texts of {whole:,} tokens, KV of {whole * first.sizes(1)[0][1] / 2**20:.0f} MB, {budget / 2**20:.0f} MB of it in RAM"
    )
    for number, place in enumerate(asked):
        messages = [
            {"role": "system", "content": memory[place]},
            {"role": "user", "content": f"Question {number}: who keeps these notes?"},
        ]
        answers = []
        for name in rng.sample(list(engines), len(engines)):
            start = time.process_time()
            reply = engines[name].generate(messages, max_new_tokens=1)
            spent[name] += time.process_time() - start
            reused[name] += reply.reused_tokens
            if number % 10 == 0:  # a longer answer, to compare
                reply = engines[name].generate(messages, max_new_tokens=TOKENS_OF_ANSWER)
            answers.append(reply.token_ids)
        total += reply.prompt_tokens
        same += all(answer == answers[0] for answer in answers)
        if (number + 1) % 100 == 0:
            print(f"  {number + 1} questions: " + ", ".join(f"{name} {seconds:.0f} CPU s" for name, seconds in spent.items()), flush=True)
    met = same == len(asked)
    print(f"answers the same in {same} of {len(asked)}  {'met' if met else 'MISSED'}")
    for name in engines:
        held = engines[name].kv.stats()
        print(f"{name:8} {spent[name]:7.1f} CPU s, {reused[name] / total:.1%} of the tokens reused, {held['evictions']} blocks evicted")
    for name, bound in ASKED.items():
        ratio = spent["value"] / spent[name]
        met &= ratio <= bound
        print(f"by value / {name}: {ratio:.3f}  asked <= {bound}  {'met' if ratio <= bound else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
