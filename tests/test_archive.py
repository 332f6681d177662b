"""Archives: what is in one, what is refused, who may, and what is reported."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NOW, bag_of_words

from memos_core import AccessDenied, Entry, InvalidInput, MemOS, NotFound, SchemaTooNew, StoreCorrupt, StoreUnusable
from memos_core.archive import Reader, checked
from memos_core.archive.shapes import COLUMNS
from memos_core.changes import Add
from memos_core.cube import LOCAL_OWNER, Activation, ActivationForm
from memos_core.transform import activation_cube
from tests.laws.test_carry import state

ANA, BEN = ("clinic", "ana"), ("clinic", "ben")
FACT = "Ana is allergic to penicillin."
PIXEL = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


def opened(path: Path, embedder: Any = bag_of_words) -> MemOS:
    return MemOS.open(path, embedder=embedder)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[MemOS]:
    """A memory with a bit of everything: an image, a merge, a conflict, KV, a turn, and something forgotten."""
    memos = opened(tmp_path / "full")
    facts = memos.remember([FACT, "Ana tolerates penicillin.", "Tea without sugar, please.", "To be forgotten."], scope=ANA, now=NOW)
    memos.remember([{"role": "user", "content": "Look at this cat.", "images": [PIXEL], "id": "m1"}], scope=ANA, session="s", now=NOW)
    for source in ("m2", "m3"):
        memos.remember([{"role": "user", "content": "The bus leaves at nine.", "id": source}], scope=ANA, session="s", now=NOW)
    memos.update(facts[2].id, text="Tea with sugar, please.", priority=0.5, read=[BEN], now=NOW)
    memos.begin([{"role": "user", "content": "Penicillin?"}], scope=ANA, session="s", now=NOW).commit("No.", now=NOW)
    payload = Activation(form=ActivationForm.KV, blob=memos._store.blobs.put(b"keys"), prefix_key="p", tokens=1, bytes=4, model="m")
    memos._store.commit([Add(activation_cube(payload, ANA, NOW), LOCAL_OWNER, parents=((facts[0].id, 1),), relation="prefilled from")])
    memos.remember("Ben plays chess.", scope=BEN, now=NOW)
    memos.forget(facts[3].id, now=NOW)
    yield memos
    memos.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[MemOS]:
    with opened(tmp_path / "target") as memos:
        yield memos


# ---------------------------------------------------------------------- what is in one


def test_entries_are_carried_with_their_keys_and_a_taken_key_stays(target: MemOS, tmp_path: Path) -> None:
    kept = [Entry("diet", "No milk.", {"since": 2020}), Entry("pin", "by its key alone", [1, None], searched=False)]
    with opened(tmp_path / "entries") as memos:
        memos.write_entries(kept, scope=ANA, now=NOW)
        memos.export(tmp_path / "entries.zip")
    target.write_entries([Entry("diet", "No nuts.")], scope=ANA, now=NOW)
    came = target.import_archive(tmp_path / "entries.zip")
    assert (len(came.added), len(came.differing)) == (1, 1) and target.verify().ok
    diet, pin = (target.entry(key, scope=ANA) for key in ("diet", "pin"))
    assert diet is not None and diet.payload.text == "No nuts."
    assert pin is not None and json.loads(pin.payload.record or "") == [1, None]
    assert [hit.cube.id for hit in target.entries(ANA, query="milk")] == [diet.id, pin.id]
    assert pin.id not in [hit.cube.id for hit in target.recall("by its key alone", scope=ANA).hits]


def test_an_archive_holds_everything_and_says_what(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    told = full.export(tmp_path / "all.zip")
    assert told.file == tmp_path / "all.zip" and told.bytes == told.file.stat().st_size and told.unrecognised == 0
    assert told.counts["cubes"] == full.stats()["counts"]["cubes"] and told.counts["blobs"] == 2 and told.counts["merged"] == 1
    with zipfile.ZipFile(told.file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert set(archive.namelist()) == {"manifest.json", *manifest["members"]}
        assert {f"tables/{name}.jsonl" for name in COLUMNS} <= set(manifest["members"])
        for name, says in manifest["members"].items():
            assert says == {"bytes": len(archive.read(name)), "sha256": sha256(archive.read(name)).hexdigest()}
        assert full._store.secret.hex() not in "".join(archive.read(name).hex() for name in archive.namelist())
        assert b"To be forgotten" not in b"".join(archive.read(name) for name in archive.namelist())
    came = target.import_archive(told.file)
    assert len(came.added) == told.counts["cubes"] and target.verify().ok
    (image,) = [hit.cube for hit in target.recall("cat", scope=ANA).hits if hit.cube.payload.parts]
    assert [part for part in target.content(image.id) if part["type"] != "text"]
    assert target.recall("tea", scope=ANA, actor=BEN).hits[0].text == "Tea with sugar, please."
    assert [entry.detail for entry in target.audit(ANA) if entry.action == "import"] == ["8 cubes, with the log up to here"]


def test_what_was_told_before_is_known_after(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    """Another directory has another key; messages with an id, merged ones, and turns are known again all the same."""
    target.import_archive(full.export(tmp_path / "all.zip").file)
    before = target.stats()["counts"]
    told = [{"content": "The bus leaves at nine.", "id": "m3"}, {"content": "Look at this cat.", "images": [PIXEL], "id": "m1"}]
    for message in [{"role": "user", **each} for each in told]:
        (done,) = target.remember([message], scope=ANA, session="s", now=NOW)
        assert done.outcome == "merged"
    target.begin([{"role": "user", "content": "Penicillin?"}], scope=ANA, session="s", now=NOW).commit("No.", now=NOW)
    assert target.stats()["counts"] == before


def test_what_was_read_out_of_messages_is_known_after(tmp_path: Path) -> None:
    """Facts that a model read out of a message, passages of a document, proposals of the scheduler: none of them comes twice."""

    def model(asked: str) -> str:
        return json.dumps({"facts": [{"text": "Ana moved to Oslo.", "sources": ["1"], "type": "event"}]})

    def live(memos: MemOS) -> None:
        said = {"role": "user", "content": "Hi! I moved to Oslo. Can you help me find a flat?", "id": "m7"}
        memos.remember([said], scope=ANA, session="s", now=NOW)
        memos.remember_document("Loosen the bow. Wipe the strings.", name="cello.md", scope=ANA, path="music/cello", now=NOW)
        for session in range(4):
            for name in ("Ben", "Eva", "Tom"):
                wish = f"Please write a short and friendly birthday card for my friend {name}."
                memos.remember([{"role": "user", "content": wish}], scope=ANA, session=f"s{session} {name}", now=NOW)
        memos.tick(NOW)

    with (
        MemOS.open(tmp_path / "a", embedder=bag_of_words, model=model) as a,
        MemOS.open(tmp_path / "b", embedder=bag_of_words, model=model) as b,
    ):
        live(a)
        assert any(hit.text == "Ana moved to Oslo." for hit in a.recall("Oslo", scope=ANA).hits) and a.proposals(scope=ANA)
        told = a.export(tmp_path / "all.zip")
        came, before = b.import_archive(told.file), b.stats()["counts"]["cubes"]
        assert told.unrecognised == 0 and not came.unrecognised
        live(b)
        assert b.stats()["counts"]["cubes"] == before and b.verify().ok


def test_without_what_was_computed(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    told = full.export(tmp_path / "text.zip", computed=False)
    target.import_archive(told.file)
    assert target.stats()["counts"]["activation"] == 0 and full.stats()["counts"]["activation"] == 1
    assert told.counts["blobs"] == 1 and target.verify().ok


def test_what_was_computed_does_not_come_without_its_source(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    file = full.export(tmp_path / "all.zip").file
    target.import_archive(file)
    with target._store.read() as view:
        (kv,) = view.derived(NOW)
    source = next(iter(target.lineage(kv.id).predecessors(kv.id)))
    assert set(target.forget(source)) == {source, kv.id}
    came = target.import_archive(file)
    assert set(came.forgotten) == {source, kv.id} and not came.changed
    assert not [path for path in target.path.rglob("*") if path.is_file() and b"keys" in path.read_bytes()[:4]]
    with pytest.raises(NotFound, match="forgotten"):
        target.get(source)


def test_what_was_imported_is_forgotten_to_the_last_byte(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    marker = "Zanthoxylumquark"
    (done,) = full.remember([{"role": "user", "content": f"The password is {marker}.", "id": "p"}], scope=ANA, session="s", now=NOW)
    full.update(done.id, text=f"The password was {marker}.", now=NOW)
    target.import_archive(full.export(tmp_path / "all.zip").file)
    assert marker in target.recall("password", scope=ANA).hits[0].text
    target.forget(done.id)
    for file in target.path.rglob("*"):
        assert not file.is_file() or marker.lower()[:12].encode() not in file.read_bytes().lower(), file


def test_a_tombstone_travels(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    """What was forgotten after an archive was written does not come from it into a copy of the later memory."""
    older = full.export(tmp_path / "older.zip").file
    (hit, *_) = full.recall("tea", scope=ANA).hits
    full.forget(hit.cube.id)
    target.import_archive(full.export(tmp_path / "newer.zip").file)
    came = target.import_archive(older)
    assert came.forgotten == (hit.cube.id,) and not came.changed
    assert [entry.action for entry in target.audit(id=hit.cube.id)] == ["add", "update", "forget"]


def test_what_is_still_here_is_not_deleted_by_an_archive(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    target.import_archive(full.export(tmp_path / "older.zip").file)
    (hit, *_) = full.recall("tea", scope=ANA).hits
    full.forget(hit.cube.id)
    came = target.import_archive(full.export(tmp_path / "newer.zip").file)
    assert came.forgotten_there == (hit.cube.id,) and target.get(hit.cube.id).payload == hit.cube.payload


def test_both_changed_it(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    target.import_archive(full.export(tmp_path / "one.zip").file)
    (hit, *_) = full.recall("tea", scope=ANA).hits
    full.update(hit.cube.id, text="Tea at five.")
    target.update(hit.cube.id, text="Tea at six.")
    came = target.import_archive(full.export(tmp_path / "two.zip").file)
    assert came.differing == (hit.cube.id,) and target.get(hit.cube.id).payload.text == "Tea at six."


def test_the_same_message_told_to_both(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    (ours,) = target.remember([{"role": "user", "content": "Look at this cat.", "images": [PIXEL], "id": "m1"}], scope=ANA, session="s")
    came = target.import_archive(full.export(tmp_path / "all.zip").file)
    assert [mine for _, mine in came.same] == [ours.id] and target.verify().ok
    assert [hit.text for hit in target.recall("cat", scope=ANA).hits].count("Look at this cat. [image]") <= 1
    assert len(target.conversation(scope=ANA, session="s")) == len(full.conversation(scope=ANA, session="s"))
    assert {entry.action for entry in target.audit(ANA)} == {"add", "import"}  # its own log stays


def test_another_embedder(full: MemOS, tmp_path: Path) -> None:
    def letters(texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) + 0.01 for letter in "abcdefghij"] for text in texts])

    file = full.export(tmp_path / "all.zip").file
    with opened(tmp_path / "b", letters) as b:
        came = b.import_archive(file)
        assert came.embedded and len(came.added) == full.stats()["counts"]["cubes"] and b.verify().ok
        assert "enicillin" in b.recall("penicillin", scope=ANA).hits[0].text
        assert not b.import_archive(file).embedded


def test_into_a_directory_that_is_made_for_it(full: MemOS, tmp_path: Path) -> None:
    file = full.export(tmp_path / "all.zip").file
    with MemOS.import_(file, tmp_path / "new", embedder=bag_of_words) as memos:
        assert memos.stats()["counts"]["cubes"] == full.stats()["counts"]["cubes"]


def test_an_empty_memory(target: MemOS, tmp_path: Path) -> None:
    with opened(tmp_path / "empty") as empty:
        file = empty.export(tmp_path / "empty.zip").file
        assert not target.import_archive(file).changed and target.stats()["counts"]["cubes"] == 0
        target.remember(FACT, scope=ANA)
        assert not target.import_archive(file).changed and empty.import_archive(target.export(tmp_path / "x.zip").file).changed


def test_an_import_that_fails_in_between_leaves_nothing(
    full: MemOS, target: MemOS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.remember("Something else.", scope=ANA)
    file, before = full.export(tmp_path / "all.zip").file, state(target.path)

    def fail(*_: Any) -> None:
        raise StoreUnusable("no more")

    with monkeypatch.context() as context:
        context.setattr("memos_core.store.agenda.demand", fail)  # the last statement of it
        with pytest.raises(StoreUnusable, match="no more"):
            target.import_archive(file)
    assert state(target.path) == before and target.verify().ok
    assert target.import_archive(file).changed and target.verify().ok


def test_what_is_checked_is_not_written(full: MemOS, tmp_path: Path) -> None:
    told = full.export(tmp_path / "all.zip")
    assert MemOS.check_archive(told.file).counts == told.counts
    told.file.write_bytes(told.file.read_bytes()[:-30])
    with pytest.raises(StoreCorrupt, match="nothing was imported"):
        MemOS.import_(told.file, tmp_path / "made", embedder=bag_of_words)
    assert not (tmp_path / "made").exists()


def test_progress_is_told(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    file = full.export(tmp_path / "all.zip", progress=lambda *each: told.append(each)).file
    target.import_archive(file, progress=lambda *each: told.append(each))
    assert {what for what, _, _ in told} == {"memories", "files", "checking", "reading"}
    assert all(0 < done <= total for _, done, total in told)


# ---------------------------------------------------------------------- who may


def test_only_who_holds_the_scope_may(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    for scope, actor in ((ANA, BEN), (("clinic",), ANA), (None, ANA)):
        with pytest.raises(AccessDenied, match=r"clinic/(ana|ben) may not read"):
            full.export(tmp_path / "no.zip", scope=scope, actor=actor)
        with pytest.raises(AccessDenied, match="may not read"):
            full.as_actor(actor).export(tmp_path / "no.zip", scope=scope)
    assert not list(tmp_path.glob("*no.zip*"))
    file = full.export(tmp_path / "ana.zip", scope=ANA, actor=("clinic",)).file
    before = state(target.path)
    with pytest.raises(AccessDenied, match="clinic/ben may not write scope clinic/ana"):
        target.import_archive(file, actor=BEN)
    assert state(target.path) == before
    assert target.import_archive(file, actor=ANA).added
    assert all("chess" not in hit.text for hit in target.recall("chess", scope=("clinic",)).hits)


# ---------------------------------------------------------------------- what is refused


def rewritten(file: Path, change: Callable[[dict[str, bytes]], None], seal: bool = True) -> Path:
    """An archive with other members; seal: with a manifest that fits them."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    if seal:
        manifest = json.loads(members["manifest.json"])
        manifest["members"] = {
            name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in members.items() if name != "manifest.json"
        }
        manifest["counts"] = {name: members[f"tables/{name}.jsonl"].count(b"\n") for name in COLUMNS}
        members["manifest.json"] = json.dumps(manifest).encode()
    made = file.with_name("changed.zip")
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return made


