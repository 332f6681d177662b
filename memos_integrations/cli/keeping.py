"""Commands that write memories and take them back: init, remember, rollback, forget."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_integrations.cli.app import (
    DIRECTORY,
    Actor,
    Id,
    Json,
    Memory,
    Now,
    Scope,
    app,
    console,
    count,
    emit,
    moment,
    opened,
    parts,
    progress_bar,
    refuse,
    safe,
    spinner,
    who,
)  # fmt: skip

if TYPE_CHECKING:
    from memos_core import MemOS, Remembered

BATCH = 256


@app.command(rich_help_panel="Keeping")
def init(
    directory: Annotated[Path | None, typer.Argument(metavar="DIRECTORY", help="Where; or --memory.")] = None,
    memory: Annotated[Path | None, typer.Option("--memory", "-m", envvar=DIRECTORY, metavar="DIRECTORY", help="Where.")] = None,
    as_json: Json = False,
) -> None:
    """Make an empty memory."""
    place = directory or memory
    if place is None:
        raise typer.BadParameter(f"say where: memos init clinic.memos, or set {DIRECTORY}", param_hint="DIRECTORY")
    new = not (place / "memos.db").exists()
    with spinner("loading the embedder"), opened(place, create=True) as memos:
        held = memos.stats()["counts"]["cubes"]
    if as_json:
        emit({"path": str(place), "new": new, "cubes": held})
    elif new:
        console().print(f"Made an empty memory in {safe(str(place))}. Next: memos remember -m {safe(str(place))} -s me 'something to keep'")
    else:
        console().print(f"{safe(str(place))} is a memory already; it holds {count(held, 'memory', 'memories')}.")


@app.command(rich_help_panel="Keeping")
def remember(
    text: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="What to keep, each argument a memory; - reads it from standard input.")
    ],
    scope: Scope,
    memory: Memory,
    path: Annotated[str | None, typer.Option("--path", "-p", help="Where to file it, such as care/allergies.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="The conversation it belongs to.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it was said, with a time zone.")] = None,
    days: Annotated[float | None, typer.Option("--days", help="How many days it is to live.", min=0)] = None,
    priority: Annotated[float, typer.Option("--priority", help="From 0, ordinary, to 1.", min=0, max=1)] = 0.0,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of sensitivity, such as no-training. Can be repeated.")] = None,
    lines: Annotated[bool, typer.Option("--lines", metavar="", help="Standard input: each line is a memory.")] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", metavar="", help="Standard input: each line is a message, {role, content, id, timestamp}.")
    ] = False,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Keep something: text, or messages. What is known already is merged."""
    what = _said(text, lines, jsonl)
    settings: dict[str, Any] = {
        "path": path,
        "session": session,
        "occurred_at": moment(at, "--at"),
        "priority": priority,
        "tags": tag or (),
        "now": moment(now, "--now"),
    }
    settings |= {"ttl": None if days is None else days * 86400.0, **who(scope, actor)}
    done = []
    with (
        opened(memory) as memos,
        progress_bar(len(what) > BATCH) as tell,
        spinner("remembering") if len(what) <= BATCH else progress_bar(False),
    ):
        for start in range(0, len(what), BATCH):
            done += _kept(memos, what, start, settings)
            if tell is not None:
                tell("memories", len(done), len(what))
    if as_json:
        emit([{"outcome": each.outcome, "cube": each.cube} for each in done])
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out = console()
    if len(done) > 10:
        counts = {name: sum(each.outcome == name for each in done) for name in ("added", "merged", "superseded")}
        out.print(", ".join(f"{many} {name}" for name, many in counts.items() if many))
        return
    words = {"merged": "known already", "superseded": "added, in place of what it updates"}
    for each in done:
        contested = "contradicts another: memos conflicts shows which" if each.cube.state == "contested" else None
        out.print(Text(showing.content(each.cube, 200), style="bold"))
        out.print(showing.joined(Text(words.get(each.outcome, each.outcome), style="cyan"), contested, each.id))


