"""Commands about a memory as a whole: stats, tick, verify, export, import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from memos_integrations.cli.app import (
    Actor,
    Json,
    MaybeScope,
    Memory,
    Now,
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
)


@app.command(rich_help_panel="Upkeep")
def stats(memory: Memory, as_json: Json = False) -> None:
    """Count what there is, and the bytes that it takes."""
    with opened(memory) as memos:
        found = memos.stats()
    if as_json:
        emit(found)
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out = console()
    for title, rows in (
        ("how many", [(name, f"{many:,}") for name, many in found["counts"].items()]),
        ("bytes", [(name, _size(size)) for name, size in found["bytes"].items()]),
    ):
        out.print(Text(title, style="bold"))
        out.print(showing.table(rows, indent=2, numbers=True))


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"


@app.command(rich_help_panel="Upkeep")
def tick(
    memory: Memory,
    budget: Annotated[float | None, typer.Option("--budget", metavar="SECONDS", help="Start no further move after so long.", min=0)] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="MODEL", help="With this model, for KV and modules: a directory, a hub id, 'default'."),
    ] = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Let the scheduler look at what is due: expire, archive what is over budget, file, prefill, distil."""
    with spinner("ticking"), opened(memory, engine=engine) as memos:
        moves = memos.tick(moment(now, "--now"), budget_s=budget)
    if as_json:
        emit(moves)
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    entries = (showing.block(str(number), str(move.kind), Text(safe(move.reason)), *_ids(move.ids)) for number, move in enumerate(moves, 1))
    showing.listed(console(), entries, "Nothing was due.")


def _ids(ids: tuple[str, ...], most: int = 5) -> list[Any]:
    from rich.text import Text

    shown = [Text(id, style="dim") for id in ids[:most]]
    return [*shown, Text(f"and {len(ids) - most} more", style="dim")] if len(ids) > most else shown


@app.command(rich_help_panel="Upkeep")
def verify(memory: Memory, as_json: Json = False) -> None:
    """Check the database, every hash chain, every file, and the index. Exit code 1 when something is wrong."""
    with spinner("checking"), opened(memory) as memos:
        found = memos.verify()
        counts = memos.stats()["counts"]
    if as_json:
        emit({"ok": found.ok, "problems": list(found.problems)})
    elif found.ok:
        entries = count(counts["audit entries"], "audit entry", "audit entries")
        console().print(f"All is as it was written: {count(counts['versions'], 'version')}, {entries}.")
    else:
        for problem in found.problems:
            typer.echo(f"memos: {safe(problem)}", err=True)
        typer.echo(f"memos: {count(len(found.problems), 'problem')}. Restore {safe(str(memory))} from a backup", err=True)
    if not found.ok:
        raise typer.Exit(1)


@app.command(rich_help_panel="Upkeep")
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write, such as clinic.memos.zip.")],
    memory: Memory,
    scope: MaybeScope = None,
    computed: Annotated[bool, typer.Option("--computed/--no-computed", metavar="", help="With KV, states and modules, or without.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", metavar="", help="Replace a file of that name.")] = False,
    actor: Actor = None,
    as_json: Json = False,
) -> None:
    """Write a memory, or one scope of it, into one archive. It holds everything in the clear."""
    if file.exists() and not overwrite:
        refuse(f"{file} is there already; give another name, or --overwrite")
    with progress_bar() as tell, opened(memory) as memos:
        told = memos.export(file, scope=parts(scope), computed=computed, overwrite=overwrite, progress=tell, actor=parts(actor, "--actor"))
    if as_json:
        emit(told)
        return
    counts = told.counts
    console().print(
        f"Wrote {safe(str(file))}: {count(counts['cubes'], 'memory', 'memories')} in {count(counts['versions'], 'version')},"
        f" {count(counts['blobs'], 'file')}, {_size(told.bytes)}."
    )


@app.command("import", rich_help_panel="Upkeep")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An archive that memos export has written.")],
    memory: Memory,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Take an archive into a memory, which is made when it is not there. All of it is checked first; again, it changes nothing."""
    if not file.is_file():
        refuse(f"there is no file {file}; memos export writes an archive")
    if not (memory / "memos.db").exists():  # none is made for a damaged archive
        from memos_core import MemOS

        with progress_bar() as tell:
            MemOS.check_archive(file, progress=tell)
    with progress_bar() as tell, opened(memory, create=True) as memos:
        came = memos.import_archive(file, progress=tell, actor=parts(actor, "--actor"), now=moment(now, "--now"))
    if as_json:
        emit(came)
        return
    from rich.text import Text

    out = console()
    out.print(
        f"{count(len(came.added), 'memory', 'memories')} added, {len(came.grown):,} brought up to date, {came.known:,} known already."
    )
    notes: list[tuple[str, tuple[Any, ...]]] = [
        ("left out: forgotten here, or made of what was", came.forgotten),
        ("left as here: changed in both memories, each in its own way", came.differing),
        ("here under another id: both memories were told the same message", came.same),
        ("still here, though forgotten there; memos forget follows", came.forgotten_there),
        ("left out: computed from memories that are not here", came.unfounded),
        ("not known again if the message were told again", came.unrecognised),
    ]
    for said, ids in notes:
        if ids:
            out.print(Text(f"{len(ids):,} {said}", style="yellow"))
            for line in _ids(tuple(each if isinstance(each, str) else " is here ".join(each) for each in ids)):
                out.print(Text("  ").append_text(line))
    if came.embedded:
        out.print(Text("The vectors were computed anew: the archive comes from another embedder.", style="dim"))
