"""Kills a process at every single step of every kind of write, and looks closely at what is left.

    python crash_steps.py <folder> [operation ...]

A step is: a writing SQL statement on the store's own connection, each half of every file that is written, and an fsync, rename, unlink or
mkdir. Each operation starts from a copy of the directory that the ones before it left, in a fork of this process, and dies at its
first step, then at its second, and so on. Prints one line of JSON. Operations that are named: only these are killed.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from memos_core import Activation, MemCube, MemOS, NotFound, blobs, store
from memos_core.changes import Add, Relate
from memos_core.conflict.resolution import Related
from memos_core.cube import LOCAL_OWNER, ActivationForm, Parameter, ParameterForm, Report
from memos_core.intake import Template, as_searchable, identity
from memos_core.parse import notes
from memos_core.transform import activation_cube

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=31)
ANA, BEN, SHOP = ("clinic", "ana"), ("clinic", "ben"), ("shop",)
READS = re.compile(r"\s*(--|SELECT|PRAGMA (?!wal_checkpoint))")
KNOWN_FILES = {"memos.db", "memos.db-wal", "memos.db-shm", "index.faiss", "lock", "ticking", "blobs"}
store.LOG_BYTES = 1 << 16  # a short log: the many openings are quicker


def embed(texts: list[str]) -> np.ndarray:
    return np.stack([np.random.default_rng(crc32(text.encode())).standard_normal(16) for text in texts])


def opened(folder: Path) -> MemOS:
    return MemOS.open(folder, embedder=embed)


def said(source: str, text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "id": source, "timestamp": NOW}


def find(memos: MemOS, source: str) -> MemCube:
    with memos._store.read() as view:
        ids = [row[0] for row in view.db.execute("SELECT id FROM cubes WHERE kind = 'plaintext'")]
        return next(cube for cube in view.heads(ids, NOW).values() if source in cube.identifiers.sources)


def add_activation(memos: MemOS) -> None:
    """KV derived from the first fact, as the scheduler adds it."""
    source = find(memos, "one")
    blob = memos._store.blobs.put(b"keys and values of zanzibarine" * 99)
    payload = Activation(form=ActivationForm.KV, blob=blob, prefix_key="p", tokens=1, bytes=1, model="m")
    parents = ((source.id, source.version),)
    memos._store.commit([Add(activation_cube(payload, ANA, NOW), LOCAL_OWNER, parents=parents, relation="prefilled from")])


def add_module(memos: MemOS) -> None:
    """A module distilled from the first two facts, as `learning` keeps it."""
    sources = [find(memos, "one"), find(memos, "two")]
    blob = memos._store.blobs.put(b"weights that hold zanzibarine" * 99)
    weights = Parameter(form=ParameterForm.ALORA, blob=blob, bytes=1, base_model="m", report=REPORT)
    cube = activation_cube(Activation(form=ActivationForm.KV, blob="", bytes=0, model="m"), ANA, NOW)
    parents = tuple((source.id, source.version) for source in sources)
    memos._store.commit([Add(cube.model_copy(update={"payload": weights}), LOCAL_OWNER, parents=parents, relation="distilled from")])


def contradict(memos: MemOS) -> None:
    """Two facts found to contradict each other, as whoever finds it files it."""
    memos._store.commit([Relate(Related(find(memos, "two").id, find(memos, "four").id, why="other things"), LOCAL_OWNER, NOW)])


def answer(memos: MemOS) -> None:
    memos.resolve((find(memos, "two").id, find(memos, "four").id), keep="newer", now=NOW)


def merge(memos: MemOS) -> None:
    """A message that says what a fact says, as whoever finds that files it."""
    template, (item,) = Template(ANA, ANA, "u"), notes(said("nine", "Ana plays cello!"))
    add = Add(template.cube(item, None, NOW), ANA, as_searchable(template.cube(item, None, NOW), embed([item.text])[0].astype(np.float32)))
    into = find(memos, "four").id
    memos._store.commit([replace(add, identity=identity(memos._store.secret, template, item, None), into=into)])


def make_archive(root: Path) -> None:
    """An archive of another memory: of a scope that is known here, with a picture and a message that was told here too, and of one that is not."""
    with opened(root / "there") as there:
        there.remember({**said("twelve", "Ana keeps bees."), "images": [PICTURE]}, scope=ANA, now=NOW)
        there.remember(LIST[2], scope=ANA, session="s", path="life/home", now=NOW)
        (old,) = there.remember(said("thirteen", "The shop opens at nine."), scope=SHOP, now=NOW)
        there.remember(said("fourteen", "The shop opens at ten."), scope=SHOP, supersedes=old.id, now=NOW)
        there.forget(there.remember(said("fifteen", "The shop is for sale."), scope=SHOP, now=NOW)[0].id, now=NOW)
        there.export(root / "archive.zip")


def rearrange(memos: MemOS, operation: str, *paths: str) -> None:
    """Rename or merge in the tree; the second time, what it is done to is not there any more."""
    with suppress(NotFound):
        getattr(memos, operation)(ANA, *paths, now=NOW)


REPORT = Report(ranked=1, said=1, known=1, leaked=0, neighbours=0, text=1, turns=1, unharmed=1, seconds=1)
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
LIST = [said("two", "Ana lives in Lisbon."), said("three", "Quixotrope is for Ana."), said("four", "Ana plays the cello.")]
OPERATIONS: dict[str, Callable[[MemOS], Any]] = {
    "open": lambda memos: None,
    "remember": lambda memos: memos.remember(said("one", "Ana likes zanzibarine."), scope=ANA, session="s", now=NOW),
    "remember a list": lambda memos: memos.remember(
        LIST, scope=ANA, session="s", path="life/home", ttl=timedelta(days=30), read=["doctor"], now=NOW
    ),
    "a turn": lambda memos: memos.begin([said("five", "What does Ana like?")], scope=ANA, session="t", now=NOW).commit("Much.", now=NOW),
    "update": lambda memos: memos.update(find(memos, "one").id, text="Ana loves zanzibarine.", priority=0.5, now=NOW),
    "an activation": add_activation,
    "a module": add_module,
    "rollback": lambda memos: memos.rollback(find(memos, "one").id, 1, now=NOW),
    "another scope": lambda memos: memos.remember(said("six", "Ben has a xylophile dog."), scope=BEN, now=NOW),
    "remember and close": lambda memos: (memos.remember(said("seven", "Ben has a cat."), scope=BEN, now=NOW), memos.close()),
    "merge": merge,
    "contest": contradict,
    "answer": answer,
    "supersede": lambda memos: memos.remember(
        said("eight", "Ben has a hamster."), scope=BEN, supersedes=find(memos, "six").id, priority=0.5, now=NOW
    ),
    "a picture": lambda memos: memos.remember({**said("eleven", "Ana's kitchen."), "images": [PICTURE]}, scope=ANA, now=NOW),
    "a document": lambda memos: memos.remember_document("How to rosin a bow.", name="bows", scope=ANA, path="music/bows", now=NOW),
    "move": lambda memos: memos.move(find(memos, "two").id, "care/city", now=NOW),
    "rename": lambda memos: rearrange(memos, "rename", "life/home", "flat"),
    "merge in the tree": lambda memos: rearrange(memos, "merge", "care/city", "life/flat"),
    "a budget": lambda memos: memos.set_budget(BEN, facts=1, erase_archived_after=timedelta(days=40), now=NOW),
    "over budget": lambda memos: memos.tick(NOW + timedelta(days=1)),
    "forget one of a list": lambda memos: memos.forget(find(memos, "three").id, now=NOW),
    "forget with all that came of it": lambda memos: memos.forget(find(memos, "one").id, now=NOW),
    "expire": lambda memos: memos.tick(LATER),
    "erase what was archived": lambda memos: memos.tick(LATER + timedelta(days=11)),
    "import": lambda memos: memos.import_archive(memos.path.parent / "archive.zip", now=LATER),
}
NAMES = list(OPERATIONS)
AGAIN = {"import"}  # is done once more right after it was interrupted
STEPWISE = {"over budget", "expire", "erase what was archived"}  # ticks: several transactions
FORGOTTEN = {  # by stems
    "forget one of a list": ("quixotrop", ["Quixotrope is for Ana."]),
    "forget with all that came of it": ("zanzibarin", ["Ana likes zanzibarine.", "Ana loves zanzibarine."]),
    "erase what was archived": ("xylophil", ["Ben has a xylophile dog.", "Ben has a cat."]),
}


# ---------------------------------------------------------------------- a life and its steps


def call_at_steps(memos: MemOS | None, step: Callable[[], None]) -> None:
    """From here on, call `step` before and after everything that this process does to the directory."""

    def trace(statement: str) -> None:
        if not READS.match(statement):
            step()

    if memos is not None:
        memos._store._writer.set_trace_callback(trace)
    else:
        connect = sqlite3.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            db = connect(*arguments, **options)
            db.set_trace_callback(trace)
            return db

        sqlite3.connect = traced
    for name in ("fsync", "replace", "unlink", "mkdir"):
        setattr(os, name, _between(getattr(os, name), step))

    class Torn(io.FileIO):
        """A file that is written in two halves."""

        def write(self, data: Any) -> int:
            halves = memoryview(data)[: len(data) // 2], memoryview(data)[len(data) // 2 :]
            step()
            written = super().write(halves[0])
            step()
            return int(written or 0) + int(super().write(halves[1]) or 0)

    def torn_open(path: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        return io.BufferedWriter(Torn(path, mode)) if mode == "wb" else builtins.open(path, mode, *arguments, **options)

    blobs.open = torn_open  # type: ignore[attr-defined]


def _between(act: Callable[..., Any], step: Callable[[], None]) -> Callable[..., Any]:
    def around(*arguments: Any, **options: Any) -> Any:
        step()
        result = act(*arguments, **options)
        step()
        return result

    return around


def live(folder: Path, name: str, die_at: int | None) -> tuple[bool, int | None]:
    """One operation in a fork: (whether it said that it was done, the steps it made; None when it was killed)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        made = 0

        def step() -> None:
            nonlocal made
            made += 1
            if made == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            if name == "open":
                call_at_steps(None, step)
                memos = opened(folder)
            else:
                memos = opened(folder)
                call_at_steps(memos, step)
            OPERATIONS[name](memos)
            os.write(writing, b"done")
            step()  # dies right after it has said so, if nowhere else
            os.write(writing, made.to_bytes(4, "big"))
            os._exit(0)
        except BaseException:  # noqa: BLE001  nothing may come out of a fork but its end
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError(f"{name} failed by itself before step {die_at}")
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    return told[:4] == b"done", int.from_bytes(told[4:], "big") if told[4:] else None