def _kept(memos: MemOS, what: list[Any], start: int, settings: dict[str, Any]) -> list[Remembered]:
    """Keep one batch; where it cannot be, say which it is and that those before it are kept."""
    from memos_core import MemosError

    try:
        return memos.remember(what[start : start + BATCH], **settings)
    except MemosError as error:
        if start == 0:
            raise
        last = min(start + BATCH, len(what))
        refuse(
            f"{error} (0 is number {start + 1:,} of what was given). Numbers {start + 1:,} to {last:,} are not kept; the {start:,} before are, "
            "and are known already when they are told again"
        )


def _said(text: list[str], lines: bool, jsonl: bool) -> list[Any]:
    """What is to be remembered, from the arguments or from standard input."""
    if text != ["-"]:
        if lines or jsonl:
            raise typer.BadParameter("is about standard input: memos remember - --lines", param_hint="--lines / --jsonl")
        return list(text)
    read = sys.stdin.read()
    if not lines and not jsonl:
        return [read.strip()]
    kept = [(number, line) for number, line in enumerate(read.splitlines(), 1) if line.strip()]
    if lines:
        return [line.strip() for _, line in kept]
    found = []
    for number, line in kept:
        try:
            found.append(json.loads(line))
        except ValueError as error:
            refuse(f"line {number} of standard input is not JSON ({error}). Nothing was remembered")
    return found


@app.command(rich_help_panel="Keeping")
def rollback(
    memory: Memory,
    id: Id,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="The version to go back to, as history shows it.", min=1)],
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Make an earlier version of a memory the newest again. Nothing in between is lost."""
    with opened(memory) as memos:
        cube = memos.rollback(id, version, actor=parts(actor, "--actor"), now=moment(now, "--now"))
    if as_json:
        emit(cube)
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out = console()
    out.print(Text(showing.content(cube), style="bold"))
    out.print(showing.joined(f"version {cube.version}, as version {version} was", cube.id))


@app.command(rich_help_panel="Keeping")
def forget(
    memory: Memory,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of memories, as recall shows them; or --scope.")] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", "-s", metavar="SCOPE", help="In place of ids: everything of this scope and of all below it.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the audit log: no content in it.")] = "asked to forget",
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")] = False,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Erase memories for good, or a whole scope, and everything that was made of them."""
    if bool(ids) == (scope is not None):
        raise typer.BadParameter("say what to forget: ids, or --scope for everything of a scope", param_hint="ID")
    asking, place, clock = parts(actor, "--actor"), parts(scope), moment(now, "--now")
    with opened(memory) as memos:
        if not yes:
            _ask(memos, ids or [], place, asking, clock)
        what: dict[str, Any] = {"id": ids} if place is None else {"scope": place}
        gone = memos.forget(**what, reason=reason, actor=asking, now=clock)
    if as_json:
        emit({"forgotten": list(gone)})
        return
    asked = set(ids or gone) & set(gone)
    made = len(gone) - len(asked)
    told = f"Forgot {count(len(asked), 'memory', 'memories')}" + (
        f", and {made:,} made of {'it' if len(asked) == 1 else 'them'}" if made else ""
    )
    if not gone:
        console().print(f"Nothing is remembered in {safe(str(scope))}.")
    else:
        console().print(f"{told}. A tombstone of each and the audit entries stay.")


def _ask(memos: Any, ids: list[str], place: tuple[str, ...] | None, asking: tuple[str, ...] | None, clock: str | None) -> None:
    """Show what is to be forgotten, and go on only when told to."""
    from rich.console import Console
    from rich.text import Text

    from memos_integrations.cli import showing

    out = Console(stderr=True, highlight=False, markup=False, emoji=False)
    for id in ids:
        out.print(Text.assemble(showing.content(memos.get(id, actor=asking, now=clock), 200), (f"  {id}", "dim")))
    question = "Erase this for good, with all versions and everything made of it?"
    if place is not None:
        out.print(f"All that {showing.scope(place)} and the scopes below it hold, expired and archived memories included.")
        question = "Erase it for good, with all versions and everything made of it?"
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort:
        typer.echo("", err=True)
        refuse("nothing was forgotten. --yes does not ask")
