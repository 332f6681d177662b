"""Facts that a model reads out of messages while they are written: kept beside the verbatim text, citing it. Never instead of it."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from memos_core.changes import Add
from memos_core.cube import Origin, Plaintext, new_id, text_of, with_fingerprint
from memos_core.duplicate.fingerprint import respelled
from memos_core.house import House
from memos_core.matching import filed, stated
from memos_core.parse.extract import Fact, Said, extract
from memos_core.recall.features import prose

EXTRACTED = "extracted from"
_LOG = logging.getLogger("memos_core")


def gleaned(house: House, adds: Sequence[Add], clock: datetime) -> list[Add]:
    """What the model finds in new messages, each derived from the message that it cites first. Nothing without a model.

    What the model answers is checked; an answer that is no use, or a model that fails, is logged, and the messages are kept as they are.
    """
    fresh = {add.cube.id: add for add in adds if add.searchable is not None and add.into is None}
    if house.model is None or not fresh:
        return []
    said = [Said(id, text_of(add.cube), add.cube.identifiers.speaker, add.cube.identifiers.occurred_at) for id, add in fresh.items()]
    found = extract(said, house.model)
    for problem in found.problems:
        _LOG.warning("the model's facts could not be used: %s", problem)
    facts = [
        fact
        for fact in found.facts
        if found.by == "model" and fact.sources[0] in fresh and fact.text != text_of(fresh[fact.sources[0]].cube)
    ]
    if not facts:
        return []
    vectors = house.embedder([prose(fact.text) for fact in facts])
    return [_add(house, fresh, fact, vector, clock) for fact, vector in zip(facts, vectors, strict=True)]


def _add(house: House, fresh: dict[str, Add], fact: Fact, vector: np.ndarray, clock: datetime) -> Add:
    """A fact as it is committed: of the message's scope, time and terms, under the path that the model gave."""
    first = fresh[fact.sources[0]]
    sources = tuple(dict.fromkeys(source for id in fact.sources if id in fresh for source in fresh[id].cube.identifiers.sources))
    identifiers = first.cube.identifiers.model_copy(
        update={"origin": Origin.INFERENCE_EXTRACTION, "semantic_type": fact.semantic_type, "sources": sources, "role": None}
    )
    cube = first.cube.model_copy(update={"id": new_id(), "payload": Plaintext(text=fact.text), "identifiers": identifiers})
    digest = hmac.digest(house.store.secret, (first.identity or first.cube.id.encode()) + fact.text.encode(), "sha256")
    cube = with_fingerprint(cube, respelled(identifiers.fingerprint, vector))
    searchable = filed(house.store.secret, cube, vector, stated(cube))
    parents = tuple((id, 1) for id in fact.sources if id in fresh)
    return replace(first, cube=cube, searchable=searchable, identity=digest, parents=parents, relation=EXTRACTED, relations=(), into=None)
