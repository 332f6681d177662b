"""What a newer claim has to do with an older one: it replaces or opposes it, says the same, says more, or has nothing to do with it. Pure.

Ours, after the observation that most contradictions are of few kinds: negation, antonyms, a changed value of the same attribute, a changed
number or date, an end or a move, and "never" against having done it (de Marneffe et al., Finding Contradictions in Text, 2008).
"""

from __future__ import annotations

import re
from dataclasses import replace

from memos_core.conflict.claims import CHANGE, Claim, Phase
from memos_core.conflict.clauses import Stance
from memos_core.conflict.inflection import stem
from memos_core.conflict.opposites import alike, opposite
from memos_core.conflict.relation import Relation, RelationKind, bounded
from memos_core.conflict.values import MOMENT_WORDS
from memos_core.conflict.wording import folded, tokens


def _stems(words: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words.split())


_LIKING = _stems("love like enjoy adore prefer")
_HAVING = _stems("have own drive use keep take play get buy")
_LOSING = _stems(
    "stop quit cease give gave up use longer sell leave lose cancel die pass away divorce break broke up rid drop out switch away"
)
_VAGUE = _stems(
    "get know seem try have make do go thing feel think understand see want need worry find sure idea issue problem trouble own"
)
_WHEN = _stems("last next year month week day today yesterday tomorrow ago morning evening spring summer autumn winter")
_DAYS = MOMENT_WORDS | frozenset("yesterday today tonight tomorrow morning evening night weekend".split())
_POINTERS = frozenset("it this that there what which".split())
"""Words that point at something said before: what they mean is not known here."""


def compare(newer: Claim, older: Claim, similarity: float | None = None) -> Relation | None:
    """What the newer claim has to do with the older; None when nothing. similarity: cosine of their embeddings, when the caller has it."""
    if newer.speaker != older.speaker or newer.stance is not Stance.ASSERTED:
        return None
    if newer.phase is Phase.NEVER and older.affirmed and older.stance in (Stance.ASSERTED, Stance.TRIED):
        return _against_never(newer, older, similarity)
    if older.stance is not Stance.ASSERTED:
        return None
    if older.phase is Phase.NEVER and newer.affirmed:  # it may have been done since: an update, and only when plainly the same deed
        later = _against_never(older, newer, similarity)
        return replace(later, update=True) if later is not None and later.confidence >= _SURE else None
    if newer.subject != older.subject:
        return _by_value(newer, older) if _at_home(newer) and _at_home(older) else None
    if newer.subject.startswith("a ") or newer.subject in _POINTERS:
        return None
    for rule in (_by_attribute, _by_denial, _by_value, _by_opposite, _by_sameness):
        if relation := rule(newer, older):
            return relation
    return None


def _at_home(claim: Claim) -> bool:
    """About the speaker's own or what both know: "I have a meeting at 3" and "the meeting is at 4" may be of one meeting."""
    return claim.subject.partition(" ")[0] in {(claim.speaker or "i").casefold(), "the", "our", "we", "there", ""}


def _contradiction(confidence: float, why: str, newer: Claim) -> Relation:
    return Relation(RelationKind.CONTRADICTS, bounded(confidence), why, newer.is_update)


def _spelt(stems: str, claim: Claim) -> str:
    """Stems as the words that the claim has for them; others as they are."""
    words = {token.stem: token.text.lower() for token in tokens(claim.text)}
    return " ".join(words.get(each, each) for each in stems.split())


def _by_attribute(newer: Claim, older: Claim) -> Relation | None:
    """Where one lives or works, a name, a favourite: one value at a time."""
    if not newer.attribute or newer.attribute != older.attribute:
        return None
    new, old = set(newer.filler.split()), set(older.filler.split())
    if not new or not old or Phase.PAST in (newer.phase, older.phase):
        return None
    same = new <= old or old <= new
    if newer.affirmed and older.affirmed:
        if same:
            return Relation(
                RelationKind.DUPLICATE if new == old else RelationKind.REFINES, 0.8, f"the same {_spelt(newer.attribute, newer)}"
            )
        return _contradiction(0.85 if newer.is_update else 0.75, f"another {_spelt(newer.attribute, newer)}", newer)
    if newer.affirmed != older.affirmed and same:
        return _contradiction(0.9, f"the {_spelt(newer.attribute, newer)} is affirmed and denied", newer)
    return None


