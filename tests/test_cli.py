"""The `memos` command: what it prints, as JSON and for people, what it refuses, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, bag_of_words
from typer.testing import CliRunner

import memos_core.embed
import memos_core.memos
import memos_integrations.cli.keeping
import memos_integrations.cli.looking
import memos_integrations.cli.upkeep  # noqa: F401  each adds its commands
from memos_core import MemOS
from memos_integrations.cli.app import app

ROOT = Path(memos_core.__file__).parent.parent
ANA = ("clinic", "ana")
FACT, DENIED = "Ana is allergic to penicillin.", "Ana tolerates penicillin."
SCOPE = ["--scope", "clinic/ana"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The directory in the environment, and an embedder that needs no model."""
    for room in (memos_core.memos, memos_core.embed):
        monkeypatch.setattr(room, "local_embedder", lambda: bag_of_words)
    monkeypatch.setenv("MEMOS_DIRECTORY", str(tmp_path / "clinic.memos"))
    monkeypatch.chdir(tmp_path)
    yield


def run(*arguments: str, code: int = 0, given: str | None = None) -> str:
    done = CliRunner().invoke(app, list(arguments), input=given)
    assert done.exit_code == code, (done.output, done.exception)
    assert "Traceback" not in done.output
    return done.stdout if code == 0 else done.stderr


def data(*arguments: str, given: str | None = None) -> Any:
    return json.loads(run(*arguments, "--json", given=given))


@pytest.fixture
def told() -> list[str]:
    """A memory with a contradiction, an update and a filed fact; their ids."""
    run("init")
    texts = [FACT, "I live in Lisbon.", "I never eat fish."]
    done = data("remember", *SCOPE, "--at", NOW.isoformat(), "--session", "one", "--path", "care/notes", *texts)
    done += data("remember", *SCOPE, "--at", (NOW + timedelta(days=1)).isoformat(), DENIED, "I have moved to Porto.")
    return [each["cube"]["id"] for each in done]


# ---------------------------------------------------------------------- every command, as JSON


def test_what_is_kept_is_found(told: list[str]) -> None:
    found = data("recall", *SCOPE, "penicillin", "-k", "2", "--now", (NOW + timedelta(days=2)).isoformat())
    assert {hit["cube"]["id"] for hit in found["hits"]} == {told[0], told[3]} and found["hits"][0]["reasons"]
    assert data("tree", *SCOPE)[0]["label"] == "care"
    day = data("timeline", *SCOPE, "--from", NOW.isoformat(), "--to", (NOW + timedelta(hours=1)).isoformat())
    assert [cube["id"] for cube in day["cubes"]] == told[:3]
    assert len(data("timeline", *SCOPE)["cubes"]) == 5
    assert data("show", told[0])["cube"]["payload"]["text"] == FACT
    assert [version["action"] for version in data("history", told[1])] == ["add", "supersede"]
    assert [each["resolution"] for each in data("conflicts", *SCOPE)] == ["open", "superseded"]
    assert data("explain", told[0])["form"] == "plaintext"
    assert data("stats")["counts"]["cubes"] == 5 and data("verify") == {"ok": True, "problems": []}
    assert isinstance(data("tick", "--budget", "5"), list)


def test_what_is_changed_and_forgotten(told: list[str]) -> None:
    with MemOS.open("clinic.memos", embedder=bag_of_words) as memos:
        memos.update(told[2], text="I never eat meat.")
    assert data("rollback", told[2], "1")["payload"]["text"] == "I never eat fish."
    assert "I never eat fish." in run("forget", told[2], code=1, given="n\n")
    assert "--yes does not ask" in run("forget", told[2], code=1, given="")
    assert data("show", told[2])["cube"]["version"] == 3
    assert run("forget", told[2], given="y\n").splitlines()[-1] == "Forgot 1 memory. A tombstone of each and the audit entries stay."
    assert data("forget", "--yes", told[0], told[1]) == {"forgotten": [told[0], told[1]]}
    assert run("show", told[0], code=1) == f"memos: cube {told[0]} has been forgotten\n"


def test_a_whole_scope_is_forgotten(told: list[str]) -> None:
    run("remember", "--scope", "clinic/ben", "Ben has a cat.")
    asked = run("forget", *SCOPE, code=1, given="n\n")
    assert "All that clinic/ana and the scopes below it hold" in asked and "--yes does not ask" in asked
    assert len(data("timeline", "--scope", "clinic")["cubes"]) == 6
    assert "ids, or --scope" in run("forget", *SCOPE, told[0], "--yes", code=2) and "ids, or --scope" in run("forget", "--yes", code=2)
    assert run("forget", *SCOPE, given="y\n").splitlines()[-1] == "Forgot 5 memories. A tombstone of each and the audit entries stay."
    assert [cube["payload"]["text"] for cube in data("timeline", "--scope", "clinic")["cubes"]] == ["Ben has a cat."]
    assert run("forget", *SCOPE, "--yes") == "Nothing is remembered in clinic/ana.\n"


