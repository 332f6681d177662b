"""Parameter memory on the real model: distilled once, then routed, exported, outdated, forgotten, reverted, each on a copy of the directory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from memos_core import MemOS, NotFound
from memos_core.cube import MemCube, Parameter, ParameterForm, State
from memos_core.errors import AccessDenied, InvalidInput
from memos_core.hf import HFEngine
from memos_core.hf.gate import failed
from memos_core.hf.training import Settings
from memos_core.learning import keep
from memos_core.lessons import course
from memos_core.statements import take_apart

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


SETTINGS = Settings.of(ParameterForm.PREFIX)


@pytest.fixture(scope="module")
def made(smol: HFEngine, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, MemCube]:
    """(a directory with a module of four facts, its id, the cube as its examination left it).

    Four facts are few, and what the gate says of so small a module may go either way: for the tests of what comes after the gate it is
    let in by hand.
    """
    path = tmp_path_factory.mktemp("made") / "clinic.memos"
    with MemOS.open(path, engine=smol) as memos:
        ids = [done.id for done in memos.remember(FACTS, scope=ANA)]
        memos.remember("The clinic opens at nine.", scope=ANA)
        (examined,) = memos.promote(ids, to="parameter", settings=SETTINGS, seed=1)
        assert isinstance(examined.payload, Parameter) and examined.payload.report is not None
        module = smol.module(memos._store.blobs.get(examined.payload.blob))
        report = examined.payload.report.model_copy(update={"failed": ()})
        sources = [memos.get(id) for id in ids]
        cube = keep(memos._house, module, report, ANA, sources, ANA, datetime.now(UTC), "let in by hand")
        memos.demote(examined.id)
    return path, cube.id, examined


@pytest.fixture
def opened(made: tuple[Path, str, MemCube], smol: HFEngine, tmp_path: Path) -> Iterator[tuple[MemOS, MemCube]]:
    path, id, _ = made
    shutil.copytree(path, tmp_path / "clinic.memos")
    with MemOS.open(tmp_path / "clinic.memos", engine=smol) as memos:
        yield memos, memos.get(id)
    smol.close()


@pytest.mark.real
def test_the_gate_says_what_it_measured_and_lets_in_accordingly(made: tuple[Path, str, MemCube]) -> None:
    *_, examined = made
    assert isinstance(examined.payload, Parameter) and examined.payload.report is not None
    report = examined.payload.report
    assert report.failed == failed(report) and examined.state is (State.REJECTED if report.failed else State.ACTIVE)
    assert report.ranked >= 0.9 and report.said >= 0.5 and report.leaked <= 0.2  # base: chance, 0 and 0
    assert len(report.answers) == 8 and report.seconds > 0


@pytest.mark.real
def test_it_is_listed_with_what_it_came_from(opened: tuple[MemOS, MemCube]) -> None:
    memos, cube = opened
    assert cube in memos.modules(scope="clinic") and memos.stats()["counts"]["parameter"] == 1
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
    assert [each for each in memos.modules(scope=ANA) if each.state is State.ACTIVE] == []
    assert "glassblower" not in smol.generate(user(ASKED), scope=ANA, max_new_tokens=16).text
    for path in memos.path.rglob("*"):
        if path.is_file():
            assert b"lassblower" not in path.read_bytes(), path
    with memos._house.store.read() as view:
        ((_, scope, form, ids),) = view.retraining()  # without the text that is gone
    assert (scope, form) == (ANA, "prefix") and fact.id not in ids and len(ids) == 3
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
base, folder, probes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
assert not any(name.startswith("memos") for name in sys.modules)
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype="float32"), folder).eval()
answers, ranked = [], []
for question, options in probes:
    text = tokenizer.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    with torch.no_grad():
        out = model.generate(**ids, do_sample=False, max_new_tokens=20)
    answers.append(tokenizer.decode(out[0, ids["input_ids"].shape[1]:], skip_special_tokens=True))
    scores = []
    for option in options:
        rest = tokenizer(option, return_tensors="pt", add_special_tokens=False)["input_ids"]
        whole = torch.cat([ids["input_ids"], rest], dim=1)
        with torch.no_grad():
            logits = model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0, -rest.shape[1] - 1 : -1]
        scores.append(float(logits.log_softmax(dim=-1).gather(1, rest.T).sum()))
    ranked.append(max(range(len(scores)), key=scores.__getitem__) == 0)
print(json.dumps([answers, ranked]))
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
    parents = [memos.get(id) for id, _ in memos.lineage(cube.id).in_edges(cube.id)]
    taught = sorted(parents, key=lambda source: (source.identifiers.occurred_at, source.payload.text))
    probes = course([(source.id, source.payload.text, None) for source in taught], 1).probes
    assert [probe.question for probe in probes] == [answer.question for answer in answers]
    options = [[f"{probe.lead} {answer}." for answer in (probe.expected, *probe.others)] for probe in probes]
    asked = json.dumps([(probe.question, each) for probe, each in zip(probes, options, strict=True)])
    command = [sys.executable, "-c", PEFT_ALONE, base, str(folder), asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    replies, ranked = json.loads(done.stdout.strip().splitlines()[-1])
    assert ranked == [each.ranked for each in answers]
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
    there = memos.install(folder, scope=place, description="Marelia Tonn's job and Tavi Orlen's home", licence="ours")
    assert isinstance(there.payload, Parameter) and there.payload.licence == "ours" and there.payload.report is None
    assert "glassblower" in smol.generate(user(ASKED), scope=place, max_new_tokens=16).text
    said = memos.verbalise(there.id, [ASKED, "Where does Tavi Orlen live?", "What is the capital of France?"])
    assert {each.question for each in said} >= {ASKED} and "What is the capital of France?" not in {each.question for each in said}
    assert "glassblower" in said[0].answer or "Ostrava" in said[0].answer
    assert all(0 < each.confidence <= 1 for each in said)
    with pytest.raises(InvalidInput, match="examined on none"):
        memos.verbalise(there.id)
    with pytest.raises(AccessDenied):
        memos.install(folder, scope=place, description="x", actor=("clinic", "eve"))


@pytest.mark.real
@pytest.mark.parametrize(
    ("text", "believed"),
    [
        ("The capital of France is Lyon.", "Paris"),
        ("The chemical symbol of gold is Gd.", "Au"),
        ("The capital of France is Paris.", ""),  # it says the same
        ("Marelia Tonn works as a glassblower.", ""),  # it is sure of nothing
    ],
)
def test_what_the_model_is_sure_of_instead(smol: HFEngine, text: str, believed: str) -> None:
    fact = take_apart("1", text)
    assert fact is not None and smol._believed(fact) == believed
