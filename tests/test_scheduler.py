"""Memory moves by its use: tick on a real store and a tiny model, through the public contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import NOW, bag_of_words
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import MemCube, MemOS, State, Thresholds
from memos_core.changes import Change, Relate, Revise
from memos_core.conflict.resolution import Related
from memos_core.cube import LOCAL_OWNER
from memos_core.hf import HFEngine

ANA = ("clinic", "ana")
FACTS = ["Ana is allergic to penicillin.", "Ana lives in Lisbon.", "Ana plays the cello."]
SAID = NOW - timedelta(days=30)


def engine() -> HFEngine:
    return HFEngine(tiny_model("llama"), tiny_tokenizer())


def open_with(path: Path, **fields: object) -> MemOS:
    return MemOS.open(path, embedder=bag_of_words, engine=engine(), **fields)


@pytest.fixture
def memos(tmp_path: Path) -> Iterator[MemOS]:
    with open_with(tmp_path / "test.memos") as opened:
        opened.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        yield opened


def ask(memos: MemOS, question: str, session: str, now: datetime = NOW) -> None:
    turn = memos.begin([{"role": "user", "content": question}], scope=ANA, session=session, k=1, now=now)
    turn.commit("Yes.", now=now)


def test_nothing_is_prefilled_without_use(memos: MemOS) -> None:
    assert memos.tick(NOW) == []
    assert memos.stats()["counts"]["activation"] == 0


def test_prefill_follows_use_and_says_so(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (move,) = memos.tick(NOW)
    (hot,) = move.ids
    assert move.kind == "prefill" and memos.get(hot).payload.text == FACTS[0]
    assert f"{hot} 2 recalls in 2 sessions, heat 2.00" in move.reason
    assert any(entry.detail == move.reason for entry in memos.audit(ANA))

    for session in ("three", "four", "five"):
        ask(memos, "plays the cello", session)
    (move,) = memos.tick(NOW)  # other uses, another decision
    assert {memos.get(id).payload.text for id in move.ids} == {FACTS[0], FACTS[2]}
    assert "3 recalls in 3 sessions" in move.reason and "2 recalls in 2 sessions" in move.reason
    assert memos.stats()["counts"]["activation"] == 1  # the head before it was dropped


def test_a_second_tick_at_the_same_time_does_nothing(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    assert memos.tick(NOW)
    before = memos.stats()["counts"]
    assert memos.tick(NOW) == [] and memos.stats()["counts"] == before


def test_standing_memory_that_is_recalled_again_counts_once_per_turn(memos: MemOS) -> None:
    talk = [{"role": "user", "content": "allergic to penicillin"}]
    for reply in ("Yes.", "Still."):
        turn = memos.begin(talk, scope=ANA, session="one", k=1, now=NOW)
        turn.commit(reply, now=NOW)
        turn.commit(reply, now=NOW)
        talk = [*talk, {"role": "assistant", "content": reply}, {"role": "user", "content": "allergic to penicillin, really"}]
    (used,) = [hit.cube for hit in memos.recall("penicillin", scope=ANA, now=NOW).hits if hit.cube.payload.text == FACTS[0]]
    assert (used.usage.recalls, used.usage.sessions) == (2, 1)
    assert turn.prompt[0]["content"].count(FACTS[0]) == 1 and FACTS[0] not in turn.prompt[-1]["content"]


def test_the_next_process_reuses_the_kv_on_disk_in_its_first_turn(memos: MemOS, tmp_path: Path) -> None:
    system = {"role": "system", "content": "You help."}
    for session in ("one", "two"):
        memos.begin([system, {"role": "user", "content": "allergic to penicillin"}], scope=ANA, session=session, k=1, now=NOW).commit("Ok.")
    memos.tick(NOW)
    memos.close()
    with open_with(tmp_path / "test.memos") as again:
        turn = again.begin([system, {"role": "user", "content": "penicillin?"}], scope=ANA, session="three", k=1, now=NOW)
        assert FACTS[0] in turn.prompt[0]["content"] and turn.plan.reuse
        model = again._house.engine
        reply = model.generate(turn.prompt, turn.plan, turn.scope, 8)
        assert reply.reused_tokens > model.count("You help." + FACTS[0]) and reply.exact
        cold = model.generate(turn.prompt, turn.plan, turn.scope, 8, reuse=False)
        assert cold.token_ids == reply.token_ids and cold.reused_tokens == 0


def test_another_system_text_or_model_gets_the_sources_as_text(memos: MemOS, tmp_path: Path) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.tick(NOW)
    other = memos.begin([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hm"}], scope=ANA, session="x", now=NOW)
    assert not other.plan.reuse and FACTS[0] in other.prompt[0]["content"]
    assert "another model or system text" in other.plan.why[0]
    memos.close()
    with MemOS.open(tmp_path / "test.memos", embedder=bag_of_words) as plain:  # no engine at all
        turn = plain.begin([{"role": "user", "content": "hm"}], scope=ANA, session="y", now=NOW)
        assert not turn.plan.reuse and FACTS[0] in turn.prompt[0]["content"]


def test_kv_goes_when_its_source_changes(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (move,) = memos.tick(NOW)
    memos.update(move.ids[0], text="Ana is not allergic to penicillin.", now=NOW)
    turn = memos.begin([{"role": "user", "content": "penicillin?"}], scope=ANA, session="three", now=NOW)
    assert not turn.plan.head  # at once, before any tick
    (dropped,) = memos.tick(NOW)
    assert dropped.kind == "drop" and "has changed from version 1 to 2" in dropped.reason
    assert list((memos.path / "blobs").iterdir()) == []
    later = NOW + timedelta(hours=2)  # the new text has settled
    (again,) = memos.tick(later)
    assert again.kind == "prefill" and again.ids == move.ids


def test_kv_goes_when_it_is_cold(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.tick(NOW)
    assert memos.tick(NOW + timedelta(days=6)) == []
    (move,) = memos.tick(NOW + timedelta(days=9))
    assert move.kind == "drop" and "heat 0.8" in move.reason
    assert list((memos.path / "blobs").iterdir()) == [] and memos.verify().ok


def test_kv_stays_within_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "small.memos"
    with open_with(path) as memos:
        for person in ("ana", "ben", "cem"):
            memos.remember(FACTS, scope=("clinic", person), occurred_at=SAID, now=SAID)
        for person, times in (("ana", 2), ("ben", 4), ("cem", 3)):
            for session in range(times):
                turn = memos.begin(
                    [{"role": "user", "content": "penicillin"}], scope=("clinic", person), session=str(session), k=1, now=NOW
                )
                turn.commit("Yes.", now=NOW)
        assert [move.kind for move in memos.tick(NOW)] == ["prefill"] * 3
        each = {cube.payload.bytes for cube in heads(memos)}
        (size,) = each
    with open_with(path, thresholds=Thresholds(activation_bytes=2 * size)) as memos:
        (move,) = memos.tick(NOW)
        assert move.kind == "drop" and "(heat 2.00) do not fit: " in move.reason
        assert {cube.governance.scope[1] for cube in heads(memos)} == {"ben", "cem"}
        assert len(list((path / "blobs").iterdir())) == 2
        assert memos.tick(NOW) == [], "what does not fit is not made again"
        for session in range(9):
            ask(memos, "penicillin", f"more {session}")
        assert [move.kind for move in memos.tick(NOW) if move.kind != "refile"] == [
            "drop",
            "prefill",
        ]  # ana's is the hottest now, and room is made first
        assert {cube.governance.scope[1] for cube in heads(memos)} == {"ana", "ben"} and memos.tick(NOW) == []


def heads(memos: MemOS) -> list[MemCube]:
    found = (memos.get(entry.id) for entry in memos.audit() if entry.detail.endswith(")") or "hot" in entry.detail)
    return [cube for cube in found if cube.payload.kind == "activation" and cube.state is State.ACTIVE]


def test_expired_memory_is_archived(memos: MemOS) -> None:
    (short,) = memos.remember("Ana waits in room 4.", scope=ANA, ttl=timedelta(hours=1), occurred_at=NOW, now=NOW)
    assert memos.tick(NOW) == []
    (move,) = memos.tick(NOW + timedelta(hours=1))
    assert move.kind == "expire" and move.ids == (short.id,)
    assert memos.get(short.id).state is State.ARCHIVED


def test_both_sides_of_a_conflict_may_expire_at_once(memos: MemOS) -> None:
    hour = timedelta(hours=1)
    done = memos.remember(["Ana waits in room 4.", "Ana waits in room 5.", "Ana hums."], scope=ANA, ttl=hour, occurred_at=NOW, now=NOW)
    memos._store.commit([Relate(Related(done[0].id, done[1].id), LOCAL_OWNER, NOW)])
    assert memos.get(done[0].id).state is State.CONTESTED
    moves = memos.tick(NOW + hour)
    assert {id for move in moves for id in move.ids} == {each.id for each in done} and len(moves) == 3
    assert all(memos.get(each.id).state is State.ARCHIVED for each in done) and memos.tick(NOW + hour) == [] and memos.verify().ok


def test_promote_and_demote(memos: MemOS) -> None:
    ids = [hit.cube.id for hit in memos.recall("Ana", scope=ANA, now=NOW).hits]
    (head,) = memos.promote(ids, to="activation", now=NOW)
    assert head.payload.kind == "activation" and head.payload.tokens > 0
    assert memos.begin([{"role": "user", "content": "Ana?"}], scope=ANA, now=NOW).plan.head.count("\n") == 3
    (archived,) = memos.demote(head.id, now=NOW)
    assert archived.state is State.ARCHIVED
    assert not memos.begin([{"role": "user", "content": "Ana?"}], scope=ANA, now=NOW).plan.head
    assert list((memos.path / "blobs").iterdir()) == [] and memos.verify().ok


def test_kv_of_a_scope_that_talks_is_read_ahead(memos: MemOS, tmp_path: Path) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.tick(NOW)
    assert memos.prefetch(ANA) == 0, "this process has computed it"
    memos.close()
    with open_with(tmp_path / "test.memos") as again:
        model = again._house.engine
        assert again.prefetch(("clinic", "ben")) == 0
        (file,) = (again.path / "blobs").iterdir()
        assert 0 < again.prefetch(ANA) <= file.stat().st_size and again.prefetch(ANA) == 0
        assert model.kv.stats()["segments"] == 1
        turn = again.begin([{"role": "user", "content": "penicillin?"}], scope=ANA, session="three", k=1, now=NOW)
        assert model.generate(turn.prompt, turn.plan, turn.scope, 4).reused_tokens >= turn.plan.head_tokens
    with open_with(tmp_path / "test.memos") as live:
        assert live.tick(NOW + timedelta(minutes=9)) == [] and live._house.engine.kv.stats()["segments"] == 1
    with open_with(tmp_path / "test.memos") as idle:
        assert idle.tick(NOW + timedelta(minutes=11)) == [] and idle._house.engine.kv.stats()["segments"] == 0
    with open_with(tmp_path / "test.memos") as fast:
        fast._house.engine.rates.prefilled(10**6, 1e-3)
        fast._house.engine.rates.has_read(10, 10.0)
        assert fast.prefetch(ANA) == 0, "computing it is quicker than reading it"


def test_a_template_that_changes_is_made_again(memos: MemOS) -> None:
    (form,) = memos.remember(
        "Answer {name} in two words, please, and kindly.", scope=ANA, semantic_type="template", occurred_at=SAID, now=SAID
    )
    memos.promote(form.id, to="activation", now=NOW)
    memos.update(form.id, text="Answer {name} in three words, please, and kindly.", now=NOW)
    (move,) = memos.tick(NOW)
    assert move.kind == "prefill" and move.ids == (form.id,) and "has changed from version 1 to 2" in move.reason
    assert memos.stats()["counts"]["activation"] == 1 and len(list((memos.path / "blobs").iterdir())) == 1
    assert memos.tick(NOW) == []
    memos.update(form.id, state="archived", now=NOW)
    assert [move.kind for move in memos.tick(NOW)] == ["drop"] and memos.stats()["counts"]["activation"] == 0


def use(memos: MemOS, person: str, text: str, times: int, now: datetime = NOW) -> None:
    for session in range(times):
        talk = [{"role": "user", "content": text}]
        memos.begin(talk, scope=("clinic", person), session=f"{text} {session} {now}", k=1, now=now).commit("Yes.", now=now)


def active_kv(memos: MemOS) -> list[MemCube]:
    with memos._store.read() as view:
        return view.derived(NOW)


def watch(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of KV after each commit from now on."""
    commit, seen = memos._store.commit, list[int]()

    def watched(changes: Sequence[Change]) -> Any:
        done = commit(changes)
        seen.append(sum(int(cube.payload.bytes) for cube in active_kv(memos)))
        return done

    monkeypatch.setattr(memos._store, "commit", watched)
    return seen