def test_one_is_one() -> None:
    run("init")
    run("remember", *SCOPE, FACT)
    assert "it holds 1 memory." in run("init") and "1 version, 1 audit entry." in run("verify")
    assert ": 1 memory in 1 version, 0 files, " in run("export", "one.zip")
    assert run("import", "one.zip", "-m", "two.memos").startswith("1 memory added, ")


def test_out_and_in_again(told: list[str], tmp_path: Path) -> None:
    whole = data("export", "all.zip")
    assert whole["counts"]["cubes"] == 5
    assert run("export", "all.zip", code=1) == "memos: all.zip is there already; give another name, or --overwrite\n"
    assert "5 memories" in run("export", "all.zip", "--overwrite", *SCOPE, "--no-computed")
    assert run("import", "all.zip", "-m", "new.memos").startswith("5 memories added, 0 brought up to date, 0 known already.")
    run("forget", "--yes", told[2], "-m", "new.memos")
    again = data("import", "all.zip", "-m", "new.memos")
    assert again["added"] == [] and again["known"] == 4 and again["forgotten"] == [told[2]]
    assert "1 left out: forgotten here" in run("import", "all.zip", "-m", "new.memos")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "all.zip").read_bytes()[:-9])
    assert "nothing was imported" in run("import", "cut.zip", "-m", "other.memos", code=1)
    assert not (tmp_path / "other.memos").exists()


def test_from_standard_input() -> None:
    run("init")
    assert len(data("remember", *SCOPE, "-", given="one text\nof two lines")) == 1
    assert len(data("remember", *SCOPE, "-", "--lines", given="a line\n\nanother line\n")) == 2
    messages = [{"role": "user", "content": f"Message {number} of the log.", "id": f"m{number}"} for number in range(300)]
    lines = "\n".join(map(json.dumps, messages))
    assert run("remember", *SCOPE, "-", "--jsonl", given=lines) == "300 added\n"
    assert run("remember", *SCOPE, "-", "--jsonl", given=lines) == "300 merged\n"
    assert run("remember", *SCOPE, "-", "--jsonl", given="{bad", code=1).startswith("memos: line 1 of standard input is not JSON")
    assert run("remember", *SCOPE, "-", given=" ", code=1).startswith("memos: message 0 is empty")


def test_a_bad_message_among_many_is_named_and_so_is_what_was_kept() -> None:
    run("init")
    messages: list[Any] = [{"role": "user", "content": f"Message {number} of the log."} for number in range(300)]
    messages[289] = {"content": "Nobody said it."}
    said = run("remember", *SCOPE, "-", "--jsonl", given="\n".join(map(json.dumps, messages)), code=1)
    assert said.startswith("memos: message 33 has no 'role'") and "(0 is number 257 of" in said
    assert "257 to 300 are not kept; the 256 before are" in said and data("stats")["counts"]["cubes"] == 256
    messages[289]["role"] = "user"
    outcomes = [each["outcome"] for each in data("remember", *SCOPE, "-", "--jsonl", given="\n".join(map(json.dumps, messages)))]
    assert outcomes == ["merged"] * 256 + ["added"] * 44


def test_who_asks(told: list[str]) -> None:
    assert data("recall", *SCOPE, "-a", "clinic/ben", "penicillin")["hits"] == []
    for command in (["show", told[0]], ["history", told[0]], ["explain", told[0]], ["forget", "-y", told[0]], ["rollback", told[0], "1"]):
        assert run(*command, "--actor", "clinic/ben", code=1).startswith("memos: clinic/ben may not ")
    assert run("export", "x.zip", "-a", "clinic/ana", code=1).startswith("memos: clinic/ana may not read the whole memory")
    assert data("export", "x.zip", "-a", "clinic/ana", *SCOPE)["counts"]["cubes"] == 5


# ---------------------------------------------------------------------- for people


def test_everything_reads_well(told: list[str]) -> None:
    found = run("recall", *SCOPE, "penicillin", "--why", "-k", "1").splitlines()
    text, id = (FACT, told[0]) if FACT in found[0] else (DENIED, told[3])
    assert found[0] == f" 1 {text}" and "12:00 UTC · clinic/ana · contested · score" in found[1] and found[-1].strip() == id
    assert f"├── {FACT}" in run("tree", *SCOPE) or f"└── {FACT}" in run("tree", *SCOPE)
    assert "true until  2026-06-02 12:00 UTC" in run("show", told[1]) and "superseded by: I have moved to Porto." in run("show", told[1])
    assert " 2 the same text" in run("history", told[1])
    assert "undecided: contradicts" in run("conflicts", *SCOPE)
    assert "lacks  an engine that keeps KV" in run("explain", told[1])
    assert run("verify").startswith("All is as it was written")
    assert run("init").endswith("it holds 5 memories.\n")
    assert "memos init elsewhere makes one" in run("stats", "-m", "elsewhere", code=1)
    assert run("tree", "-s", "nobody") == "Nothing is remembered in nobody.\n"
    for command in (["recall", *SCOPE, "x"], ["tree", *SCOPE], ["timeline", *SCOPE], ["show", told[0]], ["stats"]):
        assert all(line == line.rstrip() for line in run(*command).splitlines()), command


