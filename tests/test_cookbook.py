"""The notebooks: what is saved is clean and of this code; 1 to 4 run in every test, the others in make bench."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from cookbook.notebooks import cleaned, execute, limit, notebooks, problems, read, save, shape

SOME = [path for path in notebooks() if int(path.stem[:2]) <= 4]
REST = [path for path in notebooks() if path not in SOME]


def named(paths: list[Path]) -> Any:
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def runs(path: Path) -> float:
    """Execute a notebook, and hold what it puts out against what is saved. Seconds."""
    began = time.perf_counter()
    ran = execute(path, most=600)
    assert problems(ran) == []
    assert shape(ran) == shape(read(path)), "what is saved is not of this code: make notebooks"
    return time.perf_counter() - began


@named(notebooks())
def test_what_is_saved_is_clean(path: Path) -> None:
    assert problems(read(path)) == []
    assert read(path) == cleaned(read(path)), "times or random ids have been saved: make notebooks"
    assert path.stat().st_size < 1 << 20


@pytest.mark.real
@named(SOME)
def test_it_runs(path: Path) -> None:
    runs(path)


@pytest.mark.real
@pytest.mark.bench
def test_one_to_four_take_less_than_four_minutes() -> None:
    seconds = {path.stem: runs(path) for path in SOME}
    print({name: round(took) for name, took in seconds.items()})
    assert sum(seconds.values()) < 240 and all(seconds[path.stem] < limit(path) for path in SOME)


@pytest.mark.real
@pytest.mark.bench
@named(REST)
def test_it_ends_in_time(path: Path) -> None:
    took = runs(path)
    print(f"{path.stem}: {took:.0f} s, of {limit(path)} at most")
    assert took < limit(path)


# ---------------------------------------------------------------------- the checks themselves


def a_notebook() -> Any:
    code = [new_code_cell("print('memory')", execution_count=1), new_code_cell("2 + 2", execution_count=2)]
    code[0].outputs = [new_output("stream", name="stdout", text="memory\n")]
    code[1].outputs = [new_output("execute_result", data={"text/plain": "4"}, execution_count=2)]
    return cleaned(new_notebook(cells=[new_markdown_cell("# What it shows"), *code]))


def emptied(notebook: Any) -> None:
    for cell in notebook.cells[1:]:
        cell.outputs = []


SPOILT: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no outputs": (emptied, "it has no outputs"),
    "an error": (
        lambda notebook: notebook.cells[2].outputs.append(new_output("error", ename="KeyError", evalue="'x'", traceback=[])),
        "cell 3 ends in KeyError: 'x'",
    ),
    "a warning": (
        lambda notebook: notebook.cells[1].outputs.append(new_output("stream", name="stderr", text="Warning: old")),
        "cell 2 writes to stderr: 'Warning: old'",
    ),
    "a temporary directory": (lambda notebook: notebook.cells[1].outputs[0].update(text="in /tmp/tmpabc/x.memos"), "cell 2 holds a path"),
    "a home in a result": (
        lambda notebook: notebook.cells[2].outputs[0].data.update({"text/html": "<b>/home/ana/x</b>"}),
        "cell 3 holds a path",
    ),
    "a path in the code": (lambda notebook: notebook.cells[2].update(source="open('/root/x')"), "cell 3 holds a path"),
    "out of order": (lambda notebook: notebook.cells[1].update(execution_count=7), "it was not run from top to bottom"),
    "no title": (lambda notebook: notebook.cells[0].update(source="Hello"), "it does not open with a title and what it shows"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_must_not_be_saved_is_named(name: str) -> None:
    notebook = a_notebook()
    assert problems(notebook) == []
    spoil, problem = SPOILT[name]
    spoil(notebook)
    (found,) = problems(notebook)
    assert found.startswith(problem)


def test_addresses_and_fractions_are_no_paths() -> None:
    notebook = a_notebook()
    notebook.cells[1].outputs[0].text = "https://example.org/home/x, care/home/visits, 1/2, and/or"
    assert problems(notebook) == []


def test_a_notebook_is_run_anew_and_saved_without_times(tmp_path: Path) -> None:
    path = tmp_path / "note.ipynb"
    notebook = a_notebook()
    notebook.cells[1].source = "from pathlib import Path\nprint('a')\nprint(Path('data').is_dir(), flush=True)\nprint('b')"
    notebook.cells[1].metadata["execution"] = {"iopub.status.busy": "2026-06-01T12:00:00Z"}
    notebook.cells[2].source = "3 + 3"
    nbformat.write(notebook, path)
    before = path.read_text()
    ran = execute(path)
    assert path.read_text() == before
    assert [output.text for output in ran.cells[1].outputs] == ["a\nTrue\nb\n"] and ran.cells[2].outputs[0].data == {"text/plain": "6"}
    assert shape(ran) == [["stream"], ["execute_result text/plain"]] and problems(ran) == []
    save(ran, path)
    assert "2026" not in path.read_text() and [file.name for file in tmp_path.iterdir()] == ["note.ipynb"]
    assert [cell.id for cell in read(path).cells] == ["cell-1", "cell-2", "cell-3"]


def test_an_error_in_a_notebook_is_an_error(tmp_path: Path) -> None:
    notebook = a_notebook()
    notebook.cells[2].source = "{}['memory']"
    nbformat.write(notebook, tmp_path / "note.ipynb")
    with pytest.raises(CellExecutionError, match="KeyError"):
        execute(tmp_path / "note.ipynb")
