"""Statements of one sentence, taken apart by rules: who or what, the verb, and what it says of them. Pure.

Ours, from the grammar of English. What is no plain statement (questions, denials, several clauses) is not taken apart rather than wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from memos_core.conflict.inflection import irregular_forms
from memos_core.cube import CubeId
from memos_core.statements.words import (
    ADJECTIVES,
    ADVERBS,
    ALSO_NOUNS,
    BASES,
    BE,
    CLAUSES,
    DAYS,
    DETERMINERS,
    EMPTY,
    FIRST_PERSON,
    GIVING,
    HAVE,
    LONGEST,
    MODALS,
    NEGATIONS,
    NOT_FIRST,
    NOT_VERBS,
    OPENERS,
    PARTICLES,
    PREPOSITIONS,
    QUANTITIES,
    TIMES,
    TITLES,
    UNCHANGED,
    VERBS,
    WITHOUT_OBJECT,
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence taken apart: "Ana Roth | works | as | a nurse". link: preposition or participle between verb and answer, "" for none."""

    id: CubeId
    text: str
    subject: str
    verb: str
    link: str
    answer: str

    @property
    def says(self) -> str:
        """The sentence without its answer."""
        return " ".join(filter(None, (self.subject, self.verb, self.link)))


def take_apart(id: CubeId, text: str, speaker: str | None = None) -> Fact | None:
    """A fact of one sentence as subject, verb, link and answer; None when it is not of that form."""
    if len(text) > LONGEST:
        return None
    words = text.strip().rstrip(".!").replace("’", "'").split()
    if words and words[0] == "I'm":
        words[:1] = ["I", "am"]
    if not 3 <= len(words) <= 30 or not _plain(text.strip(), words):
        return None
    place = _verb(words)
    if place is None or place + 1 >= len(words):
        return None
    subject, verb, rest = words[:place], words[place], words[place + 1 :]
    if subject == ["I"]:
        if FIRST_PERSON & set(map(str.lower, rest)):
            return None
        subject, verb = [speaker or "the user"], third_person(verb)
        rest = ["their" if word == "my" else word for word in rest]
    if not _one_clause(verb, rest):
        return None
    cut = _cut(subject, verb, rest)
    link, answer = rest[:cut], rest[cut:]
    if not _answers(verb, link, answer):
        return None
    return Fact(id, text.strip(), " ".join(subject), verb, " ".join(link), " ".join(answer))


def _plain(text: str, words: Sequence[str]) -> bool:
    """Whether a sentence is one statement: no question, negation, modal, list, second sentence or subordinate clause."""
    first = words[0].lower()
    if first.rstrip(",") in NOT_FIRST or "?" in text or any(sign in text for sign in ";()[]{}…\n|<>=*"):
        return False
    if first in ("every", "each", "this", "last", "next") and words[1].lower() in TIMES:
        return False
    for place, word in enumerate(words):
        lower, after = word.lower(), words[place + 1] if place + 1 < len(words) else ""
        if lower.endswith(("n't", ":")) or lower in ("-", "–", "—", "&") or (word[-1] in ".!" and not _abbreviated(word)):
            return False
        if word == lower and (word in NEGATIONS or word in MODALS or word in ("i'm", "it's", "he's", "she's")):
            return False
        # A comma may stand in a place or a date: "Porto, Portugal", "May 3, 2020". Elsewhere it makes a list or a clause.
        if word.endswith(",") and not (place > 2 and word[0].isupper() | word[0].isdigit() and after[:1].isupper() | after.isdigit()):
            return False
        if lower == "and" and place > 0 and words[place - 1][:1].isupper() and after[:1].isupper():
            continue  # "Ana and Ben", "Trinidad and Tobago"
        if place > 0 and (lower in CLAUSES - {"i"} or word == "I"):
            return False
    return sum(word.endswith(",") for word in words) <= 1


def _name(word: str) -> bool:
    return word[:1].isupper() and re.match(DAYS, word) is None


def _abbreviated(word: str) -> bool:
    return word in TITLES or re.fullmatch(r"(?:\w\.)+", word) is not None


def third_person(verb: str) -> str:
    """I am -> is, I live -> lives, I watch -> watches, I moved -> moved, I bought -> bought."""
    if verb in ("am", "have"):
        return {"am": "is", "have": "has"}[verb]
    if verb in BE | HAVE or is_past(verb) or (verb in UNCHANGED and verb not in ("cost", "read")):
        return verb
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    if verb not in VERBS and verb.endswith("s") and not verb.endswith("ss"):
        return verb  # of the third person already
    return f"{verb}es" if verb.endswith(("s", "sh", "ch", "x", "z", "o")) else f"{verb}s"


