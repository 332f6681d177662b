"""Modules distilled from twelve facts about invented entities: what each form knows, and what it leaves alone.

    python tests/benchmarks/bench_modules.py [--form alora] [--seeds 3] [--family sealed] [--show]

The module is forced on. Questions are written by hand, in phrasings that `lessons` does not make; the sealed family was asked once, after
everything was set on the tuned one. Medians over seeds, with the range.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median
from typing import Any

import invented

from memos_core.cube import ParameterForm
from memos_core.examination import TURNS, holds
from memos_core.hf import HFEngine
from memos_core.hf.module import Module
from memos_core.hf.signals import ORDINARY
from memos_core.hf.training import Settings
from memos_core.lessons import PLAIN_TEXTS, course
from memos_core.statements import take_apart

ASKED = {
    "ranked": (">=", 0.95), "said": (">=", 0.85), "text": ("<=", 1.03), "turns": ("<=", 1.05), "known": (">=", 0.85),
    "leaked": ("<=", 0.15), "neighbours": ("<=", 0.60), "seconds": ("<=", 240), "attach_ms": ("<=", 60), "detached_exact": (">=", 1),
}  # fmt: skip


def said(engine: HFEngine, questions: list[str]) -> list[str]:
    replies: list[str] = []
    for start in range(0, len(questions), 16):
        asked = [[{"role": "user", "content": one}] for one in questions[start : start + 16]]
        replies += [reply.text for reply in engine.generate_batch(asked, max_new_tokens=20)]
    return replies


def measure(
    engine: HFEngine, facts: tuple[invented.Invented, ...], module: Module | None, knew: list[bool] | None = None, show: bool = False
) -> tuple[dict[str, float], list[bool]]:
    asked = [(fact, question) for fact in facts for question in fact.asked]
    answers = [fact.answer for fact in facts]

    def everything() -> tuple[dict[str, float], list[bool]]:
        ranked = []
        for fact, question in asked:
            read = take_apart("", fact.statement)
            assert read is not None
            options = [f"{read.says} {read.answer.replace(fact.answer, other)}." for other in (fact.answer, *fact.others)]
            ranked.append(engine.rank(question, options)[0][0] == options[0])
        replies = said(engine, [question for _, question in asked])
        hit = [fact.answer.lower() in reply.lower() for (fact, _), reply in zip(asked, replies, strict=True)]
        known_replies = said(engine, [question for question, _ in invented.KNOWN])
        strangers, halves = said(engine, list(invented.unknown_questions())), said(engine, list(invented.neighbours(facts)))
        context = said(engine, [f"{text} {question}" for text, question, _ in invented.IN_CONTEXT])
        named = [[any(answer.lower() in reply.lower() for answer in answers) for reply in each] for each in (strangers, halves)]
        if show:
            for (_, question), reply, good in zip(asked, replies, hit, strict=True):
                print("   ", "yes" if good else "NO ", question, "->", reply)
            for reply in known_replies[:5] + strangers[:5] + halves + context[:2]:
                print("       ", reply.replace("\n", " "))
        known = [holds(reply, words) for reply, (_, words) in zip(known_replies, invented.KNOWN, strict=True)]
        counted = [now for now, then in zip(known, knew or [True] * len(known), strict=True) if then]
        row = {
            "ranked": sum(ranked) / len(ranked),
            "said": sum(hit) / len(hit),
            "text": engine._text_perplexity(ORDINARY),
            "turns": engine._turn_perplexity([*TURNS, *(("Tell me something.", text) for text in ORDINARY)]),
            "known": sum(counted) / len(counted),
            "leaked": sum(named[0]) / len(named[0]),
            "neighbours": sum(named[1]) / len(named[1]),
            "context": sum(holds(r, w) for r, (_, _, w) in zip(context, invented.IN_CONTEXT, strict=True)) / len(context),
        }
        return row, known

    if module is None:
        return everything()
    with engine.activate(module):
        return everything()


def used(engine: HFEngine, facts: tuple[invented.Invented, ...], module: Module) -> dict[str, float]:
    """What it saves on a request whose texts it replaces: prompt tokens, CPU seconds to the first token against those with the texts; how
    long it takes to read from its bytes, attach and detach; whether the base is bit for bit what it was."""
    context = "What you know:\n" + "\n".join(f"- {fact.statement}" for fact in facts)
    plain = [[{"role": "user", "content": fact.asked[0]}] for fact in facts]
    before, data = engine.next_token_logits(plain[0], reuse=False), module.to_bytes()
    costs, times, tokens = {"texts": 0.0, "module": 0.0}, [], {"texts": 0, "module": 0}

    def first(messages: list[dict[str, str]], name: str, number: int) -> None:
        start = time.process_time()
        scope = (name, module.key, str(number))  # its own for each module, so that nothing is reused
        reply = engine.generate(messages, scope=scope, max_new_tokens=1)
        costs[name] += time.process_time() - start
        tokens[name] += reply.prompt_tokens

    for number, messages in enumerate(plain):
        first([{"role": "system", "content": context}, *messages], "texts", number)
        start = time.perf_counter()
        attached = engine.activate(engine.module(data))
        attached.__enter__()
        entered = time.perf_counter()
        first(messages, "module", number)
        leaving = time.perf_counter()
        attached.__exit__(None, None, None)
        times.append(1000 * (time.perf_counter() - leaving + entered - start))
    exact = bool(before.equal(engine.next_token_logits(plain[0], reuse=False)))
    saved = (tokens["texts"] - tokens["module"]) / len(plain)
    return {"saved_tokens": saved, "first_token": costs["module"] / costs["texts"], "attach_ms": max(times), "detached_exact": float(exact)}


def distilled(
    engine: HFEngine, facts: tuple[invented.Invented, ...], form: ParameterForm, seed: int, settings: Settings | None, log: bool
) -> tuple[Module, float, int]:
    made = course([(str(place), fact.statement, None) for place, fact in enumerate(facts)], seed)

    def told(step: int, loss: float) -> None:
        if log and step % 10 == 0:
            print(f"  step {step} loss {loss:.3f} {time.process_time():.0f}", flush=True)

    found = engine.distil((*made.teach, *made.keep), made.watched, form=form, seed=seed, settings=settings, told=told,
                          start=" ".join(fact.statement for fact in facts), texts=PLAIN_TEXTS)  # fmt: skip
    return found.module, found.seconds, found.steps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=list(ParameterForm), action="append")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--family", choices=["tuned", "sealed"], default="tuned")
    parser.add_argument("--facts", type=int, help="so many other facts, at most 48, instead of a family's twelve")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="name=number", help="of Settings")
    arguments = parser.parse_args()
    engine = HFEngine.load()
    facts = invented.many(arguments.facts) if arguments.facts else invented.TUNED if arguments.family == "tuned" else invented.SEALED
    changed: dict[str, Any] = {}
    for each in arguments.set:
        name, _, value = each.partition("=")
        changed[name] = int(value) if value.isdigit() else float(value)
    asked = {"seconds": ("<=", 20 * arguments.facts)} if arguments.facts else ASKED  # of other facts, how a training grows
    base, knew = measure(engine, facts, None)
    print(f"{'base':8}", " ".join(f"{name} {value:.3f}" for name, value in base.items()), flush=True)
    met = True
    for form in arguments.form or list(ParameterForm):
        rows = []
        for seed in range(arguments.seeds):
            settings = Settings.of(form, **changed)
            module, seconds, steps = distilled(engine, facts, ParameterForm(form), seed, settings, arguments.show)
            row, _ = measure(engine, facts, module, knew, arguments.show)
            row |= {"text": row["text"] / base["text"], "turns": row["turns"] / base["turns"], "seconds": seconds, "steps": steps,
                    "bytes": float(module.weights.bytes)}  # fmt: skip
            row |= used(engine, facts, module)
            made = course([(str(place), fact.statement, None) for place, fact in enumerate(facts)], seed)
            report = engine.examine(module, made, seconds)
            row["let_in"] = float(not report.failed)
            rows.append(row)
            print(f"{form:8} seed {seed}", " ".join(f"{name} {value:.3f}" for name, value in row.items()), *report.failed, flush=True)
        for name in ("saved_tokens", "first_token", "let_in"):
            print(f"{form:8} {name:12} {median(row[name] for row in rows):8.3f}")
        for name in ASKED:
            value, values = median(row[name] for row in rows), [row[name] for row in rows]
            verdict = ""
            if name in asked:
                sign, bound = asked[name]
                good = value >= bound if sign == ">=" else value <= bound
                met = met and (good or form != ParameterForm.PREFIX)
                verdict = f"  asked {sign} {bound}  {'met' if good else 'MISSED'}"
            print(f"{form:8} {name:12} {value:8.3f} [{min(values):.3f}, {max(values):.3f}]{verdict}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