# ---------------------------------------------------------------------- what is there


def portrait(folder: Path) -> Any:
    """Everything in a directory that is the same in every run; ids by the order in which they came to be."""
    db = sqlite3.connect(folder / "memos.db")
    every = [row[0] for row in db.execute("SELECT DISTINCT id FROM audit WHERE id IS NOT NULL ORDER BY seq")]
    number = {id: f"#{place}" for place, id in enumerate(dict.fromkeys(every))}

    def named(value: Any) -> Any:
        """Ids, and ids within a text, by their number."""
        return re.sub(r"[0-9a-f]{32}", lambda match: number.get(match[0], match[0]), value) if isinstance(value, str) else value

    def table(query: str) -> list[list[Any]]:
        return [[named(value) for value in row] for row in db.execute(query)]

    bodies = [json.loads(row[0]) for row in db.execute("SELECT body FROM cubes ORDER BY row")]
    for body in bodies:
        body["id"] = number[body["id"]]
        for group in body["identifiers"], body["governance"]:
            group.pop("created_at", None)
    found = {
        "heads": bodies,
        "columns": table(
            "SELECT row, id, scope, seq, version, state, kind, session, role, occurred_at, expires_at, valid_to, blob FROM cubes ORDER BY row"
        ),
        "versions": sorted(table("SELECT id, version, action, body IS NULL FROM versions")),
        "audit": table("SELECT seq, scope, position, actor, action, id, version, detail FROM audit ORDER BY seq"),
        "tombstones": sorted(table("SELECT id, row, seq, reason FROM tombstones")),
        "searchable": table("SELECT row, seq, hex(terms) FROM vectors ORDER BY row"),
        "sizes": table("SELECT (SELECT count(*) FROM vectors), (SELECT count(*) FROM meta)"),
        "lineage": sorted(table("SELECT child, parent, relation, parent_version FROM lineage")),
        "relations": sorted(table("SELECT older, newer, kind, confidence, why, resolution, at FROM relations")),
        "merged": table("SELECT seq, id, scope, session, after FROM merged ORDER BY seq"),
        "places": sorted(
            table(
                "SELECT k.label, k.given, coalesce(t.label, ''), (SELECT count(*) FROM cubes c WHERE c.concept = k.concept)"
                " FROM concepts k LEFT JOIN concepts t ON t.concept = k.parent"
            )
        ),
        "images": table("SELECT row, blob FROM images ORDER BY 1, 2"),
        "budgets": table("SELECT * FROM budgets ORDER BY scope"),
        "turns": table("SELECT scope, session, key FROM turns ORDER BY 1, 2, 3"),
        "placements": sorted(table("SELECT scope, session, turn, position, id, version FROM placements")),
        "uses": sorted(table("SELECT e.id, e.session, e.turn, e.form, u.recalls FROM usage_events e LEFT JOIN usage u USING (id)")),
        "moves": table("SELECT m.kind, m.scope, m.at, d.id FROM moves m JOIN moved d USING (number) ORDER BY m.number, d.id"),
        "scope usage": table("SELECT scope, turns, recalls, uses FROM scope_usage ORDER BY scope"),
        "grants": table("SELECT * FROM grants ORDER BY 1, 2, 3"),
        "doomed": table("SELECT * FROM doomed"),
        "retraining": table("SELECT scope, form, ids FROM retraining ORDER BY number"),
    }
    db.close()
    return json.loads(json.dumps(found))


