"""Reuse of KV on the default model: process CPU seconds, medians of five rounds taken in turn, one thread count.

    python -m tests.benchmarks.bench_reuse

A memory and a question of 32 tokens more. *Full prefill* is the stock model on the same tokens.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from memos_core.hf import HFEngine
from memos_core.hf.prompt import Renderer

LENGTHS, QUESTION, ROUNDS = (512, 1024, 2048, 4096), 32, 5
USUAL = 2048
DECODED = 48
FACTS = "On day {n} the clinic noted that patient {n} prefers appointment slot {m} and reads leaflet {k}. "
Messages = list[dict[str, str]]


def conversation(engine: HFEngine, length: int = USUAL) -> tuple[Messages, Messages]:
    """(the memory alone, the memory and a question), cut so that the stable prefix and the rest have the lengths asked for."""
    text = "".join(FACTS.format(n=n, m=n * 7 % 24, k=n * 13 % 90) for n in range(200))
    renderer = Renderer(engine.tokenizer)
    low, high = 0, len(text)
    while low < high:  # the longest memory whose stable prefix is at most so many tokens
        middle = (low + high + 1) // 2
        fits = len(renderer.stable_prefix([{"role": "system", "content": text[:middle]}])) <= length
        low, high = (middle, high) if fits else (low, middle - 1)
    memory = [{"role": "system", "content": text[:low]}]
    prefix = len(renderer.stable_prefix(memory))
    question = "Which slot does patient twelve prefer"
    while len(engine.tokens([*memory, {"role": "user", "content": question}])) < prefix + QUESTION:
        question += " please"
    return memory, [*memory, {"role": "user", "content": question}]


def cpu(call: Callable[[], Any], prepare: Callable[[], Any]) -> float:
    """CPU seconds of `call`, after an unmeasured `prepare`."""
    prepare()
    gc.collect()
    start = time.process_time()
    call()
    return time.process_time() - start


class Bench:
    """One memory length: the ways to answer, each measured in turn."""

    def __init__(self, engine: HFEngine, length: int, folder: Path) -> None:
        self.engine = engine
        self.memory, self.asked = conversation(engine, length)
        self.ids = torch.tensor([engine.tokens(self.asked)])
        self.segment = engine.prefill(self.memory)
        self.file = folder / f"{length}.safetensors"
        self.file.write_bytes(engine.save(self.segment))

    def stock(self, tokens: torch.Tensor) -> None:
        with torch.no_grad():
            self.engine.model(tokens, logits_to_keep=1)

    def answer(self) -> None:
        self.engine.generate(self.asked, max_new_tokens=1)

    def only_memory(self) -> None:
        self.engine.close()
        self.engine.prefill(self.memory)
        self.answer()  # whatever is made once is made
        self.engine.kv.clear()
        self.engine.prefill(self.memory)

    def only_file(self) -> None:
        self.only_memory()
        self.engine.kv.clear()
        self.attach()

    def attach(self) -> None:
        self.engine.attach(self.file, scope=None, prefix_key=self.segment.prefix_key)

    def measure(self) -> dict[str, list[float]]:
        """CPU seconds of each way, round by round."""
        question = self.ids[:, self.segment.tokens :]
        ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
            "full": (lambda: self.stock(self.ids), self.engine.close),
            "ram": (self.answer, self.only_memory),
            "alone": (lambda: self.stock(question), self.engine.close),
        }
        if self.segment.tokens <= USUAL:
            ways["cold"] = (self.answer, self.engine.close)
        if USUAL - 64 < self.segment.tokens <= USUAL:
            ways["file"] = (self.answer, self.only_file)
            ways["attach"] = (self.attach, self.engine.close)
        measured: dict[str, list[float]] = {}
        for _ in range(ROUNDS):  # in turn, so that a busy moment of the machine does not fall on one of them alone
            for name, (call, prepare) in ways.items():
                measured.setdefault(name, []).append(cpu(call, prepare))
        return measured

    def decoding(self) -> list[tuple[float, float]]:
        """Seconds per token of our decoding and of stock `generate`, round by round; wall time, since tokens are waited for."""
        model, rounds = self.engine.model, []
        asked = [*self.memory, {"role": "user", "content": "Write a long story about the sea."}]  # no short answer
        ids = torch.tensor([self.engine.tokens(asked)])
        for _ in range(ROUNDS):
            self.only_memory()
            reply = self.engine.generate(asked, max_new_tokens=DECODED)
            ours = (reply.seconds - reply.seconds_to_first_token) / (len(reply.token_ids) - 1)
            times = []
            for new in (1, DECODED):
                start = time.perf_counter()
                with torch.no_grad():
                    made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new)
                times.append(time.perf_counter() - start)
            assert made[0, ids.shape[1] :].tolist() == list(reply.token_ids)
            rounds.append((ours, (times[1] - times[0]) / (len(reply.token_ids) - 1)))
        return rounds

    def same_as_stock(self) -> bool:
        self.only_memory()
        reused = self.engine.generate(self.asked, max_new_tokens=32)
        with torch.no_grad():
            plain = self.engine.model.generate(self.ids, attention_mask=torch.ones_like(self.ids), do_sample=False, max_new_tokens=32)[
                0, self.ids.shape[1] :
            ].tolist()
        return list(reused.token_ids) == plain


def ratio(measured: dict[str, list[float]], above: str, below: str) -> float:
    """Median of the rounds' own ratios: the two were measured within seconds of each other."""
    return median(a / b for a, b in zip(measured[above], measured[below], strict=True))


