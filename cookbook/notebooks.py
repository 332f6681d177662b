"""The notebooks of the cookbook: executed in a directory of their own, and saved so that a diff shows what has changed and nothing else.

    python -m cookbook.notebooks [04_tree ...]      executes and saves the ones named, or all of them

A notebook is its own source: edit it in Jupyter or any editor, then run this.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

HERE = Path(__file__).parent
SLOW = ("06_parameter", "07_scheduler")
PLACE = re.compile(r"(?<![\w.:/])/(?:data|home|mnt|opt|private|root|srv|tmp|Users|usr|var|work)/|\b[A-Z]:\\|site-packages|/ipykernel_")
"""An absolute path of the machine that a notebook ran on."""


def notebooks() -> list[Path]:
    """All there are, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.ipynb"))


def limit(path: Path) -> int:
    """Seconds on two cores that a notebook may take."""
    return 480 if path.stem in SLOW else 180


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def execute(path: Path, most: float | None = None) -> Any:
    """A notebook run from top to bottom by a new kernel, with its new outputs; the file is left alone.

    It runs in a copy of the cookbook's data in a temporary directory, and starts without anybody's settings. most: seconds that one cell may
    take. Raises nbclient's CellExecutionError or CellTimeoutError.
    """
    notebook = cleaned(read(path))
    with tempfile.TemporaryDirectory(prefix="memos-notebook-", ignore_cleanup_errors=True) as folder:
        here = Path(folder)
        shutil.copytree(HERE / "data", here / "data")
        socket = {
            "transport": "ipc",
            "connection_file": str(here / "kernel.json"),
            "ip": str(here / "kernel"),
        }  # nobody else can talk to it
        client = NotebookClient(
            notebook, timeout=most, kernel_name="python3", config=Config(KernelManager=socket), resources={"metadata": {"path": folder}}
        )
        client.execute(env=_environment(here))
    return cleaned(notebook)


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(HERE.parent),
        "IPYTHONDIR": str(folder / ".ipython"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's warning about frozen modules
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # bars are for who watches
    }


def cleaned(notebook: Any) -> Any:
    """The notebook without times, random ids and the versions of who ran it; consecutive pieces of one stream are one."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
        outputs: list[Any] = []
        for output in cell.get("outputs", ()):
            last = outputs[-1] if outputs else None
            if last is not None and last.output_type == output.output_type == "stream" and last.name == output.name:
                last.text += output.text
            else:
                outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs = outputs
    return notebook


def problems(notebook: Any) -> list[str]:
    """What is wrong with a notebook as saved: not run from top to bottom, no outputs, an error, a warning, a path of a machine."""
    found = []
    if not notebook.cells or notebook.cells[0].cell_type != "markdown" or not notebook.cells[0].source.startswith("# "):
        found.append("it does not open with a title and what it shows")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("it was not run from top to bottom")
    if not any(cell.outputs for cell in code):
        found.append("it has no outputs")
    for number, cell in enumerate(notebook.cells, 1):
        said = cell.source + "".join(_texts(cell))
        if match := PLACE.search(said):
            found.append(f"cell {number} holds a path of a machine: {said[max(0, match.start() - 20) : match.end() + 40]!r}")
        for output in cell.get("outputs", ()):
            if output.output_type == "error":
                found.append(f"cell {number} ends in {output.ename}: {output.evalue}")
            elif output.output_type == "stream" and output.name == "stderr":
                found.append(f"cell {number} writes to stderr: {output.text[:80]!r}")
    return found


def shape(notebook: Any) -> list[list[str]]:
    """What each code cell puts out, by kind: the same when saved and when run again."""
    return [
        [f"{output.output_type} {' '.join(sorted(output.get('data', ())))}".strip() for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def _texts(cell: Any) -> list[str]:
    """All that the outputs of a cell say in text."""
    found = []
    for output in cell.get("outputs", ()):
        found.append(output.get("text", ""))
        found += [str(value) for kind, value in output.get("data", {}).items() if kind.startswith("text/") or kind == "image/svg+xml"]
    return found


def save(notebook: Any, path: Path) -> None:
    """Write it; a half-written notebook is never left behind."""
    beside = path.with_suffix(".ipynb.new")
    nbformat.write(notebook, beside)
    beside.replace(path)


def main() -> int:
    wanted = [path for path in notebooks() if not sys.argv[1:] or path.stem in sys.argv[1:]]
    if len(wanted) < len(sys.argv[1:]) or not wanted:
        print(f"the notebooks are {', '.join(path.stem for path in notebooks())}")
        return 2
    well = True
    for path in wanted:
        began = time.perf_counter()
        notebook = execute(path)
        for problem in problems(notebook):
            well = False
            print(f"{path.name}: {problem}")
        save(notebook, path)
        print(f"{path.name}: {time.perf_counter() - began:.0f} s, of {limit(path)} at most", flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
