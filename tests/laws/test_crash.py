"""Law *crash*, step by step: die at every step of every kind of write. What was said to be done is there, nothing is half there, what was
forgotten is on no byte of the disk, nothing is left lying about, and doing it all over again ends where it would have ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_death_at_every_step(tmp_path: Path) -> None:
    runner = Path(__file__).with_name("crash_steps.py")
    done = subprocess.run(
        [sys.executable, str(runner), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # forks and threads do not mix
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert sum(report["kills"].values()) >= 200
    assert min(report["kills"].values()) >= 5, report["kills"]
