"""Questions for a statement, made of the statement itself: "What does Ana play?", "what Ana plays", "Who plays the cello?". Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memos_core.conflict.inflection import irregular_forms
from memos_core.statements import Fact, base, head_word, is_participle, is_past, is_plural, past_forms, third_person
from memos_core.statements.words import (
    BE,
    CLOCK,
    DAYS,
    DETERMINERS,
    GIVING,
    GOING,
    HAVE,
    MEETING,
    NOT_PLACES,
    NUMBERS,
    OPENERS,
    PEOPLE,
    SEASON,
    SITES,
    STAYING,
    THINGS,
    UNCHANGED,
    YEAR,
)


def inside(fact: Fact) -> str:
    """The subject as it is written inside a sentence: "The clinic" -> "the clinic", "Cats" -> "cats"; names stay."""
    first, *rest = fact.subject.split()
    common = first.lower() in OPENERS or _several(fact)
    return " ".join([first.lower() if common else first, *rest])


def _several(fact: Fact) -> bool:
    """Whether the subject is a plural without a determiner: "Cats drink milk", "Flights to Oslo are late"."""
    words = fact.subject.split()
    bare = "and" not in words and head_word(words).lower() == words[0].lower() and is_plural([words[0].lower()])
    return bare and (fact.verb in ("are", "were", "have") or (fact.verb not in BE and _auxiliary(fact) == "do"))


def is_person(words: Sequence[str]) -> bool:
    head = head_word(words).lower() if words else ""
    return head in PEOPLE or head.removesuffix("s") in PEOPLE


def _site(words: Sequence[str]) -> bool:
    return len(words) > 1 and words[0] in DETERMINERS and head_word(words).lower() in SITES


def asking(fact: Fact) -> tuple[str, str]:
    """(question words, link that stays in the question)."""
    link, answer = fact.link.split(), fact.answer.split()
    last, before, first, being = link[-1].lower() if link else "", " ".join(link[:-1]), answer[0], fact.verb in BE
    named = first[:1].isupper()
    doing = base(fact.verb) if not being else link[0] if link else ""
    if last in ("in", "on", "at", "since") and YEAR.match(fact.answer):
        return "When", before
    if last in ("in", "on", "at", "during") and SEASON.match(fact.answer):
        return "When", before
    if last == "at" and CLOCK.match(fact.answer):
        return "What time", before
    if last == "from" and re.match(r"\S+ (?:to|until) ", fact.answer) and re.search(rf"\d|{'|'.join(NUMBERS)}|day", fact.answer):
        return "When", before
    if last == "to" and re.match(rf"(?:{DAYS})\b", fact.answer):
        return "When", fact.link
    if last == "by" and being and (named or is_person(answer)) and is_participle(link[0]):
        return "Who", fact.link
    if last == "from" and named and being and not before:
        return "Where", fact.link
    if last in ("in", "at", "on") and (_site(answer) or (doing == "take" and link[0] == "place")) and doing not in NOT_PLACES:
        return "Where", before
    if last in ("to", "from") and named and (doing in GOING or base(doing) in GOING):
        return "Where", fact.link
    if last in ("in", "at", "near") and named and doing not in NOT_PLACES and (not being or last != "near"):
        return "Where", before
    here = (being and not before) or doing in STAYING
    if (
        last in ("in", "on", "at", "under", "behind", "beside", "near", "over")
        and here
        and (named or (first in DETERMINERS and doing != "live"))
    ):
        return "Where", before
    if last in ("to", "with", "by", "for", "from", "of") and (is_person(answer) or (named and doing in ("married", "engaged", "related"))):
        return "Who", fact.link
    if last == "of" and named and being and is_person(link[:-1]):
        return "Who", fact.link  # "the mother of Ben"
    if named and ((last == "to" and doing in GIVING | {"report"}) or (last in ("for", "with") and doing == "work")):
        return "Who", fact.link
    if not link and (is_person(answer) or named) and ((being and is_person(fact.subject.split()) and named) or doing in MEETING):
        return "Who", ""
    if (
        not link
        and is_person(answer)
        and doing != "have"
        and (not being or first.endswith("'s") or first in ("my", "our", "his", "her", "their"))
    ):
        return "Who", ""
    if being and not link and len(answer) > 1 and answer[-1] in ("old", "tall", "long", "wide", "high", "deep"):
        return f"How {answer[-1]}", ""
    return "What", fact.link


def asks_for(fact: Fact) -> tuple[str, str]:
    """(what kind of answer is asked for, link that stays in the question). The kind is what OF_KIND has other words for."""
    word, link = asking(fact)
    fits = {
        "When": re.search(r"\b\d{4}\b", fact.answer) is not None,
        "Where": link != fact.link and "born" not in fact.link,
        "Who": _passive(fact) is not None,
    }
    return (word if fits.get(word) else "What"), link


def _passive(fact: Fact) -> str | None:
    """The verb of "was designed by", as the one who did it is said to: designed, wrote, owns."""
    link = fact.link.split()
    if fact.verb not in BE or len(link) != 2 or link[1] != "by" or not is_participle(link[0]) or asking(fact)[0] != "Who":
        return None
    of = irregular_forms().get(link[0]) or base(link[0])
    if fact.verb in ("is", "are"):
        return third_person(of)
    return next((form for form, each in past_forms().items() if each == of), of if of in UNCHANGED else link[0])


def question(fact: Fact) -> str:
    """A plain question for the answer."""
    (word, link), subject = asking(fact), inside(fact)
    active = _passive(fact)
    if active is not None:
        return f"Who {active} {subject}?"
    if fact.verb in BE:
        return " ".join(filter(None, (word, fact.verb, subject, link))) + "?"
    return " ".join(filter(None, (word, _auxiliary(fact), subject, base(fact.verb), link))) + "?"


def _auxiliary(fact: Fact) -> str:
    """did, does or do."""
    if is_past(fact.verb):
        return "did"
    if base(fact.verb) != fact.verb and fact.verb != "have":
        return "does"
    return "did" if fact.verb in UNCHANGED and not is_plural(fact.subject.split()) else "do"


def indirect(fact: Fact) -> str:
    """The same as a clause: "what Ana Roth works as"."""
    word, link = asking(fact)
    if _passive(fact) is not None:
        return question(fact).rstrip("?").replace("Who", "who", 1)
    return " ".join(filter(None, (f"{word[0].lower()}{word[1:]}", inside(fact), fact.verb, link)))


def backwards(fact: Fact) -> str:
    """The question for the subject."""
    subject, said = fact.subject.split(), fact.says.split()[len(fact.subject.split()) + 1 :] or fact.answer.split()
    thing = (
        subject[0].lower() in OPENERS or "'s" in fact.subject or _several(fact) or (subject[-1].isdigit() and not is_person(subject[:1]))
    )
    if fact.verb in BE and said[0].lower() in DETERMINERS and head_word(said) in THINGS:
        thing = True  # "Porto is the home of Ana"
    verb = {"are": "is", "were": "was", "have": "has"}.get(fact.verb, fact.verb)
    if _auxiliary(fact) == "do" and fact.verb not in BE | HAVE:
        verb = third_person(verb)
    thing = thing and subject != ["the", "user"]
    return (
        " ".join(
            filter(None, ("What" if thing and not is_person([subject[0].lower(), *subject[1:]]) else "Who", verb, fact.link, fact.answer))
        )
        + "?"
    )