def _verb(words: Sequence[str]) -> int | None:
    """Where the verb of a plain statement stands."""
    if words[0] == "I":
        verb = words[1]
        known = verb in BE | HAVE or (verb not in ADVERBS | PREPOSITIONS and not verb.endswith("ly") and verb.isalpha())
        return 1 if verb == verb.lower() and known else None
    # A subject is as long as what a determiner or an owner at its start, or after a preposition, is said of: "The shop on the hill opens".
    owners = [place for place, word in enumerate(words[:6]) if word.lower() in OPENERS or word.endswith(("'s", "s'"))]
    found = [place for place in range(1, min(8, len(words))) if _finite(words, place) and place - 1 not in owners]
    for place in found:
        noun = words[place] in UNCHANGED or (base(words[place]) in ALSO_NOUNS and words[place].endswith("s"))
        following = words[place + 1] if place + 1 < len(words) else ""
        if following in BE | HAVE or (noun and owners and place + 1 in found):
            continue  # the noun of "The project plans cover three years"
        return place if _subject(words[:place]) else None
    return next((place for place in (1, 2, 3, 4) if place not in owners and _perhaps(words, place) and _subject(words[:place])), None)


def _finite(words: Sequence[str], place: int) -> bool:
    """Whether a word that is known to be a verb stands here in a form that its subject allows."""
    word, before = words[place], words[place - 1]
    if word in BE | HAVE:
        return word != "am"
    if not word.isalpha() or word != word.lower() or before.lower() in PREPOSITIONS | ADVERBS:
        return False
    if base(word) in VERBS and base(word) != word:
        return is_past(word) or word.endswith("s")
    return word in VERBS and (is_plural(words[:place]) or (word in UNCHANGED and (before[:1].isupper() or place > 1)))


def _perhaps(words: Sequence[str], place: int) -> bool:
    """Whether an unknown word looks like a verb, straight behind a name: "Ana sculpts owls"."""
    if place >= len(words) - 1:
        return False
    word, before = words[place], words[place - 1]
    named = all(each[:1].isupper() or each.isdigit() for each in words[:place]) and words[0].lower() not in OPENERS
    return named and word not in ADVERBS and re.fullmatch(r"[a-z]{3,}(?:[^su]s|ed)", word) is not None and not before.endswith("'s")


def is_plural(subject: Sequence[str]) -> bool:
    """Whether a subject is several: "The nurses", "Ana and Ben", "Children"."""
    head = head_word(subject)
    if "and" in subject or head in ("people", "children", "men", "women", "police") or subject[0].lower() in QUANTITIES - {"every", "each"}:
        return True
    # A name may end in s as well: "James Banks". Only a common noun is plural by its ending.
    common = head == head.lower() or len(subject) == 1
    return common and head.endswith("s") and not head.endswith(("ss", "us", "is", "'s"))


def head_word(phrase: Sequence[str]) -> str:
    """The noun that a phrase is about: "The shop on the hill" -> shop. A name stays as it is written."""
    end = next((place for place, word in enumerate(phrase) if place and word in PREPOSITIONS), len(phrase))
    head = phrase[end - 1]
    return head.lower() if len(phrase) == 1 else head


def _subject(words: Sequence[str]) -> bool:
    """Whether words name somebody or something: they start in upper case, end in no function word, and hold no adverb or verb."""
    if not words[0][:1].isupper() and not words[0][:1].isdigit():
        return False
    last = words[-1].lower()
    if (words[-1].islower() and last in PREPOSITIONS | OPENERS | PARTICLES | ADJECTIVES) or last.endswith("'s"):
        return False
    lower = [word for word in words[1:] if word == word.lower()]
    if any(word in ADVERBS or (word.endswith("ly") and word not in ("family", "early")) for word in lower):
        return False
    return words[0].lower() not in ADVERBS and len(words) <= 8


def is_past(verb: str) -> bool:
    """Whether a verb is a form of the past: bought, painted, had; not need."""
    return verb in past_forms() or (verb.endswith("ed") and verb not in VERBS and not re.fullmatch("[^aeiou]*eed", verb))


@lru_cache(maxsize=1)
def past_forms() -> dict[str, str]:
    """Irregular forms of the past to their bases: of each verb the first form in the table that is no participle."""
    found: dict[str, str] = {"had": "have", "did": "do"}
    for form, of in irregular_forms().items():
        if of not in NOT_VERBS and of not in found.values() and not form.endswith(("ing", "s", "en", "wn")):
            found[form] = of
    return found


def base(verb: str) -> str:
    """works -> work, studies -> study, painted -> paint, bought -> buy; what is not known stays."""
    if verb in BASES:
        return BASES[verb]
    if verb in BE:
        return verb
    if verb in past_forms():
        return past_forms()[verb]
    if verb in VERBS:
        return verb
    if verb.endswith("ed") and is_past(verb):
        return _without_ed(verb)
    if verb.endswith("s"):
        known = [each for each in (verb[:-1], verb[:-2], f"{verb[:-3]}y") if each in VERBS]
        if known:
            return known[0]
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if verb.endswith(("sses", "shes", "ches", "xes", "oes")):
        return verb[:-2]
    return verb[:-1] if verb.endswith("s") and not verb.endswith("ss") else verb


