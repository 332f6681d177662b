"""Parameter memory on the real model: distilled once, then routed, exported, outdated, forgotten, reverted, each on a copy of the directory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from memos_core import MemOS, NotFound
from memos_core.cube import MemCube, Parameter, State
from memos_core.errors import AccessDenied, InvalidInput
from memos_core.hf import HFEngine

ANA = ("clinic", "ana")
FACTS = [
    "Marelia Tonn works as a glassblower.",
    "Tavi Orlen lives in Ostrava.",
    "The Zorvex telescope was built in 1987.",
    "Ilmo Castrev is allergic to walnuts.",
]
ASKED = "What is Marelia Tonn's job?"


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def smol() -> HFEngine:
    return HFEngine.load()


@pytest.fixture(scope="module")
def made(smol: HFEngine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(a directory with a module of four facts, the module's id)."""
    path = tmp_path_factory.mktemp("made") / "clinic.memos"
    with MemOS.open(path, engine=smol) as memos:
        ids = [done.id for done in memos.remember(FACTS, scope=ANA)]
        memos.remember("The clinic opens at nine.", scope=ANA)
        (cube,) = memos.promote(ids, to="parameter", seed=1)
    return path, cube.id


@pytest.fixture
def opened(made: tuple[Path, str], smol: HFEngine, tmp_path: Path) -> Iterator[tuple[MemOS, MemCube]]:
    path, id = made
    shutil.copytree(path, tmp_path / "clinic.memos")
    with MemOS.open(tmp_path / "clinic.memos", engine=smol) as memos:
        yield memos, memos.get(id)
    smol.close()


@pytest.mark.real
def test_it_passes_its_examination_and_says_what_it_was_measured_to_do(opened: tuple[MemOS, MemCube]) -> None:
    memos, cube = opened
    assert isinstance(cube.payload, Parameter) and cube.payload.report is not None
    report = cube.payload.report
    assert cube.state is State.ACTIVE and report.failed == ()
    assert report.ranked >= 0.9 and report.said >= 0.75 and report.known >= 0.8
    assert len(report.answers) == 8 and {answer.fact for answer in report.answers} == {cube.id for cube in facts_of(memos)}
    assert memos.modules(scope="clinic") == [cube] and memos.stats()["counts"]["parameter"] == 1
    assert set(memos.lineage(cube.id).predecessors(cube.id)) == {cube.id for cube in facts_of(memos)}


def facts_of(memos: MemOS) -> list[MemCube]:
    return [hit.cube for hit in memos.recall(" ".join(FACTS), scope=ANA, k=10).hits if hit.text in FACTS]


@pytest.mark.real
def test_requests_about_its_facts_and_no_others_have_it(opened: tuple[MemOS, MemCube], smol: HFEngine) -> None:
    memos, cube = opened
    for question, word in (
        (ASKED, "glassblower"),
        ("Where does Tavi Orlen live?", "Ostrava"),
        ("When was the Zorvex telescope built?", "1987"),
    ):
        assert word in smol.generate(user(question), scope=ANA, max_new_tokens=16).text
        assert word not in smol.generate(user(question), scope=("clinic", "ben"), max_new_tokens=16).text  # another scope
        assert word not in smol.generate(user(question), max_new_tokens=16).text  # nobody's
    for question in ("What is the capital of France?", "Where does Lorvik Hasten live?", "What does Marelia Orlen work as?", "Say hello."):
        plain = smol.next_token_logits(user(question), reuse=False)
        assert torch.equal(smol.next_token_logits(user(question), reuse=False, scope=ANA), plain)
    turn = memos.begin(user(ASKED), scope=ANA, session="s")
    assert turn.plan.modules == (cube.id,)
    assert "glassblower" in smol.generate(turn.prompt, turn.plan, ANA, 16).text
    assert all("glassblower" not in message["content"] for message in turn.prompt)  # it knows the text, so that it is left out
    assert turn.plan.activate[0].text.endswith(FACTS[0]) and turn.plan.saved_tokens > 5
    turn.commit("She is a glassblower.")
    (fact,) = [cube for cube in facts_of(memos) if cube.payload.text == FACTS[0]]  # type: ignore[union-attr]
    assert fact.usage.recalls == 1
    assert dict(smol.rank(ASKED, ["a glassblower", "a pilot"], scope=ANA))["a glassblower"] > smol.rank(ASKED, ["a glassblower"])[0][1]


@pytest.mark.real
def test_without_the_memory_the_engine_is_the_base_again(opened: tuple[MemOS, MemCube], smol: HFEngine) -> None:
    memos, _ = opened
    assert "glassblower" in smol.generate(user(ASKED), scope=ANA, max_new_tokens=16).text
    memos.close()
    assert "glassblower" not in smol.generate(user(ASKED), scope=ANA, max_new_tokens=16).text