def test_the_byte_budget_holds_after_every_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is made before what needs it, and of several heads those that shrink are made before those that grow."""
    questions, later = ("allergic to penicillin", "plays the cello", "lives in Lisbon"), NOW + timedelta(days=9)
    with open_with(tmp_path / "test.memos") as memos:
        for person in ("ana", "ben", "cem"):
            memos.remember(FACTS, scope=("clinic", person), occurred_at=SAID, now=SAID)
        for person, times in (("ana", (8, 0, 0)), ("ben", (8, 2, 2)), ("cem", (4, 0, 0))):
            for question, count in zip(questions, times, strict=True):
                use(memos, person, question, count)
        memos.tick(NOW)
        sizes = {cube.governance.scope[1]: int(cube.payload.bytes) for cube in active_kv(memos)}
        assert sizes["ana"] < sizes["ben"]
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(activation_bytes=sizes["ana"] + sizes["ben"])) as memos:
        memos.tick(NOW)
        for question in questions[1:]:
            use(memos, "ana", question, 4, later)
        seen = watch(memos, monkeypatch)
        kinds = [move.kind for move in memos.tick(later) if move.kind != "refile"]
        assert kinds == ["prefill", "prefill"] and max(seen) <= sizes["ana"] + sizes["ben"], (kinds, seen)
        now = {cube.governance.scope[1]: int(cube.payload.bytes) for cube in active_kv(memos)}
        assert (now["ana"], now["ben"]) == (sizes["ben"], sizes["ana"]) and memos.tick(later) == []
        use(memos, "cem", questions[0], 40, later)
        kinds = [move.kind for move in memos.tick(later) if move.kind != "refile"]
        assert kinds[0] == "drop" and kinds[-1] == "prefill" and max(seen) <= sizes["ana"] + sizes["ben"], (kinds, seen)


def test_a_frozen_head_stays_whatever_else_is_hot(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    memos.tick(NOW)
    (head,) = active_kv(memos)
    memos.freeze(head.id, now=NOW)
    for session in ("three", "four", "five"):
        ask(memos, "plays the cello", session)
    assert not [move for move in memos.tick(NOW) if move.kind in ("prefill", "drop")]
    assert not [move for move in memos.tick(NOW + timedelta(days=60)) if move.kind in ("prefill", "drop")]
    assert [cube.id for cube in active_kv(memos)] == [head.id]


def test_what_a_budget_above_archives_is_in_no_head_after_that_tick(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    assert [move.kind for move in memos.tick(NOW)] == ["prefill"] and memos.tick(NOW) == []
    memos.set_budget("clinic", facts=1, now=NOW)  # in ana's own scope nothing has happened
    assert [move.kind for move in memos.tick(NOW)] == ["archive", "drop"] and memos.tick(NOW) == []


def test_a_head_that_has_no_room_any_more_is_dropped_on_record(tmp_path: Path) -> None:
    with open_with(tmp_path / "test.memos") as memos:
        for person, times in (("ana", 2), ("ben", 4)):
            memos.remember(FACTS, scope=("clinic", person), occurred_at=SAID, now=SAID)
            use(memos, person, "allergic to penicillin", times)
        memos.tick(NOW)
        budget = sum(int(cube.payload.bytes) for cube in active_kv(memos))
        (old,) = [cube for cube in active_kv(memos) if cube.governance.scope == ANA]
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(activation_bytes=budget)) as memos:
        use(memos, "ana", "plays the cello", 2)
        (move,) = [move for move in memos.tick(NOW) if move.kind != "refile"]
        assert (move.kind, move.ids) == ("drop", (old.id,)) and "for the new head its " in move.reason
        assert memos.moves(ANA)[-1].reason == move.reason and memos.get(old.id).state is State.ARCHIVED
        assert memos.tick(NOW) == []


def test_what_is_accepted_by_the_policy_is_within_the_budgets_of_the_same_tick(tmp_path: Path) -> None:
    path = tmp_path / "test.memos"
    with open_with(path, thresholds=Thresholds(accept_proposals=True, activation_bytes=0)) as memos:
        for session, about in enumerate(["cats", "dogs", "birds", "fish"]):
            talk = [{"role": "user", "content": f"Write a short poem about {about} in the style of a sailor, please."}]
            memos.begin(talk, scope=ANA, session=f"{session}", now=NOW).commit(f"Well, {about}.", now=NOW)
        memos.set_budget(ANA, facts=8, now=NOW)
        kinds = [move.kind for move in memos.tick(NOW)]
        assert {"propose", "prefill", "archive", "drop"} <= set(kinds), kinds
        assert "prefill" in {move.kind for move in memos.moves(ANA)}
        assert memos.tick(NOW) == [] and active_kv(memos) == []


def forgetting(memos: MemOS, monkeypatch: pytest.MonkeyPatch, before: Callable[[Change], bool], id: str) -> None:
    """Somebody forgets a memory right before the commit of such a change."""
    commit = memos._store.commit

    def later(changes: Sequence[Change]) -> Any:
        if any(before(change) for change in changes):
            monkeypatch.undo()
            memos.forget(id, now=NOW)
        return commit(changes)

    monkeypatch.setattr(memos._store, "commit", later)


def test_what_is_forgotten_while_a_tick_decides_is_left_to_the_next(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (move,) = memos.tick(NOW)
    forgetting(memos, monkeypatch, lambda change: isinstance(change, Revise) and change.action == "drop", move.ids[0])
    assert memos.tick(NOW + timedelta(days=9)) == [] and active_kv(memos) == []
    assert memos.tick(NOW + timedelta(days=9)) == [] and memos.verify().ok


def test_of_what_is_forgotten_while_it_is_prefilled_nothing_stays(memos: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    (source,) = [hit.cube for hit in memos.recall("penicillin", scope=ANA, now=NOW).hits if hit.cube.payload.text == FACTS[0]]
    forgetting(memos, monkeypatch, lambda change: getattr(change, "relation", "") == "prefilled from", source.id)
    assert memos.tick(NOW) == []
    assert list((memos.path / "blobs").iterdir()) == []
    assert not any(block.salt for block in memos._house.engine.kv._index.values()), "in RAM what is public alone"
    assert memos.tick(NOW) == [] and memos.verify().ok


def test_another_system_text_gets_a_head_of_its_own(memos: MemOS) -> None:
    for session in ("one", "two"):
        ask(memos, "allergic to penicillin", session)
    assert [move.kind for move in memos.tick(NOW)] == ["prefill"]
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hm"}]
    memos.begin(talk, scope=ANA, session="x", k=1, now=NOW + timedelta(hours=1)).commit("Hm.", now=NOW + timedelta(hours=1))
    assert [move.kind for move in memos.tick(NOW + timedelta(hours=1)) if move.kind != "refile"] == ["prefill"]
    assert memos.begin(talk, scope=ANA, session="y", now=NOW + timedelta(hours=1)).plan.reuse


def test_heads_of_system_texts_that_are_gone_make_room_for_the_present_one(tmp_path: Path) -> None:
    """As with a date in the system text: each day has another."""

    def day(memos: MemOS, number: int) -> list[str]:
        now = NOW + timedelta(days=number)
        talk = [{"role": "system", "content": f"Today is day {number}."}, {"role": "user", "content": "allergic to penicillin"}]
        for session in range(4):
            memos.begin(talk, scope=ANA, session=f"{number} {session}", k=1, now=now).commit("Yes.", now=now)
        kinds = [move.kind for move in memos.tick(now) if move.kind != "refile"]
        assert memos.begin(talk, scope=ANA, session="again", now=now).plan.reuse and memos.tick(now) == []
        return kinds

    with open_with(tmp_path / "test.memos") as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        assert day(memos, 1) == ["prefill"]
        (head,) = active_kv(memos)
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(activation_bytes=int(head.payload.bytes))) as memos:
        assert day(memos, 2) == ["drop", "prefill"] and memos.get(head.id).state is State.ARCHIVED
        assert day(memos, 3) == ["drop", "prefill"]


def put_into_head(memos: MemOS) -> set[str]:
    (move,) = memos.tick(NOW)
    return {memos.get(id).payload.text for id in move.ids}


@pytest.mark.parametrize("task", ["music", "health"])
def test_where_there_is_no_room_for_all_the_task_at_hand_counts(tmp_path: Path, task: str) -> None:
    with open_with(tmp_path / "test.memos", thresholds=Thresholds(head_tokens=30)) as memos:
        cello = memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)[2].id
        for number, (question, what) in enumerate([("allergic to penicillin", "health")] * 3 + [("plays the cello", task)] * 3):
            turn = memos.begin([{"role": "user", "content": question}], scope=ANA, session=f"{number}", k=1, now=NOW, task=what)
            turn.commit("Yes.", now=NOW + timedelta(seconds=number))
        (room,) = [each for each in memos.explain(cello, now=NOW).prospects[0].conditions if each.what == "tokens"]
        assert room.met == (task == "music")
        assert put_into_head(memos) == {FACTS[2] if task == "music" else FACTS[0]}


@pytest.mark.parametrize("together", [True, False])
def test_where_there_is_no_room_for_all_what_is_used_with_something_hot_goes_first(tmp_path: Path, together: bool) -> None:
    few = Thresholds(head_tokens=60, enter_heat=0.9, stay_heat=0.5)
    both, before = ["allergic to penicillin", "lives in Lisbon"], NOW - timedelta(days=14)
    with open_with(tmp_path / "test.memos", thresholds=few) as memos:
        memos.remember(FACTS, scope=ANA, occurred_at=SAID, now=SAID)
        turns = [(question, before) for question in ([", ".join(both)] if together else both) for _ in range(4)]
        turns += [(both[0], NOW)] * 4 + [("plays the cello", NOW)] * 2
        for number, (question, at) in enumerate(turns):
            k = 2 if "," in question else 1
            turn = memos.begin([{"role": "user", "content": question}], scope=ANA, session=f"{number}", k=k, now=at, task="daily")
            turn.commit("Yes.", now=at)
        assert put_into_head(memos) == {FACTS[0], FACTS[1] if together else FACTS[2]}
