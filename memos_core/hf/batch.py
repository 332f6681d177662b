"""Several requests answered together: each prompt starts from its own reused prefix, then all rows decode in one call per step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from memos_core.hf.cache import PrivateCache, accepts
from memos_core.hf.decode import running
from memos_core.hf.lowrank import Acting, LowRank, adapted
from memos_core.hf.module import Module
from memos_core.hf.prefix import Prompt
from memos_core.hf.reply import Reply, TextSoFar
from memos_core.hf.request import Request
from memos_core.hf.steering import steered

if TYPE_CHECKING:
    from memos_core.hf.machine import Machine

Choose = Callable[[list[int], Tensor], int]


@dataclass(frozen=True)
class Question:
    """One prompt, how its next tokens are chosen, where its text is gathered, and how many tokens its answer may have."""

    prompt: Prompt
    choose: Choose
    text: TextSoFar
    room: int


class Row:
    """One question under way."""

    def __init__(self, request: Request, question: Question) -> None:
        self.request, self.choose, self.text, self.room = request, question.choose, question.text, question.room
        self.tokens = list(question.prompt.tokens)
        self.prompt = len(self.tokens)
        self.width = request.offset + self.prompt
        self.finish = ""
        self.first = self.seconds = 0.0

    def take(self, logits: Tensor, ends: frozenset[int], began: float) -> None:
        """Choose the next token from logits [vocabulary], unless the answer has ended."""
        if self.finish:
            return
        token = self.choose(self.tokens, logits)
        self.tokens.append(token)
        self.text.add(token)
        self.seconds = time.perf_counter() - began
        self.first = self.first or self.seconds
        if self.text.stopped or token in ends:
            self.finish = "stop"
        elif len(self.tokens) - self.prompt >= self.room:
            self.finish = "length"
        if self.finish:
            self.text.rest()

    def reply(self) -> Reply:
        new = tuple(self.tokens[self.prompt :])
        request = self.request
        return Reply(
            self.text.emitted, new, self.prompt, request.reused, self.first, request.exact, self.finish, self.seconds, request.reason
        )


def answer(engine: Machine, questions: Sequence[Question], reuse: bool, ends: frozenset[int], began: float) -> list[Reply]:
    """Answer all questions. What one prompt begins with, and another too, is computed once."""
    batch: PrivateCache | None = None
    rows: list[Row] = []
    firsts = []
    try:
        for question in questions:
            rows.append(Row(Request(engine, question.prompt, 0, reuse), question))
            firsts.append(rows[-1].request.start()[-1])
            rows[-1].request.keep(rows[-1].tokens)
        longest = max(row.width for row in rows)
        with engine.lock:
            batch = PrivateCache(rows[0].request.layout(), longest + max(row.room for row in rows), engine.workspace, len(rows))
        for place, row in enumerate(rows):
            row.request.hand_over(batch, place, longest - row.width)
        batch.rewind(longest)
        for row, logits in zip(rows, firsts, strict=True):
            row.take(logits, ends, began)
        while not all(row.finish for row in rows):
            logits = _step(engine, batch, rows)
            for place, row in enumerate(rows):
                row.take(logits[place], ends, began)
        return [row.reply() for row in rows]
    finally:
        for row in rows:
            row.request.close(row.tokens)
        if batch is not None:
            with engine.lock:
                batch.close()


def _step(engine: Machine, batch: PrivateCache, rows: Sequence[Row]) -> Tensor:
    """Read each row's last token; logits [rows, vocabulary], float32. A row that has ended reads on, and nobody looks."""
    total = batch.length + 1
    device = engine.model.get_input_embeddings().weight.device
    mask = torch.ones((len(rows), total), dtype=torch.long, device=device)
    longest = max(row.width for row in rows)
    for place, row in enumerate(rows):
        mask[place, : longest - row.width] = 0
    inputs = {"input_ids": torch.tensor([[row.tokens[-1]] for row in rows], device=device), "attention_mask": mask}
    if accepts(engine.model, "position_ids"):
        inputs["position_ids"] = mask.sum(dim=1, keepdim=True) - 1
    acting = _acting([row.request.modules for row in rows])
    with engine.lock, running(engine.model), steered(engine.model, rows[0].request.steering), adapted(engine.model, acting):
        output = engine.model(**inputs, past_key_values=batch.cache, use_cache=True)
    return output.logits[:, -1].float()  # type: ignore[no-any-return]


def _acting(modules: Sequence[Sequence[Module]]) -> list[Acting]:
    """Low-rank modules on the rows that they act on."""
    rows: dict[str, tuple[LowRank, list[int]]] = {}
    for place, several in enumerate(modules):
        for module in several:
            if isinstance(module.weights, LowRank):
                rows.setdefault(module.key, (module.weights, []))[1].append(place)
    return [Acting(weights, 0, None if len(places) == len(modules) else tuple(places)) for weights, places in rows.values()]