def texts(folder: Path) -> Any:
    """What remains to be known after all is said and done, however often it was said."""
    return sorted([head["payload"].get("text", "KV"), head["state"]] for head in portrait(folder)["heads"])


def traces(folder: Path, names: list[str]) -> list[str]:
    """Where something of what was forgotten by these operations can still be read."""
    found = []
    for word, embedded in (FORGOTTEN[name] for name in names if name in FORGOTTEN):
        vectors = embed(embedded).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            data = file.read_bytes().lower()
            if word.encode() in data:
                found.append(f"{word} is still in {file.name}")
            if any(vector.tobytes()[:24].lower() in data for vector in vectors):
                found.append(f"a vector of {word} is still in {file.name}")
    return found


def hits(memos: MemOS) -> list[tuple[str, str, float]]:
    scopes = [(ANA, ANA), (("clinic",), ("clinic",)), (ANA, ("doctor",))]
    recalls = [memos.recall("What does Ana like?", scope=scope, actor=actor, k=50, now=NOW) for scope, actor in scopes]
    return [(hit.cube.id, hit.text, round(hit.score, 5)) for recall in recalls for hit in recall.hits]


def inspect(folder: Path, place: int, acknowledged: bool, states: list[Any], final: Any) -> list[str]:
    """What is wrong with a directory whose writer died in the operation at `place`."""
    with opened(folder) as memos:
        problems = list(memos.verify().problems)
        now = portrait(folder)
        reached = [number for number in (place, place - 1) if number >= 0 and states[number] == now]
        if place == 0:
            reached = [0] if now == states[0] else []  # opening again finishes what opening began
        if not reached and NAMES[place] in STEPWISE:  # each of its transactions is whole, and the next tick does the others
            OPERATIONS[NAMES[place]](memos)
            now = portrait(folder)
            reached = [place] if states[place] == now else []
        if not reached:
            return [*problems, f"neither what was before nor what is after: {_difference(now, states[place])}"]
        if acknowledged and place not in reached:
            problems.append("it was said to be done, and it is not")
        if NAMES[place] in AGAIN:
            OPERATIONS[NAMES[place]](memos)
            now, reached = portrait(folder), [place]
            if now != states[place]:
                problems.append(f"done once more, it ends elsewhere: {_difference(now, states[place])}")
        gone = NAMES[: reached[0] + 1]
        problems += [f"while open, {trace}" for trace in traces(folder, gone)]
        before = hits(memos)
        memos._index.reset()
        if hits(memos) != before:
            problems.append("a rebuilt index finds something else")
        problems += _tombstones(memos)
    problems += [f"after closing, {trace}" for trace in traces(folder, gone)]
    left = {path.name for path in folder.iterdir()} - KNOWN_FILES
    kept = {path.name for path in (folder / "blobs").iterdir() if not path.name.startswith(".")}
    if left:
        problems.append(f"litter: {sorted(left)}")
    wanted = {row[-1] for row in now["columns"] if row[-1] and "archived" not in row} | {blob for _, blob in now["images"]}
    if NAMES[place] not in ("an activation", "a module", "a picture") and kept != wanted:
        problems.append(f"blobs: {sorted(kept)}")
    with opened(folder) as memos:
        for name in NAMES:
            if "close" not in name:
                OPERATIONS[name](memos)
        memos.remember(said("seven", "Ben has a cat."), scope=BEN, now=NOW)
        for name in ("over budget", "erase what was archived"):  # what the last line has just brought back
            OPERATIONS[name](memos)
        problems += memos.verify().problems
        memos._store.collect_orphans(datetime.now(UTC), grace_seconds=-1)
    problems += [f"all over again, {trace}" for trace in traces(folder, NAMES)]
    if texts(folder) != final:
        problems.append(f"all over again, it ends in {texts(folder)}")
    return problems