def main() -> int:
    engine = HFEngine.load()
    print(f"{torch.get_num_threads()} threads, {ROUNDS} rounds, question of {QUESTION} tokens, CPU seconds")
    checks: list[tuple[str, str, float, float]] = []
    same = True
    with tempfile.TemporaryDirectory(prefix="memos-bench-") as folder:
        for length, asked in zip(LENGTHS, (8, 13, 21, 36), strict=True):
            engine.close()
            bench = Bench(engine, length, Path(folder))
            measured = bench.measure()
            print(f"{bench.segment.tokens:5} tokens:", *(f"{name} {median(times):.3f}" for name, times in measured.items()), flush=True)
            checks.append((f"full / reuse at {length}", ">=", asked, ratio(measured, "full", "ram")))
            if "cold" in measured:
                checks.append((f"our cold path / stock at {length}", "<=", 1.05, ratio(measured, "cold", "full")))
            if length == USUAL:
                checks.append(("reuse / question alone", "<=", 1.5, ratio(measured, "ram", "alone")))
                checks.append(("from a warm file / from RAM", "<=", 1.25, ratio(measured, "file", "ram")))
                checks.append(("open and check a segment, ms", "<=", 5, 1000 * median(measured["attach"])))
                checks.append(("decoding, tokens/s, ours / stock", ">=", 1.3, median(stock / ours for ours, stock in bench.decoding())))
                exact = engine.pack(bench.segment)
                packed = engine.pack(bench.segment, "int8", probe=512)
                checks.append(("int8: bytes, share", "<=", 0.27, len(packed.data) / len(exact.data)))
                checks.append(("int8: divergence x 10,000", "<=", 1, 10_000 * packed.divergence))
                checks.append(("int8: same likeliest token", ">=", 0.99, packed.agreement))
            same &= bench.same_as_stock()
    met = same
    print(f"{'':36}{'asked':>10}{'measured':>10}")
    for name, sign, bound, value in checks:
        good = value >= bound if sign == ">=" else value <= bound
        met = met and good
        print(f"{name:36}{sign + ' ' + str(bound):>10}{value:>10.2f}  {'met' if good else 'MISSED'}")
    print(f"{'greedy answers as stock generate':36}{'same':>10}{'same' if same else 'DIFFERENT':>10}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
