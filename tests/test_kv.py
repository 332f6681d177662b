"""The prefix tree alone, on payloads that spell out their own tokens, and segment files on a tiny model."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import TEXT, chat, tiny_model, tiny_tokenizer

from memos_core.errors import InvalidInput
from memos_core.hf import HFEngine
from memos_core.hf.cache import Layout
from memos_core.hf.identity import Identity
from memos_core.hf.kv import PrefixTree
from memos_core.hf.prefix import BLOCK, Prompt, scope_salt
from memos_core.hf.rates import Rates
from memos_core.hf.segment import Unreadable

ONE = Identity(*(["one"] * 8))
SIZE = 8  # bytes of KV per token: an int64 that is the token itself


def prompt(tokens: list[int], scope: Any = None, public: int = 0, identity: Identity = ONE) -> Prompt:
    salt = scope_salt(scope)
    return Prompt(identity, tuple(tokens), public if salt else len(tokens), salt)


def keep(tree: PrefixTree, asked: Prompt, wanted: bool = False) -> None:
    match = tree.match(asked, len(asked.tokens) - 1)
    cells = torch.tensor(asked.tokens).reshape(1, 1, -1, 1)
    tree.keep(asked, match, SIZE, lambda start, end: (cells[:, :, start:end].clone(),), wanted=wanted)
    tree.release(match)


def found(tree: PrefixTree, asked: Prompt) -> list[int]:
    """The tokens whose KV a lookup finds."""
    match = tree.match(asked, len(asked.tokens) - 1)
    tree.release(match)
    return [int(cell) for piece in match.stored for cell in piece.payload[0].flatten()[: piece.used]]


@pytest.mark.parametrize("split", [0, 1, 63, 64, 65, 127, 128, 129, 199, 200])
def test_matches_token_by_token(split: int) -> None:
    tree, tokens = PrefixTree(1 << 20), list(range(200))
    keep(tree, prompt(tokens))
    other = tokens[:split] + [999] * (200 - split) + [7]
    assert found(tree, prompt(other)) == tokens[:split]
    assert found(tree, prompt(tokens)) == tokens[:199]  # the last token is always computed


def test_a_prefix_is_stored_once() -> None:
    tree = PrefixTree(1 << 20)
    for last in range(5):
        keep(tree, prompt([*range(128), 1000 + last]))
    assert tree.stats()["tokens"] == 128 + 5
    keep(tree, prompt([*range(128), 1000, 1001]))  # continues the first: its one-token block says nothing more
    assert tree.stats()["tokens"] == 128 + 4 + 2
    keep(tree, prompt(list(range(70))))  # the beginning of what is there
    assert tree.stats()["tokens"] == 128 + 4 + 2


def test_scopes_share_only_what_is_public() -> None:
    tree, tokens = PrefixTree(1 << 20), list(range(200))
    keep(tree, prompt(tokens, "ana", public=70))
    assert found(tree, prompt(tokens, "ana", public=70)) == tokens[:199]
    assert found(tree, prompt(tokens, ("ana",), public=70)) == tokens[:199]
    assert found(tree, prompt(tokens, "ben", public=70)) == tokens[:70]
    assert found(tree, prompt(tokens)) == tokens[:70]
    assert found(tree, prompt(tokens, "ben")) == []
    assert found(tree, prompt(tokens, "ana")) == []  # without a plan it is not known what of it is public
    assert tree.stats()["misses_by_reason"] == {"no segment for this scope": 3}
    assert scope_salt(("a", "b")) != scope_salt(("ab",)) != scope_salt("a b")
    for bad in ("", (), ("a", 1), 7):
        with pytest.raises(InvalidInput, match="scope"):
            scope_salt(bad)  # type: ignore[arg-type]


tokens_strategy = st.integers(0, 180).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 2), st.integers(1, 60)))
scopes = st.sampled_from([None, "ana", "ben"])
operation = st.tuples(tokens_strategy, scopes, st.sampled_from([0, 30, 64, 100]))


@settings(max_examples=60)
@given(operations=st.lists(operation, min_size=1, max_size=25), budget=st.integers(0, 400))
def test_random_operations(operations: Any, budget: int) -> None:
    """Under any sequence: what is found is what was asked, private blocks stay in their scope, the budget holds."""
    tree = PrefixTree(budget * SIZE)
    seen: dict[str, list[tuple[tuple[int, ...], int]]] = {}
    for (shared, branch, more), scope, public in operations:
        asked = prompt([*range(shared), *(1000 * (branch + 1) + n for n in range(more))], scope, public)
        got = found(tree, asked)
        assert got == list(asked.tokens[: len(got)])
        mine = seen.setdefault(asked.salt, [])
        allowed = max((_common(asked.tokens, earlier) for earlier, _ in mine), default=0)
        others = [(earlier, edge) for salt, kept in seen.items() for earlier, edge in kept if salt != asked.salt]
        public_part = max((min(_common(asked.tokens, earlier), edge, asked.public) for earlier, edge in others), default=0)
        assert len(got) <= max(allowed, public_part)
        keep(tree, asked)
        mine.append((asked.tokens, asked.public))
        assert tree.stats()["bytes"] <= budget * SIZE
        assert tree.stats()["bytes"] == tree.stats()["tokens"] * SIZE
        assert all(node.pins == 0 for node in tree._index.values())


def _common(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    return next((n for n, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))


def test_pinned_blocks_stay_and_leaves_go_first() -> None:
    tree = PrefixTree(4 * BLOCK * SIZE)
    keep(tree, prompt(list(range(128))))
    held = tree.match(prompt([*range(128), 5]), 128)
    keep(tree, prompt(list(range(5000, 5000 + 4 * BLOCK))))  # wants everything
    assert found(tree, prompt([*range(128), 5])) == list(range(128))
    tree.release(held)
    keep(tree, prompt(list(range(5000, 5000 + 4 * BLOCK))))
    there = [len(found(tree, prompt([*text, 1]))) for text in (range(128), range(5000, 5000 + 4 * BLOCK))]
    newcomer = prompt(list(range(7000, 7000 + 2 * BLOCK)))
    for _ in range(9):  # until it is worth what is there
        keep(tree, newcomer)
    assert found(tree, prompt([*newcomer.tokens, 1])) == list(newcomer.tokens)
    now = [len(found(tree, prompt([*text, 1]))) for text in (range(128), range(5000, 5000 + 4 * BLOCK))]
    assert sum(there) == 4 * BLOCK and sum(now) == 2 * BLOCK  # what is found begins at the beginning: leaves went, and no more of them
    assert tree.stats()["evictions"] >= 2


def test_what_is_asked_for_is_kept_whatever_it_is_worth() -> None:
    tree = PrefixTree(4 * BLOCK * SIZE)
    for _ in range(20):
        keep(tree, prompt(list(range(4 * BLOCK))))
    keep(tree, prompt(list(range(7000, 7000 + 2 * BLOCK))), wanted=True)
    assert found(tree, prompt([*range(7000, 7000 + 2 * BLOCK), 1])) == list(range(7000, 7000 + 2 * BLOCK))
    assert found(tree, prompt(list(range(4 * BLOCK)))) == list(range(2 * BLOCK))
    assert tree.stats()["bytes"] <= tree.budget


def test_a_block_that_cannot_be_copied_is_not_counted() -> None:
    tree, asked = PrefixTree(1 << 20), prompt(list(range(100)))

    def fails(start: int, end: int) -> tuple[torch.Tensor, ...]:
        raise MemoryError

    with pytest.raises(MemoryError):
        tree.keep(asked, tree.match(asked, 99), SIZE, fails)
    assert tree.stats()["bytes"] == 0 and found(tree, asked) == [] and all(root.pins == 0 for _, root in tree._roots.values())
    keep(tree, asked)
    assert found(tree, asked) == list(range(99))


def test_nothing_is_kept_when_something_was_erased_meanwhile() -> None:
    tree, asked = PrefixTree(1 << 20), prompt(list(range(100)), "ana")
    match = tree.match(asked, 99)
    tree.forget_scope(scope_salt("ben"))
    tree.keep(asked, match, SIZE, lambda start, end: pytest.fail("kept"))
    assert tree.stats()["tokens"] == 0


@pytest.mark.parametrize("name", [field.name for field in fields(Identity)])
def test_another_identity_is_a_miss_that_says_so(name: str) -> None:
    tree = PrefixTree(1 << 20)
    keep(tree, prompt(list(range(100))))
    assert found(tree, prompt(list(range(100)), identity=replace(ONE, **{name: "two"}))) == []
    assert tree.stats()["misses_by_reason"][f"{name} changed since the KV was made"] == 1


# -- files, on a tiny model ------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine() -> HFEngine:
    return HFEngine(tiny_model(), tiny_tokenizer())


SYSTEM = chat("hello", system=TEXT)[:1]
ASKED = chat("And when does it open?", system=TEXT)


def saved(engine: HFEngine, folder: Path, scope: Any = "ana") -> tuple[Any, Path]:
    segment = engine.prefill(SYSTEM, scope)
    file = folder / "segment.safetensors"
    file.write_bytes(engine.save(segment))
    engine.close()
    return segment, file


def test_file_round_trip(engine: HFEngine, tmp_path: Path) -> None:
    expected = engine.generate(ASKED, reuse=False, max_new_tokens=8).token_ids
    segment, file = saved(engine, tmp_path)
    assert b"ana" not in file.read_bytes()[:4000]  # the plain scope is not in the header
    assert engine.attach(file, scope="ana", prefix_key=segment.prefix_key) is None
    assert engine.kv.stats()["bytes"] == 0
    assert engine.generate(ASKED, scope="ben", max_new_tokens=8).reused_tokens == 0
    first = engine.generate(ASKED, scope="ana", max_new_tokens=8)
    assert (first.token_ids, first.reused_tokens) == (expected, segment.tokens)
    assert f"{segment.tokens} of them loaded from a file" in first.reuse_reason
    second = engine.generate(ASKED, scope="ana", max_new_tokens=8)
    assert second.token_ids == expected
    assert "file" not in second.reuse_reason


def test_evicted_blocks_come_back_from_their_file(engine: HFEngine, tmp_path: Path) -> None:
    segment, file = saved(engine, tmp_path, None)
    engine.attach(file, scope=None, prefix_key=segment.prefix_key)
    engine.kv.tier.budget = segment.bytes // 2  # too small for the segment, which is then used without being kept whole
    for _ in range(2):
        assert engine.generate(ASKED, max_new_tokens=2).reused_tokens == segment.tokens
        assert engine.kv.stats()["bytes"] <= engine.kv.budget


def test_a_flipped_byte_or_a_truncation_is_a_counted_miss(engine: HFEngine, tmp_path: Path) -> None:
    """At some fifty places, with an answer each."""
    segment, file = saved(engine, tmp_path)
    expected = engine.generate(ASKED, scope="ana", max_new_tokens=4).token_ids
    data = file.read_bytes()
    for place in [0, 9, 40, 200, 900, *range(1500, len(data), max(len(data) // 40, 1)), len(data) - 1]:
        engine.close()
        before = engine.kv.stats()["misses"]
        file.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        reason = engine.attach(file, scope="ana", prefix_key=segment.prefix_key)
        reply = engine.generate(ASKED, scope="ana", max_new_tokens=4)
        assert reply.token_ids == expected
        assert reply.reused_tokens == 0, (place, reason)
        assert engine.kv.stats()["misses"] > before
    for length in (0, 7, 500, len(data) - 1):
        file.write_bytes(data[:length])
        assert "truncated" in str(engine.attach(file, scope="ana", prefix_key=segment.prefix_key))


def test_there_is_no_byte_whose_change_goes_unnoticed(engine: HFEngine, tmp_path: Path) -> None:
    segment = engine.prefill(chat("x", system="a")[:1], "ana")
    file = tmp_path / "segment.safetensors"
    data = engine.save(segment)
    file.write_bytes(data)
    chosen, unnoticed = random.Random(0), []

    def noticed() -> bool:
        engine.close()
        if engine.attach(file, scope="ana", prefix_key=segment.prefix_key) is not None:
            return True
        (source,) = {node.source for node in engine.kv._index.values()}
        assert source is not None
        layout = engine.reusable(engine.identity, 0)
        assert isinstance(layout, Layout)
        (group,) = layout.groups
        try:
            for layer, which in group.slots:
                source.copy_into(layer, which, 0, segment.tokens, torch.empty(group.heads, segment.tokens, group.dim))
        except Unreadable:
            return True
        return False

    assert not noticed()
    for place in range(len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ chosen.randint(1, 255)]) + data[place + 1 :])
        if not noticed():
            unnoticed.append(place)
    assert unnoticed == []


def test_a_file_that_vanishes_or_is_not_the_expected_one(engine: HFEngine, tmp_path: Path) -> None:
    segment, file = saved(engine, tmp_path, None)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert engine.attach(file, scope=None, prefix_key=segment.prefix_key) is None
    assert "checksum" in engine.generate(ASKED, max_new_tokens=1).reuse_reason
    assert all(node.source is None for node in engine.kv._index.values())  # a damaged file is not asked twice
    engine.close()
    engine.rates = Rates()
    assert engine.attach(file, scope=None, prefix_key=segment.prefix_key) is None
    assert engine.generate(ASKED, reuse=False, max_new_tokens=1).reused_tokens == 0
    file.unlink()
    assert "missing" in engine.generate(ASKED, max_new_tokens=1).reuse_reason
    assert "missing" in str(engine.attach(file, scope=None, prefix_key=segment.prefix_key))


def test_wrong_scope_key_or_model_is_a_reason_not_an_error(engine: HFEngine, tmp_path: Path) -> None:
    segment, file = saved(engine, tmp_path)
    assert "scope" in str(engine.attach(file, scope="ben", prefix_key=segment.prefix_key))
    assert "prefix" in str(engine.attach(file, scope="ana", prefix_key="0" * 64))
    other = HFEngine(tiny_model(seed=1), tiny_tokenizer())
    assert other.attach(file, scope="ana", prefix_key=segment.prefix_key) == "weights changed since the KV was made"
    assert other.kv.stats()["misses"] == 1
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"not a segment")
    assert "damaged" in str(engine.attach(nonsense, scope="ana", prefix_key=segment.prefix_key))


@pytest.mark.parametrize("scope", [None, "ana"])
def test_detach_drops_the_segment_and_what_continues_it(engine: HFEngine, tmp_path: Path, scope: Any) -> None:
    segment, file = saved(engine, tmp_path, scope)
    engine.attach(file, scope=scope, prefix_key=segment.prefix_key)
    engine.generate(ASKED, scope=scope)
    engine.generate(chat("Something else entirely", system=TEXT), scope=scope)
    engine.generate(ASKED, scope="ben")
    assert engine.detach(segment.prefix_key)
    assert engine.generate(ASKED, scope=scope, max_new_tokens=1).reused_tokens == 0
    assert engine.generate(ASKED, scope="ben", max_new_tokens=1).reused_tokens == (0 if scope is None else len(engine.tokens(ASKED)) - 1)
    assert not engine.detach(segment.prefix_key)


def test_detach_leaves_public_blocks_alone(engine: HFEngine) -> None:
    plan = SimpleNamespace(shared_system=TEXT)
    private = chat("x", system=TEXT + "Secret")[:1]
    segment = engine.prefill(private, "ana", plan=plan)
    assert 0 < segment.public_tokens < segment.tokens
    assert engine.detach(segment.prefix_key)
    assert engine.kv.stats()["tokens"] == segment.public_tokens
    assert engine.prefill(private, "ana", plan=plan) == segment


def test_stored_blocks_own_their_memory(engine: HFEngine) -> None:
    engine.generate(ASKED, max_new_tokens=4)
    tensors = [tensor for node in engine.kv._index.values() for tensor in node.payload or ()]
    assert tensors
    assert all(tensor.untyped_storage().nbytes() == tensor.nbytes for tensor in tensors)


def test_forget_scope(engine: HFEngine) -> None:
    for scope in ("ana", ("ana", "home"), None):
        engine.generate(ASKED, scope=scope, max_new_tokens=2)
    engine.forget_scope("ana")
    assert engine.generate(ASKED, scope="ana", max_new_tokens=1).reused_tokens == 0
    assert engine.generate(ASKED, scope=("ana", "home"), max_new_tokens=1).reused_tokens > 0
    assert engine.generate(ASKED, max_new_tokens=1).reused_tokens > 0