def _tombstones(memos: MemOS) -> list[str]:
    with memos._store.read() as view:
        gone = [row[0] for row in view.db.execute("SELECT id FROM tombstones")]
    problems = []
    for id in gone:
        try:
            problems.append(f"{memos.get(id).id} was forgotten and is there")
        except NotFound:
            problems += [f"version {entry.version} of {id} still has content" for entry in memos.history(id) if entry.cube is not None]
    return problems


def _difference(now: Any, wanted: Any) -> Any:
    return {part: [now[part], wanted[part]] for part in now if now[part] != wanted[part]}


def main() -> None:
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    make_archive(root)
    base, states, bases = root / "base", [], []
    for place, name in enumerate(NAMES):  # an uninterrupted run, with a copy of the directory before each operation
        bases.append(root / f"before-{place}")
        if base.exists():
            shutil.copytree(base, bases[-1])
        with opened(base) as memos:
            OPERATIONS[name](memos)
        states.append(portrait(base))
    final = texts(base)
    report: dict[str, Any] = {"kills": {}, "failures": []}
    for name in sys.argv[2:] or NAMES:
        place = NAMES.index(name)
        number, steps = 0, None
        while steps is None:  # until it lives
            number += 1
            folder = root / f"{place}-{number}"
            if bases[place].exists():
                shutil.copytree(bases[place], folder)
            acknowledged, steps = live(folder, name, number)
            if number > 500:
                raise RuntimeError(f"{name} makes more than 500 steps")
            try:
                problems = inspect(folder, place, acknowledged, states, final)
            except Exception:  # noqa: BLE001  a directory that cannot be opened is a finding
                problems = [traceback.format_exc()]
            if problems:
                report["failures"].append([name, number, acknowledged, problems])
            shutil.rmtree(folder, ignore_errors=True)
        report["kills"][name] = number - 1
    print(json.dumps(report))


if __name__ == "__main__":
    main()
