"""Commands that only look: recall, tree, timeline, show, history, conflicts, explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from memos_integrations.cli.app import Actor, Id, Json, Memory, Now, Scope, app, console, count, emit, moment, opened, parts, safe, who

if TYPE_CHECKING:
    from memos_core import MemCube


@app.command(rich_help_panel="Looking")
def recall(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for, in words.")],
    scope: Scope,
    memory: Memory,
    k: Annotated[int, typer.Option("--limit", "-k", help="How many memories at most.", min=1)] = 5,
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="What was known and true then.")] = None,
    why: Annotated[bool, typer.Option("--why", metavar="", help="Show what each score is made of.")] = False,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Find what the memory holds on something, best first."""
    with opened(memory) as memos:
        found = memos.recall(query, k=k, as_of=moment(as_of, "--as-of"), now=moment(now, "--now"), **who(scope, actor))
    if as_json:
        hits = [{"score": hit.score, "reasons": hit.reasons, "cube": hit.cube} for hit in found.hits]
        emit({"query": query, "window": found.window, "hits": hits})
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out = console()
    if found.window is not None:
        out.print(Text(f"Understood as a time: {_window(found.window)}\n", style="dim"))
    entries = (
        showing.memory(
            number,
            hit.cube,
            f"score {hit.score:.2f}",
            lines=[Text(f"  {safe(str(reason))}", style="dim") for reason in sorted(hit.reasons, key=lambda each: -abs(each.contribution))]
            if why
            else [],
        )
        for number, hit in enumerate(found.hits, 1)
    )
    showing.listed(out, entries, f"Nothing is remembered in {safe(scope)}.")


def _window(window: Any) -> str:
    from memos_integrations.cli import showing

    return f"{showing.time(window.start)} to {showing.time(window.end)}"


