"""Law *crash*: kill the process between any two steps of a write; what was acknowledged is there, nothing is half there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

KILLS_AT_STEPS, KILLS_AT_TIMES = 220, 40


def test_crash(tmp_path: Path) -> None:
    runner = Path(__file__).with_name("crash_runner.py")
    done = subprocess.run(
        [sys.executable, str(runner), str(tmp_path), str(KILLS_AT_STEPS), str(KILLS_AT_TIMES)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # forks and threads do not mix
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["failures"] == [], done.stderr
    assert report["killed"] >= 200 and report["steps"] > 300
    assert set(report["acknowledged"]) >= set(range(10))  # deaths before, between and within all operations
