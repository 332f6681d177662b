"""All measurements: speed and time to first token always, memory quality on the evaluation sets that are there.

python tests/benchmarks/run.py [directory with evaluation sets]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
# task of memory_eval.py -> what its data is called, and what it is
SETS = {
    "locomo": ("locomo*.json", "LoCoMo, evidence retrieval in long dialogues"),
    "realtalk": ("realtalk*", "REALTALK, the same in chats of real people"),
    "beam": ("beam*", "BEAM, the same in user-assistant chats"),
}
NOT_YET = {"time": "timestamp-based loading", "conflict": "conflict detection", "pairs": "conflict detection"}


def run(title: str, *command: str) -> bool:
    print(f"\n== {title}\n   {' '.join(command)}", flush=True)
    return subprocess.run([sys.executable, *command], check=False).returncode == 0


def main() -> int:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else None
    if data is not None and not data.is_dir():
        print(f"{data} is not a directory; pass the one that holds the evaluation sets: make bench DATA=directory")
        return 2
    evaluate = str(HERE / "memory_eval.py")
    well = run("Time to first token with and without reuse", str(HERE / "bench_ttft.py"))
    well &= run("Adding and recalling, 10,000 memories", evaluate, "speed", "--n", "10000")
    for task, (pattern, what) in SETS.items():
        found = sorted(data.glob(pattern)) if data else []
        if found:
            well &= run(what, evaluate, task, "--data", str(found[0]))
        else:
            place = f"no {pattern} in {data}" if data else "no directory was given (make bench DATA=directory)"
            print(f"\n== {what}\n   not measured: {place}. The README says where the set comes from")
    for task, ability in NOT_YET.items():
        print(f"\n== {task}\n   not measured: this version lacks {ability}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