def _without_ed(verb: str) -> str:
    """moved -> move, planned -> plan, carried -> carry, visited -> visit."""
    bare = verb[:-2]
    forms = [bare, f"{bare}e", bare[:-1], f"{bare[:-1]}y" if bare.endswith("i") else bare]
    known = [each for each in forms if each in VERBS]
    if known:
        return known[0]
    if bare.endswith("i"):
        return f"{bare[:-1]}y"
    if re.search(r"([bdgmnprt])\1$", bare):
        return bare[:-1]
    # What has lost an e: created, changed, arrived, combined with one consonant behind a vowel that cannot end a word of its own.
    return f"{bare}e" if re.search(r"(?:[vcu]|[^s]s|[aeiou][zg]|dg|ng|rg|[bcdfgkptz]l|at|ir|ur|ak|ap)$", bare) else bare


def _one_clause(verb: str, rest: Sequence[str]) -> bool:
    """Whether nothing behind the verb is a second verb with a subject of its own, an infinitive, or the rest of a perfect."""
    if any(word in (BE | HAVE) - {"am"} for word in rest):  # "at 10 am"
        return False
    if verb in HAVE and (rest[0] in ("to", "been") or is_past(rest[0]) or is_participle(rest[0])):
        return False
    for place, word in enumerate(rest):
        before, noun = rest[place - 1] if place else "", word in ("work", "land", "water") and [*rest, "in"][place + 1] in PREPOSITIONS
        if before == "to" and word in VERBS and not noun:
            return False
        if (
            before[:1].isupper()
            and word == word.lower()
            and word not in PREPOSITIONS
            and (is_past(word) or (word.endswith("s") and base(word) in VERBS))
        ):
            return False  # "Ana thinks Ben lives in Porto"
    return True


def is_participle(word: str) -> bool:
    """built, painted, written, going."""
    irregular = irregular_forms().get(word)
    return (irregular is not None and irregular not in NOT_VERBS and not word.endswith("s")) or (
        word.isalpha() and word == word.lower() and len(word) > 4 and word.endswith(("ed", "ing")) and word not in VERBS
    )


def _cut(subject: Sequence[str], verb: str, rest: Sequence[str]) -> int:
    """How many words behind the verb are the link: up to a preposition among the first three, or a participle behind "is"."""
    being, first = verb in BE, rest[0].lower()
    places = [n for n, word in enumerate(rest[:-1]) if n <= 2 and word in PREPOSITIONS]
    for n in reversed(places):
        if n > 0 and not being and (rest[n] == "of" or (rest[n] in ("with", "about") and rest[0].lower() in OPENERS)):
            continue  # "the game of chess" is one thing
        if n > 0 and (any(word.endswith(",") for word in rest[:n]) or (rest[n] == "to" and rest[0] == "from" and not _name(rest[1]))):
            continue
        return n + 1
    if (
        being
        and len(rest) > 1
        and is_participle(first)
        and head_word(subject).lower() not in ("hobby", "job", "dream", "goal", "plan", "passion")
    ):
        return 1
    if verb in ("named", "called") and rest[0].lower() in DETERMINERS and rest[-1][:1].isupper():
        return next(n for n, word in enumerate(rest) if word[:1].isupper())  # "What did Ana name her dog?"
    if base(verb) in GIVING and rest[0][:1].isupper():  # "gave Ben a book" is asked as "What did Ana give Ben?"
        return next((n for n, word in enumerate(rest) if n and (word.lower() in OPENERS or word.islower())), 0)
    return 0


def _answers(verb: str, link: Sequence[str], answer: Sequence[str]) -> bool:
    """Whether an answer says something when it stands alone."""
    if not answer or (len(answer) == 1 and answer[0].lower() in EMPTY | ADVERBS | OPENERS - QUANTITIES) or answer == ["a", "lot"]:
        return False
    if answer[-1].lower() in PREPOSITIONS | DETERMINERS or answer[-1] == "ago":
        return False
    if answer[-1].lower() in ("today", "yesterday", "tomorrow", "now") or (not link and answer[0] in ("every", "each") and verb not in BE):
        return False
    if not link and verb not in BE and (base(verb) in WITHOUT_OBJECT or answer[0].lower() in ADVERBS | EMPTY - {"her"}):
        return False
    if verb in BE and not link and len(answer) == 1 and answer[0].endswith("ed") and is_participle(answer[0]):
        return False  # "The concert was cancelled"
    if base(verb) in GIVING and not link and answer[0].lower() in OPENERS and any(word.lower() in OPENERS for word in answer[2:]):
        return False  # "gave my brother a book" holds two answers
    return not (answer[0].endswith("ly") and answer[0].islower() and len(answer) == 1)
