"""Archives at the door: everything of a scope into one file, and from a file into a memory."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from memos_core.access import may_all, may_enter, require
from memos_core.archive import Progress, Reader, as_file, checked
from memos_core.bound import ActorLike, Bound, ScopeLike
from memos_core.carrying import Exported, export, take_in
from memos_core.changes import Imported
from memos_core.cube import as_scope, as_time


class Archiving(Bound):
    """Memory that can be carried elsewhere."""

    def export(
        self,
        file: str | Path,
        *,
        scope: ScopeLike | None = None,
        computed: bool = True,
        overwrite: bool = False,
        progress: Progress | None = None,
        actor: ActorLike = None,
    ) -> Exported:
        """Write everything of a scope and all below it into one archive: text, all versions with their hashes, lineage, governance, what contradicts
        what, the tree, usage, turns, the audit log, tombstones, and files. scope=None: of everything, which only the local owner may.

        The archive is a zip with a manifest that names every member and its sha256; it is in place when this returns, whole, or not at all. It
        holds content in the clear: keep it as you keep the directory, and know that `forget` does not reach it. computed=False leaves out KV,
        states and modules, which may be large and can be computed again. overwrite: replace a file of that name. progress: called as
        progress(what, done, total).

        Of what hangs together across scopes the part outside is left out: lineage, conflicts and grants that others hold. Raises InvalidInput,
        AccessDenied, StoreError, or VersionConflict when something was forgotten meanwhile.
        """
        place = None if scope is None else as_scope(scope)
        who = self._who(actor, place)
        target = f"scope {'/'.join(place)}" if place else "the whole memory"
        require(may_enter(who, place, "export it") if place else may_all(who), who, "read", target)
        return export(self._house, as_file(file), place, bool(computed), bool(overwrite), progress)

    @staticmethod
    def check_archive(file: str | Path, *, progress: Progress | None = None) -> Exported:
        """Whether an archive is whole and holds together, as `import_archive` checks it; what it holds. Nothing is written.

        Raises InvalidInput, SchemaTooNew or StoreCorrupt.
        """
        place = as_file(file)
        with Reader(place, progress) as reader:
            tables = checked(reader, progress).tables
            counts = {name: len(rows) for name, rows in tables.items()} | {"blobs": len(reader.blobs())}
        nameless = sum(row.identity is None for row in (*tables["cubes"], *tables["merged"]))
        return Exported(place, place.stat().st_size, counts, nameless)

    def import_archive(
        self, file: str | Path, *, progress: Progress | None = None, actor: ActorLike = None, now: datetime | None = None
    ) -> Imported:
        """Take in an archive, into this memory, whatever it holds already: what is new is added, what has gone on there goes on here, and
        importing it again changes nothing. One transaction. The actor must hold every scope that is in it.

        All of it is checked before anything is written: every member, chain, body and reference. What was forgotten here stays forgotten, with
        all that was made of it, and is reported; so is what both memories have changed, each in its own way: ours stands. Nothing is
        deleted. Vectors are taken from the archive when they come from the embedder in use, else computed anew. A scope that has no audit log
        here yet takes over that of the archive; where there is one, each version that comes gets an entry `import` in it.

        Raises InvalidInput for what is no archive, SchemaTooNew for one that a newer version wrote, StoreCorrupt for a damaged or changed one,
        AccessDenied or StoreError; then nothing was imported.
        """
        clock = as_time(now, "now")
        who = self._who(actor, None)
        with Reader(as_file(file), progress) as reader:
            contents = checked(reader, progress)
            for scope in contents.scopes:
                require(may_enter(who, scope), who, "write", f"scope {'/'.join(scope)}")
            return take_in(self._house, reader, contents, who, clock, progress)
