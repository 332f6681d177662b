"""Erasing, wherever content has got to: the store, the index, the embedder's cache, KV on disk and in the engine."""

from __future__ import annotations

from collections.abc import Sequence

from memos_core.changes import Change, Erase
from memos_core.cube import CubeId
from memos_core.house import House


def forget(house: House, erase: Erase, also: Sequence[Change] = ()) -> tuple[CubeId, ...]:
    """Erase for good; the ids that are gone. also: what is committed together with it. Raises NotFound, VersionConflict or StoreError; then
    nothing was erased."""
    outcome = house.store.commit([erase, *also])[0]
    if house.reuses:
        for key in filter(None, outcome.prefix_keys):
            house.engine.detach(key)
        for scope in outcome.scopes_touched:  # prompts of these scopes may have held the text
            house.engine.forget_scope(scope)
    house.embedder.clear()
    for path in (house.store.path / "unfinished").glob("*"):  # weights on their way from texts that may be gone now
        path.unlink(missing_ok=True)
    with house.view():  # the index lets go of the vectors
        pass
    house.store.settle()
    return outcome.erased
