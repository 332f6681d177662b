"""The package as a whole: what importing it loads, its door, the direction of its imports, its size, its missing extras."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import memos_core

ROOT = Path(memos_core.__file__).parent.parent
# who may import whom: a room, which is a module or a package, imports rooms of its own layer and of the layers before it
LAYERS: list[set[str]] = [
    {"errors"},
    {"cube"},
    set(
        """access analyse changes clashes conflict credit differences duplicate embed examination filters gardening habits
        hierarchy intake labels lessons lifespan outline parse past plan policies policy rates readiness recall
        residency revise routing statements turn value when""".split()
    ),
    set(
        """archive blobs books budgeting candidates carrying explaining forgetting
        gleaning governing heads holding house index learning links matching modules parts pictures placing proposing reading reviewing scheduler store
        tending traffic transform turns worker writing""".split()
    ),
    {"bound"},
    {"archiving", "browsing", "entries", "forms", "lifecycle", "parameters", "scheduling", "sources"},
    {"memos"},
    {"__init__"},
]
PURE = LAYERS[2] - {"embed"}
IMPURE_LIBRARIES = {"sqlite3", "faiss", "torch", "transformers", "threading", "filelock", "os", "pathlib"}


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} if node.module != "memos_core" else {f"memos_core.{alias.name}" for alias in node.names}
    return found


def rooms(names: set[str]) -> set[str]:
    """The rooms of the core among them; what is imported from the door itself counts as the door."""
    core = {name.split(".")[1] for name in names if name.startswith("memos_core.")}
    known = set().union(*LAYERS)
    return {name if name in known or name == "hf" else "__init__" for name in core}


def modules(room: str) -> list[Path]:
    """The files of a room."""
    folder = ROOT / "memos_core" / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def test_each_room_imports_only_what_lies_below() -> None:
    there = {path.stem for path in (ROOT / "memos_core").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"hf"} == set().union(*LAYERS)
    for number, layer in enumerate(LAYERS):
        allowed = set().union(*LAYERS[: number + 1]) | ({"hf"} if layer & {"embed"} else set())
        for room in layer:
            for path in modules(room):
                assert rooms(imports(path)) <= allowed, path


def test_pure_rooms_have_no_hands() -> None:
    for room in PURE:
        for path in modules(room):
            libraries = {name.split(".")[0] for name in imports(path)}
            allowed = {"threading"} if room == "turn" else set()  # a turn under way holds one lock
            assert not (libraries & IMPURE_LIBRARIES) - allowed, path


def test_only_hf_touches_torch_and_only_the_store_sql() -> None:
    for room in set().union(*LAYERS):
        for path in modules(room):
            libraries = {name.split(".")[0] for name in imports(path)}
            assert not libraries & {"torch", "transformers", "safetensors", "peft"}, path
            assert "sqlite3" not in libraries or room == "store", path
    for path in modules("hf"):
        assert rooms(imports(path)) <= {"errors", "cube", "hf", "lessons", "examination", "parse", "residency", "statements"}, path
        assert not {"pickle", "sqlite3"} & imports(path)


def test_integrations_use_the_door_and_never_each_other() -> None:
    here = ROOT / "memos_integrations"
    for path in here.rglob("*.py"):
        framework = path.relative_to(here).parts[0].removesuffix(".py")  # a module, or a package, which may import itself
        for name in imports(path):
            assert not name.startswith("memos_integrations") or name.split(".")[1:2] == [framework], path.name
            if name.startswith("memos_core."):
                public = name.split(".")[1]
                assert public in memos_core.__all__ or name == "memos_core.hf", f"{path.name}: {name}"


def test_the_door() -> None:
    assert memos_core.__all__ == sorted(memos_core.__all__)
    for name in memos_core.__all__:
        assert getattr(memos_core, name).__doc__, name


def test_files_can_be_read_in_a_sitting() -> None:
    for path in [*(ROOT / "memos_core").rglob("*.py"), *(ROOT / "memos_integrations").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 450, path.name


def test_both_packages_are_typed() -> None:
    assert (ROOT / "memos_core" / "py.typed").exists() and (ROOT / "memos_integrations" / "py.typed").exists()


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout + done.stderr


def test_importing_the_core_loads_no_model_library() -> None:
    heavy = "torch transformers peft safetensors langchain_core llama_index langchain_classic".split()
    said = run(f"import sys, memos_core, memos_integrations; print([name for name in {heavy} if name in sys.modules])")
    assert said.strip() == "[]"


@pytest.mark.parametrize(
    ("blocked", "statement", "extra"),
    [
        ("torch", "import memos_core.hf; memos_core.hf.HFEngine", "hf"),
        ("torch", "from memos_core import MemOS; MemOS.open('never.memos')", "hf"),
        ("langchain_core", "import memos_integrations.langchain", "langchain"),
        ("langgraph", "import memos_integrations.langgraph", "langchain"),
        ("langchain_classic", "import memos_integrations.langchain_classic", "langchain-classic"),
        ("llama_index", "import memos_integrations.llamaindex", "llamaindex"),
        ("typer", "from memos_integrations.cli import main; main()", "cli"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(blocked: str, statement: str, extra: str) -> None:
    said = run(f"import sys; sys.modules[{blocked!r}] = None\n{statement}")
    assert f"needs the extra '{extra}': pip install 'memos-integrations[{extra}]'" in said
    assert not (ROOT / "never.memos").exists()
