"""Which requests are routed to a module of twelve facts, by MiniLM: related ones, unrelated ones, and those about names half known.

    python tests/benchmarks/bench_routing.py directory-with-locomo_dev.json [--family tuned] [--show]

Rules and thresholds were set on the tuned family; the sealed one was asked after that. Unrelated: every question of LoCoMo, what
everybody knows, open requests, and questions with their context. Kept out: mixed and unknown names in questions of the same shapes.
What follows a message is decided as in `Modules.chosen`: by the request alone and together with what was said before it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from invented import FRESH, IN_CONTEXT, KNOWN, OPEN, SEALED, THINGS, TUNED, UNKNOWN, Invented, neighbours, unknown_questions

from memos_core.embed import CachedEmbedder, local_embedder
from memos_core.modules import BEFORE
from memos_core.routing import Profile, Routed, name_of, readings, route
from memos_core.statements import Fact, take_apart
from memos_core.statements.questions import question

ASKED = {"related": (">=", 0.95), "unrelated": ("<=", 0.005), "kept out": (">=", 0.50)}
Request = tuple[str, tuple[str, ...]]
"""A request, and the messages before it, newest last."""


def taken_apart(facts: Sequence[Invented]) -> list[Fact]:
    found = [take_apart(str(place), fact.statement) for place, fact in enumerate(facts)]
    assert all(found)
    return [fact for fact in found if fact is not None]


def is_thing(fact: Fact) -> bool:
    return fact.subject.startswith("The ")


def called(fact: Fact) -> str:
    """The name as questions hold it: "Tavi Orlen", "Zorvex telescope"."""
    return fact.subject.removeprefix("The ")


def short_names(fact: Fact) -> list[str]:
    """The first name and the last; of a thing Zorvex, with and without an article."""
    first, last = called(fact).split()
    return [first, f"the {first}"] if is_thing(fact) else [first, last]


def renamed(text: str, fact: Fact, name: str) -> str:
    """The question with another name. Of a thing, one that is a single word or has an article takes the place of the article too."""
    if is_thing(fact) and (" " not in name or name.startswith("the ")):
        text = text.replace(f"the {called(fact)}", name).replace(f"The {called(fact)}", name[:1].upper() + name[1:])
    return text.replace(called(fact), name)


def pointing(text: str, fact: Fact, woman: bool) -> str:
    """The question with a pronoun for the name."""
    subject, object_, its = ("it", "it", "its") if is_thing(fact) else ("she", "her", "her") if woman else ("he", "him", "his")
    for name in (f"the {called(fact)}", fact.subject, called(fact)):
        text = text.replace(f"{name}'s", its)
        for word in "to for visit met makes gives".split():
            text = text.replace(f"{word} {name}", f"{word} {object_}")
        text = text.replace(name, subject)
    return text[:1].upper() + text[1:]


def related(facts: Sequence[Invented]) -> dict[str, list[Request]]:
    known = list(zip(facts, taken_apart(facts), strict=True))
    asked = [(one, fact) for each, fact in known for one in each.asked]
    short = [renamed(one, fact, part) for one, fact in asked for part in short_names(fact)]
    back = [
        (pointing(one, fact, place % 2 == 1), called(fact))
        for place, (each, fact) in enumerate(known)
        for one in (*each.asked, question(fact))
    ]
    reply = "I have heard of {}, but I am not sure what you would like to know."
    return {
        "asked by hand": [(one, ()) for one, _ in asked],
        "part of the name": [(one, ()) for one in short],
        "in lower case": [(one.lower(), ()) for one, _ in asked],
        "part of it, in lower case": [(one.lower(), ()) for one in short],
        "a pronoun, after a message": [(one, (f"Tell me about {name}.",)) for one, name in back],
        "a pronoun, after a reply": [(one, (f"Tell me about {name}.", reply.format(name))) for one, name in back],
    }


def unrelated(facts: Sequence[Invented], locomo: Sequence[str]) -> dict[str, list[Request]]:
    return {
        "LoCoMo": [(one, ()) for one in locomo],
        "what everybody knows": [(one, ()) for one, *_ in KNOWN],
        "open requests": [(one, ()) for one in OPEN],
        "in context": [(one, ()) for _, one, _ in IN_CONTEXT] + [(f"{text} {one}", ()) for text, one, _ in IN_CONTEXT],
    }


def after_a_name(facts: Sequence[Invented], locomo: Sequence[str]) -> dict[str, list[Request]]:
    """The unrelated requests again, each after a message that names an entity."""
    names = [called(fact) for fact in taken_apart(facts)]
    asked = [one for requests in unrelated(facts, locomo).values() for one, _ in requests]
    return {"unrelated, after a name": [(one, (f"Tell me about {names[n % len(names)]}.",)) for n, one in enumerate(asked)]}


def kept_out(facts: Sequence[Invented], others: Sequence[Invented]) -> dict[str, list[Request]]:
    known = list(zip(facts, taken_apart(facts), strict=True))
    people = [fact for _, fact in known if not is_thing(fact)]
    things = [fact for _, fact in known if is_thing(fact)]
    mixed, halves, strangers = [], [], []
    for place, (each, fact) in enumerate(known):
        first, last = called(fact).split()
        for turn, one in enumerate(each.asked):
            alike = [called(other).split() for other in (things if is_thing(fact) else people) if other is not fact]
            mixed += [renamed(one, fact, f"{first} {second}") for _, second in alike]
            mixed += [renamed(one, fact, f"{other} {last}") for other, _ in alike] if not is_thing(fact) else []
            nobody = (THINGS if is_thing(fact) else UNKNOWN)[(2 * place + turn) % len(THINGS)]
            strange = nobody.split()
            strangers.append(renamed(one, fact, nobody))
            halves += [renamed(one, fact, f"{first} {strange[1]}"), renamed(one, fact, f"{strange[0]} {last}")]
    elsewhere = [one for each in others for one in each.asked]
    rows = {
        "neighbours": neighbours(tuple(facts)),
        "two names mixed": mixed,
        "half of an unknown name": halves,
        "unknown names": [*unknown_questions(), *strangers, *elsewhere],
    }
    rows |= {f"{name}, lower case": [one.lower() for one in rows[name]] for name in ("two names mixed", "half of an unknown name")}
    return {name: [(one, ()) for one in asked] for name, asked in rows.items()}


def profile_of(facts: Sequence[Invented], embedder: CachedEmbedder) -> Profile:
    """As `modules.profile_of` makes it."""
    known = taken_apart(facts)
    texts = [text for fact in known for text in (fact.text, question(fact))]
    return Profile(tuple(name_of(fact.subject) for fact in known), embedder(texts), tuple(place // 2 for place in range(len(texts))))


def decided(requests: Sequence[Request], profile: Profile, embedder: CachedEmbedder) -> list[Routed]:
    """As `Modules.chosen` decides: the best of the ways in which a request may be read."""
    found = []
    for asked, before in requests:
        last = before[-BEFORE:]
        several = readings(asked, last, profile)
        vectors = embedder([text for _, text in several])
        decisions = [route(reading, vector, last, profile) for (reading, _), vector in zip(several, vectors, strict=True)]
        found.append(max(decisions, key=lambda each: (each.chosen, each.nearest)))
    return found


def embed_together(requests: Iterable[Request], embedder: CachedEmbedder) -> None:
    """Batches are faster; the cache keeps them."""
    texts = dict.fromkeys(asked for asked, _ in requests)
    embedder(list(texts))


def measure(name: str, facts: Sequence[Invented], others: Sequence[Invented], locomo: Sequence[str], embedder: CachedEmbedder,
            show: bool) -> bool:  # fmt: skip
    profile = profile_of(facts, embedder)
    met = True
    kinds = {
        "related": related(facts), "unrelated": unrelated(facts, locomo), "": after_a_name(facts, locomo),
        "kept out": kept_out(facts, others),
    }  # fmt: skip
    for kind, rows in kinds.items():
        total, of = 0, 0
        for row, requests in rows.items():
            embed_together(requests, embedder)
            decisions = decided(requests, profile, embedder)
            good = [each.chosen != (kind == "kept out") for each in decisions]
            total, of = total + sum(good), of + len(good)
            print(f"{name:7} {kind:10} {row:40} {sum(good):5} of {len(good):5}  {sum(good) / len(good):7.1%}", flush=True)
            if show:
                for (asked, before), each, right in zip(requests, decisions, good, strict=True):
                    if right == (kind in ("unrelated", "")):
                        print("        ", " / ".join([*before, asked]), "->", each.reason)
        if kind:
            way, bound = ASKED[kind]
            well = total / of >= bound if way == ">=" else total / of <= bound
            met &= well
            print(
                f"{name:7} {kind:10} {'all':40} {total:5} of {of:5}  {total / of:7.1%}  asked {way} {bound:.1%}: {'met' if well else 'MISSED'}"
            )
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="directory that holds locomo_dev.json")
    parser.add_argument("--family", choices=("tuned", "sealed", "fresh"), help="only this one")
    parser.add_argument("--show", action="store_true", help="every request that was decided wrongly, with the reason")
    options = parser.parse_args()
    talks = json.loads((options.data / "locomo_dev.json").read_text())
    locomo = [one["question"] for talk in talks for one in talk["qa"]]
    embedder = CachedEmbedder(local_embedder())
    families = {"tuned": (TUNED, SEALED), "sealed": (SEALED, TUNED), "fresh": (FRESH, TUNED)}
    met = [measure(name, *families[name], locomo, embedder, options.show) for name in families if options.family in (None, name)]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