def test_a_terminal_is_not_obeyed(told: list[str]) -> None:
    """What a memory holds is shown, never carried out."""
    (done,) = data("remember", *SCOPE, "\x1b]0;owned\x07\x1b[2J red [bold]x[/bold] \u202e :smile:")
    for command in (
        ["show", done["cube"]["id"]],
        ["recall", *SCOPE, "owned red"],
        ["tree", *SCOPE, "-n", "9"],
        ["history", done["cube"]["id"]],
    ):
        said = run(*command)
        assert "\x1b" not in said and "\x07" not in said and "\u202e" not in said and "[bold]x[/bold]" in said and ":smile:" in said


USAGE: dict[str, tuple[list[str], str]] = {
    "no scope": (["recall", "x"], "Missing option '--scope'"),
    "no id": (["show"], "Missing argument 'ID'"),
    "no such command": (["remembre"], "No such command"),
    "a scope with a hole": (["tree", "-s", "clinic//ana"], "write it like"),
    "no time zone": (["recall", *SCOPE, "x", "--now", "2026-01-01"], "2026-01-01T00:00+00:00"),
    "no time": (["remember", *SCOPE, "x", "--at", "yesterday"], "is no time"),
    "two windows": (["timeline", *SCOPE, "last week", "--from", "2026-01-01T00:00Z"], "not both"),
    "lines without -": (["remember", *SCOPE, "x", "--lines"], "standard input"),
    "priority": (["remember", *SCOPE, "x", "--priority", "2"], "less than or equal to 1"),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_call_that_is_not_understood(told: list[str], name: str) -> None:
    arguments, advice = USAGE[name]
    assert advice in " ".join(run(*arguments, code=2).replace("│", " ").split())


def test_what_nobody_foresaw_is_one_line_too(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(MemOS, "stats", fail)
    assert run("stats", code=1) == "memos: unexpected RuntimeError: out of luck. memos --traceback ... shows where; please report it\n"
    assert isinstance(CliRunner().invoke(app, ["--traceback", "stats"]).exception, RuntimeError)


def test_damage_is_told(told: list[str], tmp_path: Path) -> None:
    import sqlite3

    db = sqlite3.connect(tmp_path / "clinic.memos" / "memos.db")
    db.execute("UPDATE audit SET actor = 'nobody' WHERE position = 2")
    db.commit()
    db.close()
    said = run("verify", code=1)
    assert "audit entry 2 of scope" in said and "Restore" in said
    assert json.loads(CliRunner().invoke(app, ["verify", "--json"]).stdout)["ok"] is False


def test_every_command_has_help_and_json() -> None:
    for (
        command
    ) in "init remember recall tree timeline show history rollback forget conflicts stats tick verify export import explain".split():
        assert "--json" in run(command, "--help"), command


# ---------------------------------------------------------------------- as processes


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from memos_integrations.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


def test_help_loads_neither_the_core_nor_a_model() -> None:
    code = (
        "import sys\nfrom memos_integrations.cli import main\nsys.argv = ['memos', '--help']\ntry:\n    main()\nexcept SystemExit: pass\n"
        "print([name for name in ('memos_core', 'torch', 'numpy', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.splitlines()[-1] == "[]" and "remember" in done.stdout


def test_looking_loads_no_model(told: list[str], tmp_path: Path) -> None:
    calls = [["show", told[0]], ["tree", *SCOPE], ["verify"], ["export", str(tmp_path / "x.zip")], ["recall", *SCOPE, "x"]]
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom memos_integrations.cli import main\n"
        f"for call in {calls!r}:\n    sys.argv = ['memos', *call]\n    try:\n        main()\n"
        "    except SystemExit as end:\n        print('ended with', end.code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert [line[-1] for line in done.stdout.splitlines() if line.startswith("ended with")] == ["0", "0", "0", "0", "1"]
    assert done.stderr.startswith("memos: ") and "pip install 'memos-integrations[hf]'" in done.stderr


@pytest.mark.real
def test_processes_that_share_a_memory(tmp_path: Path) -> None:
    """With the real embedder. Each process that embeds loads it, so one of them alone does."""
    from memos_core.hf import MiniLM

    with MemOS.open(tmp_path / "real.memos", embedder=MiniLM()) as memos:
        memos.remember("Tea without sugar, please.", scope=ANA)
    place = ["--memory", str(tmp_path / "real.memos")]
    steps: list[tuple[list[str], Callable[[str], bool]]] = [
        (["remember", *place, *SCOPE, FACT], lambda said: FACT in said and "added" in said),
        (["timeline", *place, *SCOPE], lambda said: FACT in said and "Tea without sugar" in said),
        (["export", *place, str(tmp_path / "x.zip")], lambda said: "2 memories in 2 versions" in " ".join(said.split())),
    ]
    for arguments, expected in steps:
        done = process(*arguments)
        assert done.returncode == 0 and expected(done.stdout) and not done.stderr, (arguments, done.stdout, done.stderr)