def edit(table: str, old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        name = f"tables/{table}.jsonl"
        assert old.encode() in members[name], (table, old)
        members[name] = members[name].replace(old.encode(), new.encode(), 1)

    return change


def without(table: str) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        members[f"tables/{table}.jsonl"] = members[f"tables/{table}.jsonl"].split(b"\n", 1)[1]

    return change


def put(name: str, data: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({name: data})


def manifest(**facts: Any) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({"manifest.json": json.dumps(json.loads(members["manifest.json"]) | facts).encode()})


FORGED = {
    "a body": (edit("versions", "penicillin", "cyanide"), "not what its chain commits to"),
    "a version's actor": (edit("versions", "clinic/ana", "clinic/eve"), "does not follow"),
    "a version that is missing": (without("versions"), "does not follow|not one row each"),
    "an audit entry": (edit("audit", '"add"', '"update"'), "audit log does not follow"),
    "an audit entry that is missing": (without("audit"), "audit log does not follow"),
    "a cube that is missing": (without("cubes"), "not those of its memories"),
    "a merged message": (edit("merged", r"text\":\"The bus leaves", r"text\":\"The bus arrives"), "not what its chain commits to"),
    "a scope": (edit("cubes", '"ana"', '"eve"'), "another cube, version or scope"),
    "a column of another type": (edit("usage", '",["clinic"', '",[7,"clinic"'), "its scope is not what belongs there"),
    "not a number": (edit("turns", "1780315200.0", "NaN"), "is not JSON"),
    "no JSON": (edit("turns", "[", "{"), "is not JSON"),
    "a column too few": (edit("lineage", "[", "[[],"), "does not have the 4 columns"),
    "lineage to elsewhere": (put("tables/lineage.jsonl", b'["a","b","from",1]\n'), "refers to cube a, which is not in it"),
    "vectors too short": (put("vectors.f32", b"\0" * 64 * 4), "not those of its memories"),
    "vectors of another size": (put("vectors.f32", b"\0" * 7), "not of the size"),
    "a blob too many": (put(f"blobs/{sha256(b'x').hexdigest()}", b"x"), "not those that its memories refer to"),
    "a blob under a wrong name": (put("blobs/" + "0" * 64, b"x"), "sha256 that it is named by"),
    "a path out of it": (put("../../evil", b"x"), "which no archive has"),
    "an absolute path": (put("/etc/evil", b"x"), "which no archive has"),
    "a path inside blobs": (put("blobs/../memos.db", b"x"), "which no archive has"),
    "another scope than it says": (manifest(scope=["elsewhere"]), "outside the scope"),
    "no scope": (manifest(scope=[""]), "names no scope"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_changed_archive_is_refused_even_when_its_sums_fit(full: MemOS, target: MemOS, tmp_path: Path, name: str) -> None:
    change, advice = FORGED[name]
    target.remember("Something else.", scope=BEN)
    file, before = rewritten(full.export(tmp_path / "all.zip").file, change), state(target.path)
    with pytest.raises(StoreCorrupt, match=f"({advice}).*nothing was imported") as caught:
        target.import_archive(file)
    assert "enicillin" not in str(caught.value) and str(file) in str(caught.value)
    assert state(target.path) == before and not list((target.path / "blobs").iterdir())


def test_a_bomb_is_refused(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    file = full.export(tmp_path / "all.zip").file
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in archive.namelist():
            bomb.writestr(name, archive.read(name))
    with pytest.raises(StoreCorrupt, match="is compressed, which only tables are"):
        target.import_archive(tmp_path / "bomb.zip")


@pytest.mark.parametrize(
    "change", [edit("versions", "penicillin", "cyanide"), put("vectors.f32", b""), lambda members: members.pop("tables/turns.jsonl")]
)
def test_a_member_that_is_not_what_the_manifest_says(full: MemOS, target: MemOS, tmp_path: Path, change: Any) -> None:
    file = rewritten(full.export(tmp_path / "all.zip").file, change, seal=False)
    with pytest.raises(StoreCorrupt, match=r"manifest (says|names)"):
        target.import_archive(file)


def test_no_flipped_bit_and_no_cut_end_is_believed(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    def contents(file: Path) -> tuple[Any, ...]:
        with Reader(file) as reader:
            found = checked(reader)
            return found.tables, found.vectors.tobytes(), [reader.blob(blob) for blob in sorted(reader.blobs())]

    file, made, draw, refused = full.export(tmp_path / "all.zip").file, tmp_path / "damaged.zip", random.Random(7), 0
    data, wanted = file.read_bytes(), contents(file)
    flips = [*draw.sample(range(len(data)), 80), *range(len(data) - 60, len(data))]
    for place in flips:
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        made.write_bytes(damaged)
        try:  # a bit that means nothing, such as of a date: then all of it is there, and whole
            assert contents(made) == wanted, place
        except (StoreCorrupt, InvalidInput, SchemaTooNew):
            refused += 1
    assert refused > len(flips) // 2
    for length in (0, 10, len(data) // 2, len(data) - 1):
        made.write_bytes(data[:length])
        with pytest.raises((StoreCorrupt, InvalidInput), match=r"nothing was imported|no memos archive"):
            target.import_archive(made)


NEWER = {"format": manifest(format_version=2), "schema": manifest(schema=1000)}


@pytest.mark.parametrize("name", NEWER)
def test_what_a_newer_version_wrote_is_refused(full: MemOS, target: MemOS, tmp_path: Path, name: str) -> None:
    with pytest.raises(SchemaTooNew, match=rf"{name} .* this version knows up to .*Upgrade memos-integrations to import it"):
        target.import_archive(rewritten(full.export(tmp_path / "all.zip").file, NEWER[name]))


def test_files_that_are_no_archives(full: MemOS, target: MemOS, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("hello.txt", "hello")
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as other:
        other.writestr("manifest.json", '{"format": "something else"}')
    for name, advice in {
        "text.txt": "no zip file", "other.zip": "has no manifest", "odd.zip": "something else", "nothing.zip": "there is no file", ".": "no file"
    }.items():  # fmt: skip
        with pytest.raises((StoreCorrupt, InvalidInput), match=advice):
            target.import_archive(tmp_path / name)
    for file in (None, 5, "", "a\0b"):
        with pytest.raises(InvalidInput, match="file must be the name of a file"):
            target.import_archive(file)


def test_files_that_cannot_be_written(full: MemOS, tmp_path: Path) -> None:
    file = full.export(tmp_path / "all.zip").file
    data = file.read_bytes()
    with pytest.raises(InvalidInput, match="is there already; pass another name, or overwrite=True"):
        full.export(file)
    assert file.read_bytes() == data
    with pytest.raises(InvalidInput, match="is a directory"):
        full.export(tmp_path)
    with pytest.raises(StoreUnusable, match="could not be read or written"):
        full.export(tmp_path / "nowhere" / "all.zip")
    next((full.path / "blobs").iterdir()).unlink()
    with pytest.raises(StoreCorrupt, match="missing"):
        full.export(file, overwrite=True)
    assert file.read_bytes() == data and not list(tmp_path.glob(".*"))
