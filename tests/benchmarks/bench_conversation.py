"""A conversation of sixty turns with memory: CPU seconds of the answers, ours against stock transformers that reads each prompt anew.

    python tests/benchmarks/bench_conversation.py

Every turn's prompt holds the head, the memories recalled for it and the whole conversation before it; both sides get the very same
prompts and give the very same answers. Ours counts everything: begin, generate, commit. Stock counts `model.generate` alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from memos_core import MemOS
from memos_core.hf import HFEngine

TURNS, NEW, ASKED = 60, 16, 0.25
SCOPE = ("clinic", "ana")
NAMES = ("Ana", "Ben", "Carla", "Dan", "Eva", "Finn")
THINGS = ("the cello", "chess", "tennis", "the flute", "rugby", "cards", "the drums", "golf", "the piano", "squash")
SYSTEM = "You are the assistant of a small music and sports club. Answer from what you know, in one short sentence."


def facts() -> list[str]:
    return [
        f"{name} practises {thing} on day {3 * place + number} of the month."
        for number, name in enumerate(NAMES)
        for place, thing in enumerate(THINGS)
    ]


def main() -> int:
    engine = HFEngine.load()
    ours = stock = 0.0
    same = reused = read = 0
    with tempfile.TemporaryDirectory(prefix="memos-bench-") as folder, MemOS.open(Path(folder) / "club.memos", engine=engine) as memos:
        memos.remember(facts(), scope=SCOPE)
        talk = [{"role": "system", "content": SYSTEM}]
        for turn_number in range(TURNS):
            name, thing = NAMES[turn_number % len(NAMES)], THINGS[turn_number * 7 % len(THINGS)]
            talk.append({"role": "user", "content": f"Question {turn_number + 1}: on which day does {name} practise {thing}?"})
            start = time.process_time()
            turn = memos.begin(talk, scope=SCOPE, session="long", token_budget=4096, k=3)
            reply = engine.generate(turn.prompt, turn.plan, SCOPE, NEW)
            turn.commit(reply.text)
            ours += time.process_time() - start
            ids = torch.tensor([engine.tokens(turn.prompt)])
            start = time.process_time()
            with torch.no_grad():
                made = engine.model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW)
            stock += time.process_time() - start
            same += made[0, ids.shape[1] :].tolist() == list(reply.token_ids)
            reused, read = reused + reply.reused_tokens, read + reply.prompt_tokens
            talk.append({"role": "assistant", "content": reply.text})
            if turn_number % 10 == 9:
                print(f"turn {turn_number + 1}: prompt of {reply.prompt_tokens} tokens, {reply.reused_tokens} reused; so far ours "
                      f"{ours:.1f} s, stock {stock:.1f} s", flush=True)  # fmt: skip
    share = ours / stock
    print(f"{TURNS} turns: CPU seconds ours / stock {share:.3f}, asked at most {ASKED}: {'met' if share <= ASKED else 'MISSED'}; "
          f"{reused / read:.0%} of the prompts' tokens reused; the same answer in {same} of {TURNS} turns")  # fmt: skip
    return 0 if share <= ASKED and same == TURNS else 1


if __name__ == "__main__":
    sys.exit(main())
