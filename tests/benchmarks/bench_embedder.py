"""The model's own hidden states as an embedder, beside all-MiniLM-L6-v2: share of the evidence among the ten nearest, by cosine alone.

    python tests/benchmarks/bench_embedder.py directory-with-locomo_dev.json

The second conversation of LoCoMo; what the vectors are freed of is read from messages of the first.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from memos_core.embed import local_embedder
from memos_core.hf import HFEngine, PooledStates

LAYERS = (7, 15, 23, 29)


def turns(conversation: dict[str, Any]) -> dict[str, str]:
    return {
        turn["dia_id"]: f"{turn['speaker']}: {turn['text']}"
        for name, session in conversation["conversation"].items()
        if re.fullmatch(r"session_\d+", name)
        for turn in session
    }


def recall(embed: Any, texts: dict[str, str], asked: list[tuple[str, list[str]]]) -> float:
    ids, vectors, queries = list(texts), np.asarray(embed(list(texts.values()))), np.asarray(embed([question for question, _ in asked]))
    found = []
    for query, (_, evidence) in zip(queries, asked, strict=True):
        nearest = {ids[place] for place in np.argsort(-(vectors @ query))[:10]}
        found.append(len(nearest.intersection(evidence)) / len(evidence))
    return float(np.mean(found))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    first, second = json.loads((parser.parse_args().data / "locomo_dev.json").read_text())[:2]
    sample, texts = list(turns(first).values()), turns(second)
    asked = [(one["question"], [id for id in one.get("evidence") or [] if id in texts]) for one in second["qa"] if one.get("category") != 5]
    asked = [(question, evidence) for question, evidence in asked if evidence]
    print(f"{len(texts)} messages, {len(asked)} questions")
    print(f"all-MiniLM-L6-v2: {recall(local_embedder(), texts, asked):.1%}")
    engine = HFEngine.load()
    for layer in LAYERS:
        start = time.perf_counter()
        print(f"hidden states of layer {layer}: {recall(PooledStates(engine, layer=layer, sample=sample), texts, asked):.1%} "
              f"({time.perf_counter() - start:.0f} s)", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
