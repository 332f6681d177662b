"""Exactness on the default model: two hundred prompts, each answered over KV that reaches just as far as it is told to.

    python tests/benchmarks/bench_exact.py

Reused: nothing, up to a block boundary and one token beside it, up to where the tokens part of a request that was cut inside a word, all
but the last token, and all. With and without a system text, after a finished answer, in a scope and without one. Greedy answers against stock
`generate`, logits against one call of the stock model.
"""

from __future__ import annotations

import random
import sys
from collections import Counter

import torch

from memos_core.hf import HFEngine
from memos_core.hf.prefix import BLOCK
from memos_core.hf.prompt import shared
from memos_core.hf.request import Request

PROMPTS, NEW, ASKED = 200, 12, 1e-4
THINGS = "the harbour, a cello, two pills, Porto, tea\n\nor coffee, 17:30, naïve café, the  gap , 100 %, an e-mail, snow ☃, «quotes»".split(
    ", "
)
QUESTIONS = ("Which is best?", "Why?", " And then", "Name one thing.", "…", "Tell me more about it!\n", "7 + 5 =", "Où est-ce ?")
WAYS = ("nothing", "a block less one", "a block", "a block and one", "half a word", "all but one", "all")


def conversation(rng: random.Random) -> list[dict[str, str]]:
    def text(most: int) -> str:
        return " ".join(f"{rng.choice(('Ana', 'Ben', 'We', 'Nobody'))} saw {rng.choice(THINGS)}." for _ in range(rng.randint(1, most)))

    messages = [{"role": "system", "content": text(12)}] if rng.random() < 0.6 else []
    for _ in range(rng.choice((0, 0, 1, 2))):  # an answer that has ended stands before the question
        messages += [{"role": "user", "content": text(4)}, {"role": "assistant", "content": text(3)}]
    return [*messages, {"role": "user", "content": f"{text(8)} {rng.choice(QUESTIONS)}"}]


def reused(way: str, tokens: int, rng: random.Random) -> int:
    """How many tokens are to be there already."""
    boundary = BLOCK * rng.randint(1, max(tokens // BLOCK, 1))
    wanted = {"nothing": 0, "a block less one": boundary - 1, "a block": boundary, "a block and one": boundary + 1,
              "all but one": tokens - 1, "all": tokens}[way]  # fmt: skip
    return min(wanted, tokens)


def main() -> int:
    engine, rng = HFEngine.load(), random.Random(5)
    same, worst, far = 0, 0.0, Counter[str]()
    for number in range(PROMPTS):
        way, scope, messages = WAYS[number % len(WAYS)], rng.choice((None, "ana", ("ana", "home"))), conversation(rng)
        ids = engine.tokens(messages)
        engine.close()
        if way == "half a word":  # what was read before ends in the middle of one, where a tokenizer merges letters otherwise
            *said, last = messages
            words = last["content"].rstrip()
            cut = [*said, {**last, "content": words[: len(words) - rng.randint(2, max(2, len(words) // 3))]}]
            before = engine.generate(cut, scope=scope, max_new_tokens=1)
            length = shared(ids, [*engine.tokens(cut), *before.token_ids])
        elif length := reused(way, len(ids), rng):
            begun = engine._prompt(ids[:length], None, scope)
            request = Request(engine, begun, 0, True, whole=True)
            request.start()
            request.close(list(begun.tokens))
        reply = engine.generate(messages, scope=scope, max_new_tokens=NEW)
        far[way] += reply.reused_tokens == min(length, len(ids) - 1)
        tokens = torch.tensor([ids])
        with torch.no_grad():
            logits = engine.model(tokens, logits_to_keep=1).logits[0, -1]
            stock = engine.model.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=NEW)
        same += stock[0, len(ids) :].tolist() == list(reply.token_ids)
        worst = max(worst, float((engine.next_token_logits(messages, scope=scope) - logits).abs().max()))
    every = all(far[way] == len(range(place, PROMPTS, len(WAYS))) for place, way in enumerate(WAYS))
    met = same == PROMPTS and worst <= ASKED and every
    print(f"{PROMPTS} prompts: the same {NEW} greedy tokens as stock generate in {same}; logits differ by at most {worst:.1e}, asked {ASKED:.0e}; "
          f"as much reused as was there: {'always' if every else dict(far)}: {'met' if met else 'MISSED'}")  # fmt: skip
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
