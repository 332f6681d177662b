"""Distilling: from lessons to the weights of a module. The model itself is only read.

Each lesson is a conversation with a reply. A taught reply is learned by its labels; along a kept one the module is pulled towards what the
model says without it (Kullback-Leibler divergence), so that it changes little but what it is taught. Under an activated LoRA nothing
before the reply's turn depends on what is trained, so that the base's KV of it is computed once. Gradients are taken of the module's
weights alone, and the lock is held for one step at a time, so that requests go on.

Source: LoRA (Hu et al. 2021), activated LoRA (Greenewald et al. 2025), Cartridges (Eyuboglu et al. 2025: a prefix started from the KV of
the texts); learning without forgetting (Li and Hoiem 2016) for the pull.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from memos_core.cube import ParameterForm
from memos_core.errors import Cancelled, EngineError, InvalidInput
from memos_core.hf.cache import Layout
from memos_core.hf.decode import end_tokens, running
from memos_core.hf.lowrank import adapted
from memos_core.hf.module import Module
from memos_core.hf.prompt import Message, shared
from memos_core.hf.reply import Reply
from memos_core.hf.reposition import Repositioning
from memos_core.hf.signals import readable
from memos_core.hf.training import (
    Row,
    Settings,
    Weights,
    apply,
    drawn,
    handed_out,
    joined,
    quick,
    share,
    strayed,
    take_in,
    weighted,
)
from memos_core.lessons import Lesson
from memos_core.parse import as_member

AT_ONCE = 12  # rows read in one call beforehand
KEPT = 16  # tokens of a kept reply along which the module is pulled
KEPT_TEXT = 32  # the same of a plain text
STRESS = 3.0  # how much more a token of the answer counts, and the first of a reply, with which the model begins to answer or to refuse


@dataclass(frozen=True)
class Distilled:
    """A module, the steps it took, and the CPU seconds."""

    module: Module
    steps: int
    seconds: float


class Distilling(Repositioning):
    """Making modules."""

    if TYPE_CHECKING:  # of the engine that this is a part of

        def generate_batch(self, conversations: Sequence[Sequence[Message]], *, max_new_tokens: int = 64) -> list[Reply]: ...

    def distil(
        self,
        lessons: Sequence[Lesson],
        watched: Sequence[Lesson] = (),
        *,
        form: ParameterForm | str = ParameterForm.PREFIX,
        settings: Settings | None = None,
        seed: int = 0,
        start: str = "",
        texts: Sequence[str] = (),
        told: Callable[[int, float], bool | None] | None = None,
        kept_state: Callable[[Mapping[str, Tensor]], None] | None = None,
        state: Mapping[str, Tensor] | None = None,
    ) -> Distilled:
        """A module that replies as the lessons teach, and as the model does along those that are kept.

        watched: lessons that are not trained on; when all of them would be answered, training ends. start: of a prefix, the text whose KV
        it begins as. texts: plain ones, along which forms that act on every text are kept to what the model says. told: called with
        (step, loss) after each; what returns False cancels. kept_state, state: to stop and go on: tensors that are handed out at each
        check, and taken in at the beginning.

        Deterministic on one machine for a seed. Raises InvalidInput; EngineError for models whose KV cannot be kept; Cancelled.
        """
        if not any(lesson.kind == "teach" for lesson in lessons):
            raise InvalidInput("there is nothing to teach: distil needs lessons with replies")
        kind = as_member(ParameterForm, form, "form")
        chosen, began = settings or Settings.of(kind), time.process_time()
        with self.lock:
            layout = self.reusable(self.base_identity, 0)
        if not isinstance(layout, Layout):
            raise EngineError(f"modules cannot be distilled into this model: its KV cannot be kept: {layout.reason}")
        rows = [self._row(lesson) for lesson in lessons]
        if kind is not ParameterForm.ALORA:
            rows += [self._plain_row(text) for text in texts]
        weights = Weights(self.model, kind, chosen, seed, self._start(start) if kind is ParameterForm.PREFIX else None)
        self._prepare(rows, kind)
        seen = [self._row(lesson) for lesson in watched]
        self._prepare(seen, kind)
        steps = chosen.most(len({lesson.fact for lesson in lessons if lesson.kind == "teach"}))
        optimizer = torch.optim.AdamW(weights.parameters, lr=chosen.rate, weight_decay=0.0, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share(step, steps))
        taught = [row for row in rows if not row.keeps]
        kept = [[row for row in rows if row.keeps and row.like is like] for like in (True, False)]
        counts = (chosen.strangers, chosen.kept)
        draws = [drawn(taught, chosen.taught, seed), *(drawn(*each, seed + 1) for each in zip(kept, counts, strict=True) if each[0])]
        step, good, spent = 0, 0, 0.0
        if state is not None:
            step, good = take_in(state, weights, optimizer, schedule, draws)
            spent = float(state["seconds"])  # before it was broken off
        away_by_step: list[float] = []
        while step < steps and good < chosen.patience:
            loss, away = self._loss(next(draws[0]), [row for draw in draws[1:] for row in next(draw)], weights, chosen.pull)
            away_by_step.append(away)
            gradients = torch.autograd.grad(loss, weights.parameters)
            apply(weights.parameters, gradients, optimizer)
            schedule.step()
            step += 1
            if told is not None and told(step, float(loss.detach())) is False:
                raise Cancelled(f"distilling was cancelled after {step} steps; nothing was kept of it")
            if seen and step >= chosen.least and step % chosen.every == 0:
                calm = sum(away_by_step) <= chosen.settled * len(away_by_step)
                good = good + 1 if calm and self._answered(seen, weights) else 0
            if step % chosen.every == 0:
                away_by_step = []  # so that a training that goes on from here is the same
                if kept_state is not None:
                    seconds = torch.tensor(spent + time.process_time() - began, dtype=torch.float64)
                    kept_state(handed_out(step, good, weights, optimizer) | {"seconds": seconds})
        base = getattr(self.model.config, "_name_or_path", None) or None
        return Distilled(weights.done(layout, base, rows[0].invocation), step, spent + time.process_time() - began)

    def in_context(self, lessons: Sequence[Lesson], context: str, most: int = 24) -> list[Lesson]:
        """The same lessons with the model itself as their teacher: its greedy replies with a text as its system text."""
        found = []
        for start in range(0, len(lessons), AT_ONCE):
            several = lessons[start : start + AT_ONCE]
            asked = [[{"role": "system", "content": context}, *lesson.messages] for lesson in several]
            replies = self.generate_batch(asked, max_new_tokens=most)
            found += [
                replace(lesson, reply=reply.text, stress="", context=context)
                for lesson, reply in zip(several, replies, strict=True)
                if reply.text.strip()
            ]
        return found

    @staticmethod
    def state_bytes(state: Mapping[str, Tensor]) -> bytes:
        """What `kept_state` was handed, as a file."""
        return bytes(save(dict(state)))

    @staticmethod
    def state_of(path: Path) -> dict[str, Tensor] | None:
        """What was kept there; None where there is nothing, or nothing whole."""
        try:
            return dict(load(path.read_bytes()))
        except (OSError, SafetensorError):
            return None

    def _row(self, lesson: Lesson) -> Row:
        asked, whole = self.tokens(lesson.messages), self._renderer.with_reply(lesson.messages, lesson.reply)
        begins = shared(asked, whole)  # fewer than all of `asked` when a tokenizer merges across the boundary
        turn = min(shared(asked, self.tokens(lesson.messages, add_generation_prompt=False)), begins)
        ends = sorted(end_tokens(self.model, self.tokenizer))
        closing = getattr(self.tokenizer, "eos_token_id", None)
        end = [closing if closing in ends else ends[0]] if ends else []
        keeps = lesson.kind == "keep"
        reply = (whole[begins:] + end)[: KEPT if keeps else None]
        weights = torch.ones(len(reply))
        if lesson.stress and lesson.reply.endswith(lesson.stress):
            lead = self._renderer.with_reply(lesson.messages, lesson.reply.removesuffix(lesson.stress).rstrip())
            weights[shared(lead, whole) - begins : len(whole) - begins] = STRESS
        if not keeps:
            weights[0] = STRESS
        told = self.tokens([{"role": "system", "content": lesson.context}, *lesson.messages]) if lesson.context else None
        return Row(asked[:turn], asked[turn:begins], reply, keeps, weights, told, like=lesson.fact is not None)

    def _plain_row(self, text: str) -> Row:
        first, *rest = self._renderer.plain(text)
        return Row([], [first], rest[:KEPT_TEXT], True, torch.ones(len(rest[:KEPT_TEXT])))

    def _start(self, text: str) -> list[tuple[Tensor, Tensor]]:
        """KV of a text behind nothing: what a trained prefix begins as."""
        if not text.strip():
            raise InvalidInput("a trained prefix starts from the KV of a text: pass start=")
        past, _ = self._read_on(None, [self._renderer.stable_prefix([{"role": "system", "content": text}])], 1)
        return [(keys.clone(), values.clone()) for keys, values in past]

    def _prepare(self, rows: Sequence[Row], form: ParameterForm) -> None:
        """What does not depend on the weights in training, computed once: the base's KV before the turns, and what it says of the replies.

        What all rows begin with is read once.
        """
        for row in rows:
            if row.told is not None:
                _, logits = self._read_on(None, [[*row.told, *row.reply[:-1]]], len(row.reply))
                row.goal = logits[0].log_softmax(dim=-1).half()
        fixed = form is ParameterForm.ALORA
        turns = [row for row in rows if row.before]
        begins = min((shared(turns[0].before, row.before) for row in turns), default=0)
        for row in turns:
            row.common = 0 if fixed else begins
        wanted = [row for row in rows if (fixed and row.before) or row.keeps]
        if not wanted:
            return
        common = max(min(min(shared(wanted[0].before, row.before), len(row.before) - 1) for row in wanted), 0)  # each reads on by a token
        begun = self._read_on(None, [wanted[0].before[:common]], 1)[0] if common else None
        wanted.sort(key=lambda row: (row.keeps, len(row.before), len(row.reply)))
        for start in range(0, len(wanted), AT_ONCE):
            batch = wanted[start : start + AT_ONCE]
            rests = [row.before[common:] + (row.invocation + row.reply[:-1] if row.keeps else []) for row in batch]
            wide = max(map(len, rests))
            last = max(wide - len(rest) + len(row.reply) if row.keeps else 1 for row, rest in zip(batch, rests, strict=True))
            with nullcontext() if fixed else quick(self._device):  # KV that is read in requests is exact
                past, logits = self._read_on(begun, rests, last)
            for place, (row, rest) in enumerate(zip(batch, rests, strict=True)):
                if fixed:
                    own = slice(place, place + 1), slice(None), slice(0, len(row.before))
                    row.past = [(keys[own].clone(), values[own].clone()) for keys, values in past]
                if row.keeps:
                    end = last - wide + len(rest)
                    row.goal = logits[place, end - len(row.reply) : end].log_softmax(dim=-1).half()

    def _read_on(
        self, past: list[tuple[Tensor, Tensor]] | None, texts: Sequence[Sequence[int]], last: int
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
        """(KV by layer of all, logits [texts, last, vocabulary]) of the base, of several texts behind one past. Shorter ones are filled up
        behind their end, where nothing looks."""
        wide, behind = max(map(len, texts)), 0 if past is None else past[0][0].shape[2]
        cache = DynamicCache(config=self.model.config)
        for number, (keys, values) in enumerate(past or ()):
            cache.update(keys.expand(len(texts), -1, -1, -1), values.expand(len(texts), -1, -1, -1), number)
        ids = torch.tensor([[*text, *[0] * (wide - len(text))] for text in texts], device=self._device)
        mask = torch.tensor([[1] * (behind + len(text)) + [0] * (wide - len(text)) for text in texts], device=self._device)
        with self.lock, running(self.model):
            logits = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=last).logits
        return [(layer.keys, layer.values) for layer in cache.layers], logits.float()

    def _replies(self, rows: Sequence[Row], weights: Weights) -> list[Tensor]:
        """Logits [reply, vocabulary] behind which each token of the replies stands. Call it under the lock."""
        found: dict[int, Tensor] = {}
        for common in {row.common for row in rows}:
            places = [place for place, row in enumerate(rows) if row.common == common]
            found |= zip(places, self._alike(common, [rows[place] for place in places], weights), strict=True)
        return [found[place] for place in range(len(rows))]

    def _alike(self, common: int, rows: Sequence[Row], weights: Weights) -> list[Tensor]:
        """The same for rows that begin with the same tokens: in one call, or one by one where the model cannot keep them apart."""
        with adapted(self.model, weights.acting()):
            begun = None if rows[0].past is not None else self._begun(rows[0].before[:common], weights)
            if self._keeps_apart():
                return self._side_by_side(rows, begun, common)
            return [logits for row in rows for logits in self._side_by_side([row], begun, common)]

    def _side_by_side(self, rows: Sequence[Row], begun: list[tuple[Tensor, Tensor]] | None, common: int) -> list[Tensor]:
        """The same for rows whose tokens stand one behind the other, each seeing its own alone. begun: KV that all of them stand behind."""
        past = joined([row.past for row in rows if row.past is not None]) if begun is None else begun
        texts = [([] if begun is None else row.before[common:]) + row.invocation + row.reply[:-1] for row in rows]
        behind, total = past[0][0].shape[2] if past else 0, sum(map(len, texts))
        sees = torch.zeros((total, behind + total), dtype=torch.bool)
        positions: list[int] = []
        wanted: list[int] = []
        from_past = at = 0
        for row, text in zip(rows, texts, strict=True):
            end, start = at + len(text), len(row.before) if begun is None else behind
            sees[at:end, from_past : from_past + start] = True
            sees[at:end, behind + at : behind + end] = torch.ones((len(text), len(text)), dtype=torch.bool).tril()
            positions += range(start, start + len(text))
            wanted += range(end - len(row.reply), end)
            at, from_past = end, from_past + start if begun is None else 0
        mask = sees[None, None] if len(rows) > 1 else torch.ones((1, behind + total), dtype=torch.long)
        with quick(self._device):
            logits = self.model(
                input_ids=torch.tensor([[token for text in texts for token in text]], device=self._device),
                attention_mask=mask.to(self._device),
                position_ids=torch.tensor([positions], device=self._device),
                past_key_values=self._cache(past),
                use_cache=bool(past),
                logits_to_keep=torch.tensor(wanted, device=self._device),
            ).logits[0]
        return list(logits.split([len(row.reply) for row in rows]))

    def _keeps_apart(self) -> bool:
        """Whether the model attends by a mask of who sees whom as it is given, in all of its layers."""
        config = self.model.config.get_text_config(decoder=True)
        whole = not any(isinstance(layer, DynamicSlidingWindowLayer) for layer in DynamicCache(config=config).layers)
        return whole and readable(self.model) and not getattr(config, "alibi", False)

    def _begun(self, common: Sequence[int], weights: Weights) -> list[tuple[Tensor, Tensor]]:
        """KV of the prefix in training and of the tokens that all begin with, learned through."""
        past = weights.prefix()
        if common:
            cache = self._cache(past) or DynamicCache(config=self.model.config)
            with quick(self._device):
                self.model(input_ids=torch.tensor([list(common)], device=self._device), past_key_values=cache, logits_to_keep=1)
            past = [(layer.keys, layer.values) for layer in cache.layers]
        return past

    def _cache(self, past: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache | None:
        if not past:
            return None
        cache = DynamicCache(config=self.model.config)
        for number, (keys, values) in enumerate(past):
            cache.update(keys, values, number)
        return cache

    def _loss(self, taught: Sequence[Row], kept: Sequence[Row], weights: Weights, pull: float) -> tuple[Tensor, float]:
        """(loss, divergence from what the base says along kept replies in nats), means over tokens. Taught replies count by their labels, or
        by the divergence from their teacher."""
        with self.lock, running(self.model, as_it_is=True), torch.enable_grad():
            found = self._replies([*taught, *kept], weights)
            mine, others = torch.cat(found[: len(taught)]).float(), found[len(taught) :]
            if taught[0].told is not None:
                loss = strayed(mine, taught)
            else:
                wanted = torch.tensor([token for row in taught for token in row.reply], device=mine.device)
                loss = weighted(cross_entropy(mine, wanted, reduction="none"), taught)
            if not others:
                return loss, 0.0
            away = strayed(torch.cat(others).float(), kept)
            return loss + pull * away, float(away.detach())

    def _answered(self, rows: Sequence[Row], weights: Weights) -> bool:
        """Whether each reply would be given, token by token."""
        with self.lock, running(self.model, as_it_is=True):
            found = self._replies(rows, weights)
        return all(logits.argmax(dim=-1).tolist() == row.reply for logits, row in zip(found, rows, strict=True))

    @property
    def _device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device  # type: ignore[no-any-return]
