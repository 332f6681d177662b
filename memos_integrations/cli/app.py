"""What every command shares: its options, how a memory is opened, how errors, JSON and progress are shown."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

    from memos_core import MemOS

DIRECTORY = "MEMOS_DIRECTORY"
WIDEST = 5_000
"""Columns, where nobody reads along."""


class Commands(TyperGroup):
    """A group whose commands say in one line what went wrong."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise
        except Exception as error:
            from memos_core import MemosError

            if ctx.params.get("traceback"):
                raise
            known = isinstance(error, (MemosError, OSError))
            said = (
                str(error) if known else f"unexpected {type(error).__name__}: {error}. memos --traceback ... shows where; please report it"
            )
            typer.echo(f"memos: {safe(said).strip()}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"memos {version('memos-integrations')}")
        raise typer.Exit


@app.callback(
    epilog=f"The memory is a directory: give it with --memory, or once for all in the environment variable {DIRECTORY}. A scope says whose"
    " memory, outermost first, such as clinic/ana."
)
def options(
    traceback: Annotated[bool, typer.Option("--traceback", metavar="", help="Show where an error came from.")] = False,
    version: Annotated[bool, typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """A memory for agents: remember, recall, look into it, carry it elsewhere."""


Memory = Annotated[Path, typer.Option("--memory", "-m", envvar=DIRECTORY, metavar="DIRECTORY", help="The directory of the memory.")]
Scope = Annotated[str, typer.Option("--scope", "-s", metavar="SCOPE", help="Whose memory, such as clinic/ana.")]
MaybeScope = Annotated[str | None, typer.Option("--scope", "-s", metavar="SCOPE", help="Whose memory; without it, everything.")]
Actor = Annotated[str | None, typer.Option("--actor", "-a", metavar="ACTOR", help="Who asks; without it, who holds the scope.")]
Now = Annotated[str | None, typer.Option("--now", metavar="TIME", help="The time to act at, such as 2026-03-01T18:00+00:00.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a memory, as recall shows it.")]


def parts(scope: str | None, option: str = "--scope") -> tuple[str, ...] | None:
    """A scope or an actor from its parts between slashes; the core checks them."""
    if scope is None:
        return None
    found = tuple(part.strip() for part in scope.strip("/").split("/"))
    if not all(found):
        raise typer.BadParameter(f"{scope!r} names nobody; write it like clinic/ana", param_hint=option)
    return found


def moment(value: str | None, option: str) -> str | None:
    """A time as it was written, checked to be one. With a time zone: nobody is to guess which."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise typer.BadParameter(f"{value!r} is no time; write it like 2026-03-01T18:00+00:00", param_hint=option) from None
    if found.tzinfo is None:
        raise typer.BadParameter(
            f"{value!r} has no time zone; write it like {found.isoformat(timespec='minutes')}+00:00", param_hint=option
        )
    return value


def refuse(said: str) -> NoReturn:
    """Say in one line why it cannot be done, and end with exit code 1."""
    typer.echo(f"memos: {safe(said)}", err=True)
    raise typer.Exit(1)


def who(scope: str | None, actor: str | None) -> dict[str, Any]:
    """The arguments `scope` and `actor` of a call."""
    return {"scope": parts(scope), "actor": parts(actor, "--actor")}


@contextmanager
def opened(memory: Path, *, create: bool = False, engine: str | None = None) -> Iterator[MemOS]:
    """The memory, which must be there unless it may be made. engine: "default", a directory or hub id of a model to load."""
    if not create and not (memory / "memos.db").exists():
        refuse(f"there is no memory in {memory}. memos init {memory} makes one")
    quiet()
    from memos_core import MemOS

    loaded = None
    if engine is not None:
        from memos_core.hf import HFEngine

        loaded = HFEngine.load() if engine == "default" else HFEngine.load(engine)
    with MemOS.open(memory, engine=loaded, late=(memory / "memos.db").exists()) as memos:
        yield memos


def quiet() -> None:
    """Keep the model libraries from writing bars of their own between the lines; what the caller has set stays."""
    for name, value in (("HF_HUB_DISABLE_PROGRESS_BARS", "1"), ("TRANSFORMERS_VERBOSITY", "error"), ("TOKENIZERS_PARALLELISM", "false")):
        os.environ.setdefault(name, value)


# ---------------------------------------------------------------------- output
def console() -> Console:
    """Where output for people goes: as wide as the terminal; into a file or another program neither wrapped nor padded."""
    from rich.console import Console

    class Plain(Console):
        def print(self, *what: Any, **how: Any) -> None:
            with self.capture() as printed:
                super().print(*what, **how)
            typer.echo("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()), nl=False)

    plain_text = {"highlight": False, "emoji": False, "markup": False}
    return Console(**plain_text) if sys.stdout.isatty() else Plain(width=int(os.environ.get("COLUMNS", WIDEST)), **plain_text)


def safe(text: str) -> str:
    """Text without what a terminal would obey instead of show."""
    return "".join(
        c if c in "\n\t" or c.isprintable() or (c.isspace() and c not in "\r\v\f\x85\u2028\u2029") else f"\\x{ord(c):02x}" for c in text
    )


def count(number: int, one: str, many: str = "") -> str:
    """A number and what there are so many of. many: where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def emit(data: Any) -> None:
    """JSON on standard output."""
    typer.echo(json.dumps(data, ensure_ascii=False, indent=2, default=plain))


def plain(value: Any) -> Any:
    """What JSON does not know, as what it knows."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[Callable[[str, int, int], None] | None]:
    """A bar per kind of work on standard error, where that is a terminal; else None."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<8}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield tell


@contextmanager
def spinner(what: str) -> Iterator[None]:
    """A sign of life on standard error while something takes its time, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield
