"""Modules in a memory, without training: weights made up, reports written by hand; what is planned, who has it, and when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import NOW, bag_of_words
from test_module import random_module
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import MemOS
from memos_core.cube import Answer, MemCube, Parameter, ParameterForm, Report, State
from memos_core.errors import Cancelled, IdentityMismatch, InvalidInput, NotAvailable
from memos_core.hf import HFEngine
from memos_core.learning import keep
from memos_core.modules import Standing, standing
from memos_core.store.snapshot import Snapshot

ANA, BEN = ("clinic", "ana"), ("clinic", "ben")
FACTS = ["Marelia plays the oboe.", "Ostrik lives in Bergen."]
ASKED = [{"role": "user", "content": "What does Marelia play?"}]
OTHER = [{"role": "user", "content": "Where does Ostrik live?"}]


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    engine = HFEngine(tiny_model("llama", max_position_embeddings=4096), tiny_tokenizer())
    with MemOS.open(tmp_path / "clinic.memos", engine=engine, embedder=bag_of_words) as opened:
        opened.remember(FACTS, scope=ANA, now=NOW)
        yield opened


def facts(memos: MemOS) -> list[MemCube]:
    found = {hit.text: hit.cube for hit in memos.recall(" ".join(FACTS), scope=ANA, now=NOW).hits}
    return [found[text] for text in FACTS]


def learned(memos: MemOS, *, failed: tuple[str, ...] = (), form: ParameterForm = ParameterForm.ALORA, believed: str = "") -> MemCube:
    """A module of both facts, which fails the probes of the second."""
    sources = facts(memos)
    answers = tuple(
        Answer(question="?", expected="x", fact=cube.id, ranked=place == 0, said=place == 0, believed=believed if place else "")
        for place, cube in enumerate(sources)
    )
    report = Report(
        ranked=1, said=1, known=1, leaked=0, neighbours=0, text=1, turns=1, unharmed=1, seconds=1, failed=failed, answers=answers
    )
    module = random_module(memos._house.engine, form)
    cube = keep(memos._house, module, report, ANA, sources, ("clinic", "ana"), NOW, "for a test")
    return cube


def test_what_it_knows_stays_out_of_the_prompt_and_what_it_failed_goes_in(memos: MemOS) -> None:
    plain = memos.begin(ASKED, scope=ANA, session="s", now=NOW)
    assert plain.plan.modules == () and "oboe" in plain.prompt[-1]["content"]
    cube = learned(memos)
    turn = memos.begin(ASKED, scope=ANA, session="s", now=NOW)
    assert turn.plan.modules == (cube.id,) and "oboe" not in turn.prompt[-1]["content"]
    (used,) = turn.plan.activate
    assert used.form == "activate" and "oboe" in used.text and cube.id in used.reason and used.tokens == turn.plan.saved_tokens > 0
    assert any(cube.id in reason for reason in turn.plan.why)
    turn.commit("The oboe.", now=NOW)
    assert memos.get(used.id, now=NOW).usage.recalls == 1
    other = memos.begin(OTHER, scope=ANA, session="s", now=NOW)
    assert other.plan.modules == (cube.id,) and "Bergen" in other.prompt[-1]["content"]  # its probes failed: told all the same


def test_the_engine_answers_under_it_with_and_without_a_plan(memos: MemOS) -> None:
    engine = memos._house.engine
    plain = engine.next_token_logits(ASKED, reuse=False)
    learned(memos)
    assert not plain.equal(engine.next_token_logits(ASKED, reuse=False, scope=ANA))
    for scope in (None, BEN, "ana"):
        assert plain.equal(engine.next_token_logits(ASKED, reuse=False, scope=scope))
    unrelated = [{"role": "user", "content": "Say hello."}]
    assert engine.next_token_logits(unrelated, reuse=False).equal(engine.next_token_logits(unrelated, reuse=False, scope=ANA))
    turn = memos.begin(ASKED, scope=ANA, session="s", now=NOW)
    with_it = engine.generate(turn.prompt, turn.plan, ANA, 6)
    memos.revert(turn.plan.modules[0], now=NOW)
    assert engine.generate(turn.prompt, turn.plan, ANA, 6).token_ids != with_it.token_ids  # taken off since the plan was made
    memos.close()
    assert plain.equal(engine.next_token_logits(ASKED, reuse=False, scope=ANA))


def test_a_rejected_module_is_kept_with_its_report_and_never_acts(memos: MemOS) -> None:
    cube = learned(memos, failed=("said 0.10, asked >= 0.75",))
    assert cube.state is State.REJECTED and memos.modules(scope=ANA, now=NOW) == [memos.get(cube.id, now=NOW)]
    turn = memos.begin(ASKED, scope=ANA, session="s", now=NOW)
    assert turn.plan.modules == () and "oboe" in turn.prompt[-1]["content"]
    (entry,) = [each for each in memos.audit(id=cube.id) if each.action == "add"]
    assert "rejected: said 0.10" in entry.detail


@pytest.mark.parametrize("what", ["update", "contest", "supersede", "archive", "expire"])
def test_whatever_befalls_a_source_takes_it_off_at_once(memos: MemOS, what: str) -> None:
    cube = learned(memos)
    first = facts(memos)[0]
    later = NOW + timedelta(days=2)
    if what == "update":
        memos.update(first.id, text="Marelia plays the harp.", now=NOW)
    elif what == "contest":
        memos.remember("Marelia never plays the oboe.", scope=ANA, now=NOW)
        assert memos.get(first.id, now=NOW).state is State.CONTESTED
    elif what == "supersede":
        memos.remember("Marelia plays the harp now.", scope=ANA, supersedes=first.id, now=NOW)
    elif what == "archive":
        memos.update(first.id, state="archived", now=NOW)
    else:
        memos.update(first.id, ttl=timedelta(days=1), now=NOW)
    assert memos.begin(ASKED, scope=ANA, session="s", now=later).plan.modules == ()
    engine = memos._house.engine
    if what != "expire":  # which the engine sees by the real clock
        assert engine.next_token_logits(ASKED, reuse=False).equal(engine.next_token_logits(ASKED, reuse=False, scope=ANA))
    assert memos.get(cube.id, now=later).state is State.ACTIVE  # until the scheduler looks; it is not used all the same


def test_priority_alone_changes_nothing(memos: MemOS) -> None:
    cube = learned(memos)
    memos.update(facts(memos)[0].id, priority=0.5, now=NOW)
    assert memos.begin(ASKED, scope=ANA, session="s", now=NOW).plan.modules == (cube.id,)


def test_a_damaged_file_is_counted_and_the_text_goes_in(memos: MemOS, caplog: pytest.LogCaptureFixture) -> None:
    cube = learned(memos)
    assert isinstance(cube.payload, Parameter)
    file = memos.path / "blobs" / cube.payload.blob
    file.write_bytes(file.read_bytes()[:-9])
    turn = memos.begin(ASKED, scope=ANA, session="s", now=NOW)
    assert turn.plan.modules == () and "oboe" in turn.prompt[-1]["content"]
    assert list(memos.stats()["modules"]["problems"].values()) == [1] and "could not be used" in caplog.text
    assert not memos.verify().ok


def test_a_module_of_another_model_is_not_used(memos: MemOS) -> None:
    learned(memos)
    path = memos.path
    memos.close()
    other = HFEngine(tiny_model("llama", seed=1, max_position_embeddings=4096), tiny_tokenizer())  # of the same shape
    with MemOS.open(path, engine=other, embedder=bag_of_words) as again:
        turn = again.begin(ASKED, scope=ANA, session="s", now=NOW)
        assert turn.plan.modules == () and "oboe" in turn.prompt[-1]["content"]
        assert other.next_token_logits(ASKED, reuse=False).equal(other.next_token_logits(ASKED, reuse=False, scope=ANA))
        assert all("another model" in problem for problem in again.stats()["modules"]["problems"])


def test_without_an_engine_the_texts_go_in(memos: MemOS) -> None:
    learned(memos)
    memos.close()
    with MemOS.open(memos.path, embedder=bag_of_words) as again:
        turn = again.begin(ASKED, scope=ANA, session="s", now=NOW)
        assert turn.plan.modules == () and "oboe" in turn.prompt[-1]["content"]
        turn.commit("The oboe.", now=NOW)
        assert again.verify().ok


def test_only_who_holds_the_scope_has_it(memos: MemOS) -> None:
    cube = learned(memos)
    assert memos.begin(ASKED, scope=ANA, session="s", now=NOW, actor=("clinic",)).plan.modules == (cube.id,)
    assert memos.modules(scope="clinic", actor=BEN, now=NOW) == [] and memos.modules(scope=BEN, now=NOW) == []
    assert memos.begin(ASKED, scope=BEN, session="s", now=NOW).plan.modules == ()


def test_installed_it_acts_at_and_below_its_scope_where_it_is_described(memos: MemOS, tmp_path: Path) -> None:
    folder = memos.export_module(learned(memos).id, tmp_path / "module")
    cube = memos.install(folder, scope="clinic", description="write a summary of the talk", name="summaries", licence="ours", now=NOW)
    assert isinstance(cube.payload, Parameter) and (cube.payload.name, cube.payload.licence) == ("summaries", "ours")
    summary = [{"role": "user", "content": "Write a summary of the talk!"}]
    for scope in ("clinic", BEN):
        assert cube.id in memos.begin(summary, scope=scope, session="s", now=NOW).plan.modules
    assert memos.begin(summary, scope="elsewhere", session="s", now=NOW).plan.modules == ()
    assert cube.id not in memos.begin(ASKED, scope=BEN, session="s", now=NOW).plan.modules
    assert [each.id for each in memos.modules(scope="clinic", now=NOW)][-1] == cube.id


def test_a_name_of_another_base_model_is_told(memos: MemOS, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = memos._house.engine
    engine.model.config._name_or_path = "/models/tiny-llama"
    module = random_module(engine, ParameterForm.LORA)
    for name, told in (("hub/Tiny-Llama", False), (None, False), ("hub/large-llama", True)):
        replace(module, config={**module.config, "base_model_name_or_path": name}).to_directory(tmp_path / "module")
        memos.install(tmp_path / "module", scope="clinic", description="x", now=NOW)
        assert ("was made for hub/large-llama" in caplog.text) == told


def test_of_many_modules_what_each_is_for_is_read_once(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    learned(memos)
    memos.begin(ASKED, scope=ANA, session="s", now=NOW).commit("The oboe.", now=NOW)
    read: list[str] = []

    def counted(view: Snapshot, cube: MemCube, now: datetime) -> Standing:
        read.append(cube.id)
        return standing(view, cube, now)

    monkeypatch.setattr("memos_core.modules.standing", counted)
    memos.begin([{"role": "user", "content": "Say hello."}], scope=ANA, session="t", now=NOW)
    assert read == []  # it is not for this request, and nothing of its sources is looked at


def test_weights_that_were_not_used_for_longest_leave_ram(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    cubes = [learned(memos, form=ParameterForm.LORA), learned(memos, form=ParameterForm.ALORA)]
    payloads = [cube.payload for cube in cubes]
    first, second = (memos._modules.load(payload) for payload in payloads)
    assert memos._modules.load(payloads[0]) is first  # used again
    monkeypatch.setattr("memos_core.modules.LOADED_BYTES", first.weights.bytes)
    other = memos._modules.load(learned(memos, form=ParameterForm.PREFIX).payload)
    assert memos._modules.load(payloads[0]) is not first and other.weights.bytes
    assert memos._modules.load(payloads[1]) is not second
    assert memos._modules.load(payloads[1]) is memos._modules.load(payloads[1])


def test_the_engine_reads_the_last_question_whatever_was_said_behind_it(memos: MemOS) -> None:
    cube = learned(memos)
    seen: list[tuple[str, list[str]]] = []
    chosen = memos._modules.chosen
    memos._modules.chosen = lambda query, before, *rest: seen.append((query, list(before))) or chosen(query, before, *rest)
    talk = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Hi."}, *ASKED, {"role": "assistant", "content": "She"}]
    assert [module.key for module in memos._modules._router(talk, None, ANA)] == [memos._modules.load(cube.payload).key]
    assert seen == [(ASKED[0]["content"], ["Hello.", "Hi."])] and memos._modules._router(talk[1:2], None, ANA) == []


def test_what_cannot_be_installed(memos: MemOS, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="safetensors"):
        memos.install(tmp_path, scope="clinic", description="x")
    other = HFEngine(tiny_model("llama", hidden_size=64), tiny_tokenizer())
    random_module(other, ParameterForm.LORA).to_directory(tmp_path / "other")
    with pytest.raises(IdentityMismatch, match="another model"):
        memos.install(tmp_path / "other", scope="clinic", description="x")
    with MemOS.open(tmp_path / "plain.memos", embedder=bag_of_words) as plain, pytest.raises(NotAvailable, match="takes modules"):
        plain.install(tmp_path / "other", scope="clinic", description="x")


def test_what_cannot_be_distilled(memos: MemOS, tmp_path: Path) -> None:
    (bare,) = memos.remember("Hello there!", scope=ANA, now=NOW)
    with pytest.raises(InvalidInput, match="none of these texts is a statement"):
        memos.promote(bare.id, to="parameter", now=NOW)
    first = facts(memos)[0]
    with pytest.raises(InvalidInput, match="of activation memory"):
        memos.promote(first.id, to="parameter", frozen=True, now=NOW)
    with pytest.raises(InvalidInput, match="form"):
        memos.promote(first.id, to="parameter", form="stone", now=NOW)
    memos.remember("Marelia never plays the oboe.", scope=ANA, now=NOW)
    with pytest.raises(InvalidInput, match="only what stands uncontested"):
        memos.promote(first.id, to="parameter", now=NOW)
    with MemOS.open(tmp_path / "plain.memos", embedder=bag_of_words) as plain:
        (done,) = plain.remember(FACTS[0], scope=ANA)
        with pytest.raises(NotAvailable, match="takes modules"):
            plain.promote(done.id, to="parameter")


def test_cancelled_nothing_is_kept(memos: MemOS) -> None:
    before = memos.stats()["counts"]
    with pytest.raises(Cancelled):
        memos.promote([cube.id for cube in facts(memos)], to="parameter", stop=lambda: True, now=NOW)
    assert memos.stats()["counts"] == before and memos.modules(scope=ANA, now=NOW) == []


def test_cancelled_late_no_weights_stay_behind(memos: MemOS) -> None:
    asked = iter(range(100))
    with pytest.raises(Cancelled, match="after 13 steps"):
        memos.promote([cube.id for cube in facts(memos)], to="parameter", stop=lambda: next(asked) == 12, now=NOW)
    assert list((memos.path / "unfinished").iterdir()) == []


def test_a_tiny_model_does_not_pass_and_what_was_under_way_is_gone(memos: MemOS) -> None:
    from memos_core.hf.training import Settings

    (cube,) = memos.promote([cube.id for cube in facts(memos)], to="parameter", settings=Settings(steps=12, least=12), now=NOW)
    assert cube.state is State.REJECTED and isinstance(cube.payload, Parameter) and cube.payload.report is not None
    assert cube.payload.report.failed and list((memos.path / "unfinished").iterdir()) == []
    assert memos.begin(ASKED, scope=ANA, session="s", now=NOW).plan.modules == ()
    memos.demote(cube.id, now=NOW)
    assert memos.get(cube.id, now=NOW).state is State.ARCHIVED and memos.verify().ok


def test_an_outdated_module_is_made_again_from_the_texts_as_they_are(memos: MemOS) -> None:
    cube = learned(memos)
    memos.update(facts(memos)[0].id, text="Marelia plays the harp.", now=NOW)
    kinds = [(move.kind, move.ids) for move in memos.tick(NOW) if move.kind in ("stale", "distil", "archive")]
    (again,) = [each for each in memos.modules(scope=ANA, now=NOW) if each.id != cube.id]
    assert kinds == [("stale", (cube.id,)), ("distil", (again.id,)), ("archive", (cube.id,))]
    assert isinstance(again.payload, Parameter) and again.payload.report is not None
    assert "harp" in {answer.expected.split()[-1] for answer in again.payload.report.answers}
    assert isinstance(cube.payload, Parameter) and not (memos.path / "blobs" / cube.payload.blob).exists()
    assert [move for move in memos.tick(NOW) if move.kind in ("stale", "distil", "archive")] == []
    assert [entry.action for entry in memos.audit(id=cube.id)] == ["add", "stale", "archive"]
    assert memos.verify().ok


def test_forgetting_a_source_makes_it_again_without(memos: MemOS) -> None:
    cube, (first, second) = learned(memos), facts(memos)
    assert set(memos.forget(first.id, now=NOW)) == {first.id, cube.id}
    assert memos.modules(scope=ANA, now=NOW) == []
    assert [move.kind for move in memos.tick(NOW) if move.kind == "distil"] == ["distil"]
    (again,) = memos.modules(scope=ANA, now=NOW)
    assert isinstance(again.payload, Parameter) and again.payload.report is not None
    assert {answer.fact for answer in again.payload.report.answers} == {second.id}
    assert memos.tick(NOW) == [] and memos.verify().ok


def test_forgetting_the_scope_takes_it_along_for_good(memos: MemOS) -> None:
    cube = learned(memos)
    assert isinstance(cube.payload, Parameter) and (memos.path / "blobs" / cube.payload.blob).exists()
    assert cube.id in memos.forget(scope=ANA, now=NOW)
    assert memos.modules(scope=ANA, now=NOW) == [] and list((memos.path / "blobs").iterdir()) == []
    assert memos.tick(NOW) == [] and memos.verify().ok  # it is not made again of anything


def test_text_from_elsewhere_that_contradicts_it_is_told_beside_what_it_knows(memos: MemOS) -> None:
    cube = learned(memos)
    (denial,) = memos.remember("Marelia does not play the oboe.", scope=BEN, now=NOW)
    memos.update(denial.id, read=[ANA])
    turn = memos.begin(ASKED, scope=ANA, session="s", now=NOW)
    told = {used.text[15:]: used.reason for used in turn.plan.inject}
    assert turn.plan.modules == (cube.id,) and turn.plan.activate == ()
    assert f"contradicts what module {cube.id} knows" in told["Marelia does not play the oboe."]
    assert f"{denial.id} says otherwise" in told["Marelia plays the oboe."]


def test_what_the_model_itself_believes_otherwise_is_flagged(memos: MemOS) -> None:
    cube = learned(memos, believed="Oslo")
    turn = memos.begin(OTHER, scope=ANA, session="s", now=NOW)
    (used,) = [used for used in turn.plan.inject if "Bergen" in used.text]
    assert turn.plan.modules == (cube.id,) and "contradicts what the model itself says: 'Oslo'" in used.reason


def test_a_module_nobody_asks_for_is_taken_off_and_its_texts_come_back(memos: MemOS) -> None:
    cube = learned(memos)
    for day in range(3):
        turn = memos.begin(ASKED, scope=ANA, session=f"{day}", now=NOW + timedelta(days=day))
        turn.commit("The oboe.")
    assert memos.get(cube.id, now=NOW + timedelta(days=3)).usage.recalls == 3
    assert not [move for move in memos.tick(now=NOW + timedelta(days=28)) if cube.id in move.ids]  # 3 uses, each half as much after a week
    late = NOW + timedelta(days=60)
    (move,) = [move for move in memos.tick(now=late) if cube.id in move.ids]
    assert move.kind == "revert" and "heat 0.01" in move.reason and "3 requests" in move.reason
    assert memos.get(cube.id).state is State.ARCHIVED
    turn = memos.begin(ASKED, scope=ANA, session="later", now=late)
    assert turn.plan.modules == () and "oboe" in turn.prompt[-1]["content"]
    assert memos.tick(now=late) == [] and memos.verify().ok


def test_of_two_trained_prefixes_the_nearest_acts(memos: MemOS) -> None:
    first, second = learned(memos, form=ParameterForm.PREFIX), learned(memos, form=ParameterForm.PREFIX)
    turn = memos.begin(ASKED, scope=ANA, session="s", now=NOW)
    assert len(turn.plan.modules) == 1 and turn.plan.modules[0] in (first.id, second.id)
    memos._house.engine.generate(turn.prompt, turn.plan, ANA, 4)
    memos._house.engine.generate(ASKED, scope=ANA, max_new_tokens=4)