def _by_denial(newer: Claim, older: Claim) -> Relation | None:
    """ "I stopped drinking coffee" against "I drink coffee" and "I love coffee"; "Tom does not eat fish" against "Tom eats fish"."""
    if newer.affirmed == older.affirmed or Phase.PAST in (newer.phase, older.phase):
        return None
    denied, said = (older, newer) if newer.affirmed else (newer, older)
    if denied.predicate in _VAGUE or not _VAGUE.isdisjoint(denied.terms[:1]):
        return None  # "I don't know", "I'm not sure" deny nothing about the world
    subject = denied.subject.split()
    ended = denied.phase is Phase.ENDED
    wanted = [term for term in denied.terms if term not in _VAGUE and term not in subject and not (ended and term in _LOSING | _WHEN)]
    objects = [term for term in wanted if term != denied.predicate]
    if not objects or (len(wanted) == 1 and len(said.terms) > 3):  # one word in common with a long statement is chance
        return None
    missing = [term for term in wanted if not any(alike(term, other) for other in said.terms)]
    if not missing or (len(wanted) > 4 and len(missing) == 1):
        return _contradiction(0.85, "one denies what the other states", newer)
    # What has ended need not be named by the same verb: "I love coffee", "I stopped drinking coffee".
    if ended and len(missing) == 1 and set(objects) - set(missing) and (said.predicate in _LIKING | _HAVING or not said.predicate):
        return _contradiction(0.65, "it has ended", newer)
    return None


def _context(claim: Claim) -> set[str]:
    """The terms that say what a value is of."""
    named = {word for value in claim.values if value.kind == "name" for word in value.value.split()}
    return {term for term in claim.terms if term not in CHANGE and term not in _VAGUE and term not in named}


def _names(claim: Claim) -> set[str]:
    return {value.value for value in claim.values if value.kind in ("name", "label")}


def _moments(claim: Claim) -> set[str]:
    return set(claim.text.lower().replace(",", " ").replace(".", " ").split()) & _DAYS


def _apart(one: set[str], other: set[str]) -> bool:
    return bool(one) and bool(other) and one.isdisjoint(other)


def _slots(claim: Claim) -> dict[tuple[str, str], str]:
    """The value of each slot. "From 70 % to 90 %" ends at 90; "sides of 3, 4 and 5 cm" give no single value; "by 5 %" is a change and no value."""
    found: dict[tuple[str, str], set[str]] = {}
    for value in claim.values:
        before = claim.text[: value.start].rstrip(" $€£").lower()
        if value.kind not in ("name", "label") and not before.endswith(
            (" from", " by", " under", " over", " than", " least", " most", " up to")
        ):
            found.setdefault(value.slot, set()).add(value.value)
    return {slot: next(iter(several)) for slot, several in found.items() if len(several) == 1}


def _by_value(newer: Claim, older: Claim) -> Relation | None:
    """Same thing, same slot, another number or moment."""
    again = newer.event and newer.predicate not in CHANGE
    if newer.affirmed != older.affirmed or again or (older.event and not newer.is_update):
        return None  # two events with different numbers may both have happened
    if _apart(_names(newer), _names(older)):
        return None  # a meeting with Carla and one with Pedro
    new, old = _slots(newer), _slots(older)
    changed = [slot for slot in new if slot in old and new[slot] != old[slot]]
    one, other = _context(newer), _context(older)
    shared = {term for term in one if any(alike(term, counterpart) for counterpart in other)}
    least, most = sorted((len(one), len(other)))
    if not changed or not shared or (len(shared) < 2 and most > 2):
        return None
    if changed[0][0] == "quantity" and _apart(_moments(newer), _moments(older)):
        return None  # three books in May, five in June
    of_least, of_most = (0.5, 0.4) if newer.is_update else (0.8, 0.6)
    if len(shared) < of_least * least or len(shared) < of_most * most:
        return None
    kind, what = changed[0]
    named = _spelt(what, newer)
    return _contradiction(
        0.5 + 0.4 * len(shared) / least, f"another {f'number of {named}' if kind == 'quantity' and named else named or kind}", newer
    )


def _by_opposite(newer: Claim, older: Claim) -> Relation | None:
    """ "I am married", "I am single"."""
    if newer.affirmed != older.affirmed or newer.phase is not older.phase:
        return None
    new, old = ([term for term in claim.terms if term not in _VAGUE | _WHEN] for claim in (newer, older))
    left, right = [term for term in new if term not in old], [term for term in old if term not in new]
    pair = next(((one, other) for one in left for other in right if opposite(one, other)), None)
    if pair is None or max(len(left), len(right)) > 2 or len(left) + len(right) > 2 + len(set(new) & set(old)):
        return None
    return _contradiction(0.75, f"{_spelt(pair[0], newer)} and {_spelt(pair[1], older)} exclude each other", newer)


