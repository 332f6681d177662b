"""Time to first token with and without reuse, on the default model: process CPU seconds, medians of five rounds, one thread count.

    python -m tests.benchmarks.bench_ttft

A memory of 2,048 tokens and a question of 32 more. *Full prefill* is the stock model on the same tokens.
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

MEMORY, QUESTION, RUNS = 2048, 32, 5
FACTS = "On day {n} the clinic noted that patient {n} prefers appointment slot {m} and reads leaflet {k}. "


def conversation(engine: HFEngine) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(the memory alone, the memory and a question), cut so that the stable prefix and the rest have the lengths asked for."""
    text = "".join(FACTS.format(n=n, m=n * 7 % 24, k=n * 13 % 90) for n in range(200))
    renderer = Renderer(engine.tokenizer)
    low, high = 0, len(text)
    while low < high:  # the longest memory whose stable prefix is at most MEMORY tokens
        middle = (low + high + 1) // 2
        fits = len(renderer.stable_prefix([{"role": "system", "content": text[:middle]}])) <= MEMORY
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


def main() -> int:
    engine = HFEngine.load()
    model = engine.model
    memory, asked = conversation(engine)
    ids = torch.tensor([engine.tokens(asked)])
    segment = engine.prefill(memory)
    print(
        f"memory {segment.tokens} tokens, question {ids.shape[1] - segment.tokens} tokens, {torch.get_num_threads()} threads, {RUNS} runs"
    )
    file = Path(tempfile.mkdtemp(prefix="memos-bench-")) / "segment.safetensors"
    file.write_bytes(engine.save(segment))

    def stock(tokens: torch.Tensor) -> None:
        with torch.no_grad():
            model(tokens, logits_to_keep=1)

    def answer() -> None:
        engine.generate(asked, max_new_tokens=1)

    def only_memory() -> None:
        engine.close()
        engine.attach(file, scope=None, prefix_key=segment.prefix_key)
        engine.prefill(memory)  # comes from the file: nothing is computed

    def only_file() -> None:
        engine.close()
        engine.attach(file, scope=None, prefix_key=segment.prefix_key)

    question = ids[:, segment.tokens :]
    measured: dict[str, list[float]] = {}
    ways = {
        "full": (lambda: stock(ids), engine.close),
        "cold": (answer, engine.close),
        "alone": (lambda: stock(question), engine.close),
        "ram": (answer, only_memory),
        "disk": (answer, only_file),
    }
    for _ in range(RUNS):  # in turn, so that a busy moment of the machine does not fall on one of them alone
        for name, (call, prepare) in ways.items():
            measured.setdefault(name, []).append(cpu(call, prepare))
    full, cold, alone, ram, disk = (median(measured[name]) for name in ways)

    def ratio(above: str, below: str) -> float:
        """Median of the rounds' own ratios: the two were measured within seconds of each other."""
        return median(a / b for a, b in zip(measured[above], measured[below], strict=True))

    reused = engine.generate(asked, max_new_tokens=32)
    with torch.no_grad():
        plain = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=32)[0, ids.shape[1] :].tolist()
    same = list(reused.token_ids) == plain
    print(f"full {full:.3f}  question alone {alone:.3f}  cold {cold:.3f}  from RAM {ram:.3f}  from file {disk:.3f}  CPU seconds")
    checks = [
        ("full / reuse", ">=", 16.0, ratio("full", "ram")),
        ("reuse / question alone", "<=", 2.5, ratio("ram", "alone")),
        ("our cold path / stock", "<=", 1.05, ratio("cold", "full")),
        ("from a warm file / from RAM", "<=", 1.4, ratio("disk", "ram")),
    ]
    met = same
    print(f"{'':32}{'asked':>10}{'measured':>10}")
    for name, sign, bound, value in checks:
        good = value >= bound if sign == ">=" else value <= bound
        met = met and good
        print(f"{name:32}{sign + ' ' + str(bound):>10}{value:>10.2f}  {'met' if good else 'MISSED'}")
    print(f"{'greedy answer as stock generate':32}{'same':>10}{'same' if same else 'DIFFERENT':>10}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
