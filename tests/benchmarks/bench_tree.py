"""The tree of real conversations, printed: two dialogues of LoCoMo and two of REALTALK, after remembering and one tick.

python tests/benchmarks/bench_tree.py DATA [--samples 2]      DATA holds locomo_dev.json and realtalk_dev/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from memory_eval import Memory, fill, load_locomo, load_realtalk

from memos_core import outline


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--samples", type=int, default=2)
    options = parser.parse_args()
    for talk in [*load_locomo(options.data / "locomo_dev.json")[:2], *load_realtalk(options.data / "realtalk_dev")[:2]]:
        with Memory() as memos:
            now = fill(memos, talk)
            memos.tick(now)
            tree = memos.tree(talk["id"], now=now)
            sizes = [data["count"] for _, data in tree.nodes(data=True) if data["kind"] == "concept"]
            total = sum(sizes)
            print(f"\n== {talk['id']}: {total} facts, {len(sizes)} concepts")
            print(
                f"in a concept of two or more: {100 * sum(n for n in sizes if n > 1) / total:.1f} %; the largest: {100 * max(sizes) / total:.1f} %"
            )
            print(outline(tree, options.samples))


if __name__ == "__main__":
    main()