@app.command(rich_help_panel="Looking")
def tree(
    scope: Scope,
    memory: Memory,
    facts: Annotated[int, typer.Option("--facts", "-n", help="How many facts of each concept to show.", min=0)] = 3,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Show what is remembered as a tree: task, concept, fact."""
    with opened(memory) as memos:
        found = memos.tree(parts(scope), actor=parts(actor, "--actor"), now=moment(now, "--now"))
    tasks = [node for node in found if found.nodes[node]["kind"] == "task"]
    if as_json:
        emit([_branch(found, node) for node in tasks])
        return
    from rich.text import Text
    from rich.tree import Tree

    out = console()
    if not tasks:
        out.print(f"Nothing is remembered in {safe(scope)}.")
        return
    root = Tree(Text(safe(scope), style="bold"), guide_style="dim")
    for task in tasks:
        branch = root.add(_counted(found.nodes[task], "bold cyan"))
        for concept in found.successors(task):
            twig = branch.add(_counted(found.nodes[concept], "cyan"))
            held = list(found.successors(concept))
            for fact in held[:facts]:
                twig.add(Text(" ".join(safe(found.nodes[fact]["label"]).split()), overflow="ellipsis", no_wrap=out.is_terminal))
            if facts and len(held) > facts:
                twig.add(Text(f"and {len(held) - facts} more", style="dim"))
    out.print(root)


def _counted(node: Any, style: str) -> Any:
    from rich.text import Text

    return Text.assemble((safe(node["label"]), style), (f"  {node['count']}", "dim"))


def _branch(tree: Any, node: str) -> dict[str, Any]:
    held = tree.nodes[node]
    if held["kind"] == "fact":
        return {"id": node, "text": held["label"], "at": held["at"], "sources": held["sources"]}
    below = "concepts" if held["kind"] == "task" else "facts"
    return {"label": held["label"], "count": held["count"], below: [_branch(tree, each) for each in tree.successors(node)]}


@app.command(rich_help_panel="Looking")
def timeline(
    scope: Scope,
    memory: Memory,
    when: Annotated[str | None, typer.Argument(metavar="WHEN", help="A time in words, such as 'last week' or 'March 2026'.")] = None,
    since: Annotated[str | None, typer.Option("--from", metavar="TIME", help="From when on, with a time zone.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until when.")] = None,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """List what was said in a stretch of time, oldest first. Without one: everything."""
    if when is not None and (since is not None or until is not None):
        raise typer.BadParameter("give a time in words, or --from and --to, not both", param_hint="WHEN")
    with opened(memory) as memos:
        if when is not None:
            found = memos.timeline(query=when, now=moment(now, "--now"), **who(scope, actor))
        else:
            between = (moment(since, "--from") or "0001-01-02T00:00+00:00", moment(until, "--to") or "9999-12-30T00:00+00:00")
            found = memos.timeline(between=between, now=moment(now, "--now"), **who(scope, actor))
    if as_json:
        emit({"window": found.window, "cubes": found.cubes})
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out = console()
    if found.window is None:
        out.print(Text(f"{safe(str(when))!r} names no time. Try 'last week', 'March 2026', or --from and --to."))
        return
    if when is not None:
        out.print(Text(f"{_window(found.window)}\n", style="dim"))
    showing.listed(out, (showing.memory(number, cube) for number, cube in enumerate(found, 1)), "Nothing was said in that time.")


@app.command(rich_help_panel="Looking")
def show(memory: Memory, id: Id, actor: Actor = None, now: Now = None, as_json: Json = False) -> None:
    """Show one memory with all that is known about it, and what it is linked with."""
    with opened(memory) as memos:
        cube = memos.get(id, actor=parts(actor, "--actor"), now=moment(now, "--now"))
        links = memos.links(id, actor=parts(actor, "--actor"), now=moment(now, "--now")) if cube.payload.kind == "plaintext" else []
    if as_json:
        emit({"cube": cube, "links": links})
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out = console()
    out.print(Text(showing.content(cube), style="bold"))
    out.print()
    out.print(showing.table(_facts(cube)))
    if links:
        out.print(Text("\nlinked with", style="dim"))
        for link in links:
            line = Text.assemble((f"{link.relation}: ", "cyan"), showing.content(link.cube, 160), (f"  {link.cube.id}", "dim"))
            out.print(showing.Padding(line, (0, 0, 0, 2)))


def _recalled(use: Any) -> str:
    return f"{count(use.recalls, 'recall')} in {count(use.sessions, 'session')}"


def _facts(cube: MemCube) -> list[tuple[str, Any]]:
    from memos_integrations.cli import showing

    said, rule, use = cube.identifiers, cube.governance, cube.usage
    used = f"{_recalled(use)}, {count(use.uses, 'answer')} came from it, heat {use.heat:.2f}"
    shared = [
        f"{name}: {', '.join(map(showing.scope, actors))}"
        for name, actors in (("read", rule.access.read), ("write", rule.access.write))
        if actors
    ]
    return [
        ("id", cube.id),
        ("state", f"{cube.state}, version {cube.version}"),
        ("kind", f"{cube.payload.kind}, {said.semantic_type}, from {said.origin}"),
        ("scope", showing.scope(rule.scope)),
        ("path", showing.scope(said.path)),
        ("said", showing.time(said.occurred_at) + (f" by {safe(said.speaker)}" if said.speaker else "")),
        ("session", safe(said.session or "")),
        ("sources", ", ".join(map(safe, said.sources))),
        ("mentions", said.mentions if said.mentions > 1 else None),
        ("true from", showing.time(said.valid_from) if said.valid_from else None),
        ("true until", showing.time(said.valid_to) if said.valid_to else None),
        ("expires", showing.time(rule.expires_at) if rule.expires_at else None),
        ("priority", f"{rule.priority:g}" if rule.priority else None),
        ("tags", ", ".join(map(safe, rule.tags))),
        ("shared", "; ".join(shared)),
        ("used", used if use.recalls else None),
        ("changed", showing.time(said.updated_at) if cube.version > 1 else None),
    ]


@app.command(rich_help_panel="Looking")
def history(memory: Memory, id: Id, actor: Actor = None, as_json: Json = False) -> None:
    """List the versions of a memory, oldest first: who changed what, and when."""
    with opened(memory) as memos:
        versions = memos.history(id, actor=parts(actor, "--actor"))
    if as_json:
        emit(versions)
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out, before = console(), None
    entries = []
    for each in versions:
        facts = showing.joined(
            each.action, f"by {safe(each.actor)}", showing.time(each.at), showing.state(each.cube.state) if each.cube else None
        )
        text = "(forgotten)" if each.cube is None else showing.content(each.cube)
        entries.append(showing.block(str(each.version), Text("the same text", style="dim italic") if text == before else text, facts))
        before = text
    showing.listed(out, entries, "It has no versions.")


@app.command(rich_help_panel="Looking")
def conflicts(
    scope: Scope,
    memory: Memory,
    settled: Annotated[bool, typer.Option("--settled", metavar="", help="Also those that have been answered.")] = False,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """List which memories contradict or replace each other, undecided ones first."""
    with opened(memory) as memos:
        found = memos.conflicts(settled=settled, now=moment(now, "--now"), **who(scope, actor))
    if as_json:
        emit(found)
        return

    from memos_integrations.cli import showing

    entries = (
        showing.block(
            str(number),
            f"{'undecided' if each.resolution == 'open' else each.resolution}: {each.kind}",
            showing.joined(safe(each.why), f"confidence {each.confidence:.2f}"),
            showing.pairs([("older", _side(each.older)), ("newer", _side(each.newer))]),
        )
        for number, each in enumerate(found, 1)
    )
    showing.listed(console(), entries, f"Nothing contradicts anything in {safe(scope)}.")


def _side(cube: MemCube) -> Any:
    from rich.console import Group

    from memos_integrations.cli import showing

    return Group(showing.content(cube, 300), showing.joined(showing.time(cube.identifiers.occurred_at), cube.id))


MOVES = {
    "prefill": "compute its KV ahead",
    "distil": "distil it into a module",
    "drop": "give its KV up",
    "expire": "archive it when its time is over",
    "archive": "archive it over a budget",
    "revert": "take the module off, its texts back",
    "stale": "take the module off, since a source changed",
}


@app.command(rich_help_panel="Looking")
def explain(
    memory: Memory,
    id: Id,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="MODEL", help="As with this model: a directory, a hub id, or 'default'.")
    ] = None,
    actor: Actor = None,
    now: Now = None,
    as_json: Json = False,
) -> None:
    """Say why a memory is where it is, what it is worth, and what would move it."""
    with opened(memory, engine=engine) as memos:
        cube = memos.get(id, actor=parts(actor, "--actor"), now=moment(now, "--now"))
        found = memos.explain(id, actor=parts(actor, "--actor"), now=moment(now, "--now"))
    if as_json:
        emit(found)
        return
    from rich.text import Text

    from memos_integrations.cli import showing

    out = console()
    out.print(Text(showing.content(cube), style="bold"))
    out.print()
    used = f"{_recalled(found.usage)}, heat {found.usage.heat:.2f}"
    where = "in RAM" if found.tier == "RAM" else "on disk" if found.tier == "disk" else "given up"
    facts = [
        ("is", f"{found.state} {found.form} memory, {where}"),
        ("why", safe(found.why)),
        ("held as", ", ".join(found.held_as)),
        ("used", used if found.usage.recalls else "never yet"),
        ("worth", f"{found.value.seconds:.3g} s expected to be saved" if found.value.seconds else None),
    ]
    out.print(showing.table(facts))
    for prospect in found.prospects:
        met = sum(each.met for each in prospect.conditions)
        title = f"{prospect.kind}: {MOVES.get(prospect.kind, '')}".rstrip(": ")
        when = f", on {showing.time(prospect.when)}" if prospect.when else ", at the next tick" if met == len(prospect.conditions) else ""
        out.print(Text.assemble("\n", (title, "cyan"), (f"  {met} of {len(prospect.conditions)} conditions met{when}", "dim")))
        for each in sorted(prospect.conditions, key=lambda each: each.met):
            state = f"{safe(each.what)}: {safe(each.has)}"
            line = (
                Text(f"ok     {state}", style="dim")
                if each.met
                else Text.assemble(("lacks  ", "yellow"), safe(each.missing), (f" ({state})", "dim"))
            )
            out.print(showing.Padding(line, (0, 0, 0, 2)))
