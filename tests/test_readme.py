"""What the README and the cookbook say works, on the real model."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from memos_core.cube import ParameterForm
from memos_core.hf import training

ROOT = Path(__file__).parent.parent


@pytest.mark.real
def test_the_readme_runs_word_for_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 8
    monkeypatch.chdir(tmp_path)
    few = {**training.OF_FORM[ParameterForm.PREFIX], "steps": 8}  # as long as it says, a training takes minutes
    monkeypatch.setitem(training.OF_FORM, ParameterForm.PREFIX, few)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    said = capsys.readouterr().out
    assert "Ana is allergic to penicillin." in said and "cosine" in said


@pytest.mark.real
def test_the_demo(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "cookbook" / "demo.py"), str(tmp_path / "mira.memos")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.split("Process 2")
    assert "prefill" in first and "2 recalls in 2 sessions" in first
    turn = second.split("Mira: ")[1]  # the first turn of the second process hits KV that the first has left on disk
    assert " KV (" in turn and not re.search(r"\b0 reused", turn)
    assert "same tokens: NO" not in done.stdout and "same tokens: yes" in second
    assert "everything verifies │      yes" in second


def test_the_demo_never_promotes_by_hand_and_its_history_is_long_enough() -> None:
    assert "promote" not in (ROOT / "cookbook" / "demo.py").read_text()
    history = (ROOT / "cookbook" / "data" / "history.txt").read_text().splitlines()
    assert sum(line.startswith("== ") for line in history) >= 6
    assert sum(line[:3] in ("M: ", "A: ") for line in history) >= 100