def _by_sameness(newer: Claim, older: Claim) -> Relation | None:
    if newer.phase is not older.phase:
        return None
    new, old = ({*claim.terms, *(value.value for value in claim.values)} for claim in (newer, older))
    if new == old:
        return Relation(RelationKind.DUPLICATE, 0.8, "the same words")
    if min(len(new), len(old)) >= 2 and (new < old or old < new):
        return Relation(RelationKind.REFINES, 0.7, "one says what the other says, and more")
    return None


# ------------------------------------------------------------------ "never" against having done it

_FIRST_PERSON = re.compile(r"\b(?:i|we|my|our|me)\b", re.IGNORECASE)
_RELATIVES = re.compile(
    r" (?:mother|mom|mum|father|dad|parents?|brothers?|sisters?|aunts?|uncles?|sons?|daughters?|kids?|children|wife|husband|partner"
    r"|friends?|boss|colleagues?"
    r"|cousins?|neighbou?rs?|team)$"
)
_FILLING = _stems(
    "project thing stuff time any ever before actual related similar other special outside experience anything something one first start"
)
_SHOWN = 0.45
"""Score from which a statement shows that a deed was done: most of what it was done to, and either the deed or a like wording."""
_SURE = 0.85
_DEALING = _stems("use meet attempt try work have do see hear practice study know touch experience feel be encounter face deal play")
"""Deeds that any dealing with the object amounts to: whoever got advice from Nora has met her, but an offer that was made is not accepted."""
_RESULTS = _stems("score accuracy grade result mark progress rate performance mastery rating")
_EARNED = _stems("complete finish practice attempt try take do solve study work play write run train test exercise")
"""Deeds that a result of one's own comes from: whoever has a score in chess puzzles has attempted some."""
_OR_DONE = re.compile(r" (?:or|nor|and) (?=\w+(?:ed|en|ne|wn|de|pt|ght)\b)")


def deeds_denied(never: Claim) -> list[tuple[str, list[str]]]:
    """(verb, objects) of a "never" as a whole, and of each alternative: "never A or B" denies each."""
    found = [(never.predicate, [term for term in never.terms if term != never.predicate and term not in _FILLING])]
    parts = _OR_DONE.split(never.text)
    for part in parts if len(parts) > 1 else ():
        said = folded(part)
        terms = [token.stem for token in tokens(said.partition("never")[2] or said) if token.content and token.stem not in _FILLING]
        if len(terms) > 2:  # a verb and one object would be met by chance
            found.append((terms[0], terms[1:]))
    return found


def _against_never(never: Claim, said: Claim, similarity: float | None) -> Relation | None:
    """ "I have never taken a writing course" against a first-person statement that shows it was done."""
    if not _FIRST_PERSON.search(folded(said.text)) or _RELATIVES.search(said.subject):
        return None
    support = max(_support(deed, objects or [deed], said) for deed, objects in deeds_denied(never))
    named = {stem(word) for name in _names(never) for word in name.split()}
    if named and named.isdisjoint(said.terms) and not re.search(r"\b(?:or|like|such as)\b", never.text):
        support -= 0.25  # whoever never spoke at PyCon may have spoken elsewhere
    score = support + 0.25 * (0.5 if similarity is None else max(0.0, similarity))
    return Relation(RelationKind.CONTRADICTS, bounded(score), "never done, and done") if support > 0 and score >= _SHOWN else None


def _support(deed: str, objects: list[str], said: Claim) -> float:
    """How far a statement shows that the deed was done: the share of the objects that it speaks of, more when it names the deed."""
    found = [term for term in objects if any(alike(term, other) for other in said.terms)]
    done = bool(deed) and (any(alike(deed, other) for other in said.terms) or (deed in _EARNED and _is_result(said)))
    if not found or not (done or (len(found) >= 2 and deed in _DEALING)):
        return 0.0
    support = 0.55 * len(found) / len(objects) + (0.2 if done else 0.0)
    return support if said.stance is Stance.ASSERTED else 0.8 * support  # to be trying is half of having done


def _is_result(said: Claim) -> bool:
    """Whether it gives a result of the speaker's: "my score on the chess puzzles is 4 of 5"."""
    owner, _, head = said.subject.rpartition(" ")
    return owner == (said.speaker or "i").casefold() and stem(head) in _RESULTS and any(value.kind == "quantity" for value in said.values)


def repeats(never: Claim, earlier: Claim) -> bool:
    """A "never" that was said before opposes nothing anew."""
    mine = {term for term in never.terms if term not in _FILLING}
    return earlier.phase is Phase.NEVER and earlier.speaker == never.speaker and 2 * len(mine & set(earlier.terms)) >= len(mine)
