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
    "conflict": ("beam*", "BEAM, contradictions flagged and updates ranked first"),
    "time": ("time*", "Zyphra, timestamp-based loading from time expressions"),
    "pairs": ("pairs*", "SICK, SNLI and MRPC, contradiction and duplicate"),
}
# script -> what of the data it needs, and what it shows; the last argument stands for where it is found
MORE = {
    "bench_ablation.py": (("locomo_dev.json", "realtalk_dev"), "What each part of the ranking adds, and paths shuffled", ()),
    "bench_chunks.py": (("locomo_dev.json",), "Chunks reused at another position", ()),
    "bench_influence.py": (("locomo_dev.json",), "Which memory an answer came from, by attention", ()),
    "bench_embedder.py": (("locomo_dev.json",), "The model's own hidden states as an embedder", ()),
    "bench_routing.py": (("locomo_dev.json",), "Which requests are for a module: related, unrelated, half taught", ()),
    "bench_tree.py": (("locomo_dev.json", "realtalk_dev"), "The tree of four conversations", ()),
    "bench_budget.py": (("locomo_dev.json",), "Recall after half of a memory was archived", ()),
    "bench_prefix.py": (("locomo_dev.json",), "Remote models: unchanged prefixes, on fifty turns of LoCoMo", ()),
    "bench_duplicates.py": (("locomo_dev.json",), "Near duplicates injected into LoCoMo", ("--memos", "--data")),
}


def run(title: str, *command: str) -> bool:
    print(f"\n== {title}\n   {' '.join(command)}", flush=True)
    return subprocess.run([sys.executable, *command], check=False).returncode == 0


def main() -> int:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] else None
    if data is not None and not data.is_dir():
        print(f"{data} is not a directory; pass the one that holds the evaluation sets: make bench DATA=directory")
        return 2
    evaluate = str(HERE / "memory_eval.py")
    well = run("Reuse of KV: time to first token, decoding, files, int8", str(HERE / "bench_reuse.py"))
    well &= run("Exactness: two hundred prompts over KV that reaches just so far", str(HERE / "bench_exact.py"))
    well &= run("A conversation of sixty turns, against stock transformers", str(HERE / "bench_conversation.py"))
    well &= run("Remote models: what of a request is an unchanged prefix, by where memory stands", str(HERE / "bench_prefix.py"))
    well &= run("A steering vector for declining: effect and side effects", str(HERE / "bench_steering.py"))
    well &= run("Questions over a memory three times its bytes in RAM", str(HERE / "bench_tier.py"))
    well &= run("Modules of twelve facts: three forms, three seeds", str(HERE / "bench_modules.py"))
    well &= run("A module of 48 facts", str(HERE / "bench_modules.py"), "--form", "prefix", "--seeds", "1", "--facts", "48")
    well &= run("The gate, on modules that are bad on purpose", str(HERE / "bench_gate.py"))
    well &= run("Modules whose teacher is the model with the texts before it", str(HERE / "bench_teacher.py"))
    well &= run("A memory's life, on the real model", "-m", "pytest", "-m", "bench", str(HERE.parent / "test_life.py"))
    well &= run(
        "The notebooks of the cookbook, and how long they take", "-m", "pytest", "-s", "-m", "bench", str(HERE.parent / "test_cookbook.py")
    )
    well &= run("The frameworks' tests on their lowest and their newest versions", str(HERE / "bench_versions.py"))
    well &= run("Adding and recalling, 10,000 memories of 100 users", evaluate, "speed", "--n", "10000")
    well &= run("One user's memory as it grows", str(HERE / "bench_scale.py"))
    well &= run("The scheduler at 100,000 memories: usage, ticks, decisions", str(HERE / "bench_tick.py"))
    conversations = ("--data", str(data)) if data and (data / "locomo_dev.json").exists() else ()
    well &= run("What a tier holds: by value, five other policies, two bounds", str(HERE / "bench_scheduler.py"), *conversations)
    for vectors in ("100000", "1000000"):
        well &= run(f"A first stage by fingerprints, {vectors} vectors", str(HERE / "bench_fingerprint.py"), "--n", vectors)
    for task, (pattern, what) in SETS.items():
        found = sorted(data.glob(pattern)) if data else []
        if found:
            well &= run(what, evaluate, task, "--data", str(found[0]))
        else:
            place = f"no {pattern} in {data}" if data else "no directory was given (make bench DATA=directory)"
            print(f"\n== {what}\n   not measured: {place}. The README says where the set comes from")
    for script, (needed, what, options) in MORE.items():
        if data and all((data / name).exists() for name in needed):
            place = data / needed[0] if options else data
            well &= run(what, str(HERE / script), *options, str(place))
        else:
            print(f"\n== {what}\n   not measured: it needs {' and '.join(needed)}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