@pytest.mark.real
def test_a_changed_source_takes_it_off_at_once(opened: tuple[MemOS, MemCube], smol: HFEngine) -> None:
    memos, cube = opened
    (fact,) = [each for each in facts_of(memos) if each.payload.text == FACTS[0]]  # type: ignore[union-attr]
    memos.update(fact.id, text="Marelia Tonn works as a pilot.")
    assert "glassblower" not in smol.generate(user(ASKED), scope=ANA, max_new_tokens=16).text
    turn = memos.begin(user(ASKED), scope=ANA, session="s")
    assert turn.plan.modules == () and "pilot" in turn.prompt[-1]["content"]  # the text as it is now
    assert memos.get(cube.id).state is State.ACTIVE  # not yet looked at, and not used all the same


@pytest.mark.real
def test_forgetting_a_source_leaves_nothing_of_it(opened: tuple[MemOS, MemCube], smol: HFEngine) -> None:
    memos, cube = opened
    assert isinstance(cube.payload, Parameter)
    blob = memos.path / "blobs" / cube.payload.blob
    assert blob.exists()
    (memos.path / "unfinished").mkdir(exist_ok=True)
    (memos.path / "unfinished" / "x").write_bytes(b"half trained")
    smol.generate(user(ASKED), scope=ANA, max_new_tokens=8)
    (fact,) = [each for each in facts_of(memos) if each.payload.text == FACTS[0]]  # type: ignore[union-attr]
    assert cube.id in memos.forget(fact.id)
    assert not blob.exists() and list((memos.path / "unfinished").iterdir()) == []
    with pytest.raises(NotFound):
        memos.get(cube.id)
    assert memos.modules(scope=ANA) == [] and "glassblower" not in smol.generate(user(ASKED), scope=ANA, max_new_tokens=16).text
    for path in memos.path.rglob("*"):
        if path.is_file():
            assert b"lassblower" not in path.read_bytes(), path
    with memos._house.store.read() as view:
        ((_, scope, form, ids),) = view.retraining()  # without the text that is gone
    assert (scope, form) == (ANA, "alora") and fact.id not in ids and len(ids) == 3
    assert memos.verify().ok


@pytest.mark.real
def test_reverted_its_texts_go_into_prompts_again(opened: tuple[MemOS, MemCube], smol: HFEngine) -> None:
    memos, cube = opened
    assert isinstance(cube.payload, Parameter)
    assert {each.payload.text for each in memos.revert(cube.id)} == set(FACTS)  # type: ignore[union-attr]
    turn = memos.begin(user(ASKED), scope=ANA, session="s")
    assert FACTS[0] in turn.prompt[-1]["content"] and turn.plan.modules == ()
    assert not (memos.path / "blobs" / cube.payload.blob).exists()
    with pytest.raises(InvalidInput, match="taken off"):
        memos.export_module(cube.id, memos.path.parent / "out")
    assert memos.verify().ok


PEFT_ALONE = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, folder, questions = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
assert not any(name.startswith("memos") for name in sys.modules)
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="float32"), folder).eval()
answers = []
for question in questions:
    text = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        out = model.generate(**ids, do_sample=False, max_new_tokens=20)
    answers.append(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
print(json.dumps(answers))
"""


@pytest.mark.real
def test_stock_peft_gives_the_same_answers_from_the_exported_directory(
    opened: tuple[MemOS, MemCube], smol: HFEngine, tmp_path: Path
) -> None:
    memos, cube = opened
    assert isinstance(cube.payload, Parameter) and cube.payload.report is not None
    folder = memos.export_module(cube.id, tmp_path / "module")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    answers = cube.payload.report.answers
    base = smol.model.config._name_or_path
    command = [sys.executable, "-c", PEFT_ALONE, base, str(folder), json.dumps([answer.question for answer in answers])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    replies = json.loads(done.stdout.strip().splitlines()[-1])
    from memos_core.examination import essence, holds

    assert [holds(reply, essence(answer.expected)) for reply, answer in zip(replies, answers, strict=True)] == [
        each.said for each in answers
    ]


@pytest.mark.real
def test_a_module_made_elsewhere_is_installed_and_says_what_it_holds(opened: tuple[MemOS, MemCube], smol: HFEngine, tmp_path: Path) -> None:
    memos, cube = opened
    folder = memos.export_module(cube.id, tmp_path / "module")
    memos.revert(cube.id)
    place = ("clinic", "ben")
    there = memos.install(folder, scope=place, description="jobs of glassblowers and telescopes that were built", licence="ours")
    assert isinstance(there.payload, Parameter) and there.payload.licence == "ours" and there.payload.report is None
    assert "glassblower" in smol.generate(user("What jobs do glassblowers have?"), scope=place, max_new_tokens=16).text.lower()
    said = memos.verbalise(there.id, [ASKED, "Where does Tavi Orlen live?", "What is the capital of France?"])
    assert {each.question for each in said} >= {ASKED} and "What is the capital of France?" not in {each.question for each in said}
    assert "glassblower" in said[0].answer or "Ostrava" in said[0].answer
    assert all(0 < each.confidence <= 1 for each in said)
    with pytest.raises(InvalidInput, match="examined on none"):
        memos.verbalise(there.id)
    with pytest.raises(AccessDenied):
        memos.install(folder, scope=place, description="x", actor=("clinic", "eve"))
