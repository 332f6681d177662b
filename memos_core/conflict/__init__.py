"""What two texts have to do with each other, and which earlier claims a new one opposes. Pure.

Ours. Claims are compared by rules (see compare.py); texts as wholes by laying their words beside each other: what they share must be
nearly all, and what differs must be a negation or exclude each other. Similarity of embeddings guards against words shared by chance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from memos_core.conflict.claims import Claim, Phase, claims
from memos_core.conflict.clauses import Stance, clauses
from memos_core.conflict.compare import compare, repeats
from memos_core.conflict.judge import Model, ask
from memos_core.conflict.opposites import alike, opposite
from memos_core.conflict.relation import Relation, RelationKind, bounded
from memos_core.conflict.values import values
from memos_core.conflict.wording import Token, affirmed, tokens

__all__ = ["Relation", "RelationKind", "Similarity", "compare", "opposed", "relate"]

Similarity = Callable[[str, str], float]
"""Cosine of the embeddings of two texts."""
SAME_STATEMENT = 0.65
"""A statement and a denial are about the same from this similarity on; below it shared words are chance."""
SAME_MEANING = 0.75
"""Similarity from which two texts that share most words say the same."""
MOST_CLAIMS = 12
"""Claims of each text that are compared pairwise by `relate`."""
PER_KEY = 256
"""Earlier claims taken from under one key, the newest."""
MOST_CANDIDATES = 48
"""Earlier claims compared with one new claim, those that share most keys first."""
LONGEST = 4_000
"""Characters of each text that are laid beside each other."""
AS_SURE = 0.1
"""Claims that are opposed within this confidence are opposed as surely."""


def relate(a: str, b: str, similarity: Similarity | None = None, judge: Model | None = None) -> Relation:
    """What b, the newer, has to do with a. A judge's valid answer is taken; otherwise the rules decide."""
    if judge is not None and (said := ask(judge, a, b)) is not None:
        return Relation(RelationKind(said.relation), said.confidence, said.why or "the model says so", said.update)
    if _plain(a) == _plain(b):
        return Relation(RelationKind.DUPLICATE, 1.0, "the same words")
    closeness = similarity if similarity is not None else _shared_words
    older, newer = claims(a)[:MOST_CLAIMS], claims(b)[:MOST_CLAIMS]
    return _among_claims(older, newer) or _opposed_sentences(a, b, older, newer, closeness) or _alike(a, b, closeness)


def opposed(
    newer: Claim, lookup: Callable[[str], Sequence[tuple[int, Claim]]], similarity: Callable[[Claim, Claim], float] | None = None
) -> tuple[int, Relation] | None:
    """The place of the earlier claim that a new one contradicts most surely, and how; None when it contradicts none.

    lookup gives what is filed under a key, oldest first, with a place that rises in time. Of several that it contradicts as surely, a
    "never" is held against what was said first, the rest repeat it; a value against what was said last, the rest is outdated.
    """
    if newer.phase is Phase.NEVER and any(repeats(newer, earlier) for key in newer.keys for _, earlier in lookup(key)[-PER_KEY:]):
        return None
    shared: dict[tuple[int, Claim], int] = {}
    for key in newer.opposing:
        for entry in lookup(key)[-PER_KEY:]:
            shared[entry] = shared.get(entry, 0) + 1
    found: list[tuple[int, Relation]] = []
    for place, older in sorted(shared, key=lambda entry: -shared[entry])[:MOST_CANDIDATES]:
        if similarity is not None and compare(newer, older, 1.0) is None:
            continue  # however alike they are
        relation = compare(newer, older, similarity(newer, older) if similarity is not None else None)
        if relation is not None and relation.kind is RelationKind.CONTRADICTS:
            found.append((place, relation))
    if not found:
        return None
    surest = max(relation.confidence for _, relation in found)
    one_of = min if newer.phase is Phase.NEVER else max
    return one_of((entry for entry in found if entry[1].confidence >= surest - AS_SURE), key=lambda entry: (entry[0], entry[1].confidence))


def _plain(text: str) -> str:
    """The text without case, spaces and the punctuation that carries no meaning. A question mark does."""
    return " ".join(re.findall(r"\w+|[^\w\s.,;:!\"'’]", text.casefold()))


def _shared_words(a: str, b: str) -> float:
    """Stand-in for an embedder: the share of content words in common."""
    one, other = ({token.stem for token in tokens(text) if token.content} for text in (a, b))
    return 2 * len(one & other) / (len(one) + len(other)) if one and other else 0.0


def _among_claims(older: Sequence[Claim], newer: Sequence[Claim]) -> Relation | None:
    """The surest contradiction of two claims, in either order; with one claim each, also that they give the same value to the same."""
    found = [relation for new in newer for old in older if (relation := compare(new, old) or compare(old, new))]
    against = [relation for relation in found if relation.kind is RelationKind.CONTRADICTS]
    if against:
        return replace(max(against, key=lambda relation: relation.confidence), update=any(claim.is_update for claim in newer))
    if len(older) != 1 or len(newer) != 1 or not older[0].attribute or older[0].attribute != newer[0].attribute:
        return None
    if Phase.PAST in (older[0].phase, newer[0].phase) and older[0].phase is not newer[0].phase:
        return Relation(RelationKind.UNRELATED, 0.7, "one was so once, the other is so now")
    return found[0] if found else None


# ------------------------------------------------------------------ whole texts


@dataclass(frozen=True, slots=True)
class _Laid:
    """Content words of two texts laid beside each other. only_*: those without counterpart; covered_*: share of those with one."""

    a: tuple[Token, ...]
    b: tuple[Token, ...]
    only_a: tuple[Token, ...]
    only_b: tuple[Token, ...]

    @property
    def covered_a(self) -> float:
        return 1 - len(self.only_a) / len(self.a) if self.a else 1.0

    @property
    def covered_b(self) -> float:
        return 1 - len(self.only_b) / len(self.b) if self.b else 1.0

    @property
    def negated(self) -> tuple[bool, bool]:
        return any(token.negated for token in self.a), any(token.negated for token in self.b)

    @property
    def opposites(self) -> tuple[str, str] | None:
        """Two words without counterpart, one on each side, that exclude each other."""
        return next(((one.text, other.text) for one in self.only_a for other in self.only_b if opposite(one.stem, other.stem)), None)


def _lay(a: str, b: str) -> _Laid:
    one, other = (tuple(token for token in tokens(text[:LONGEST]) if token.content) for text in (a, b))
    only_one = tuple(token for token in one if not any(alike(token.stem, counterpart.stem) for counterpart in other))
    only_other = tuple(token for token in other if not any(alike(token.stem, counterpart.stem) for counterpart in one))
    return _Laid(one, other, only_one, only_other)


def _opposed_sentences(a: str, b: str, older: Sequence[Claim], newer: Sequence[Claim], similarity: Similarity) -> Relation | None:
    """Negation or an antonym between two statements that otherwise say the same."""
    if not _stated(a) or _stated(a) != _stated(b) or _strangers(older, newer):
        return None
    laid, update = _lay(a, b), any(claim.is_update for claim in newer)
    pair = laid.opposites
    if laid.negated in ((True, False), (False, True)):
        # What is denied must be nearly all there in the statement: "a man eats" does not deny "no man eats a cake by the tree".
        denied = laid.covered_a if laid.negated[0] else laid.covered_b
        closeness = similarity(affirmed(a), affirmed(b))
        if denied >= 0.8 and closeness >= SAME_STATEMENT and not pair:
            return Relation(RelationKind.CONTRADICTS, bounded(0.5 * (denied + closeness)), "one denies what the other states", update)
        return None
    least = min(laid.covered_a, laid.covered_b)
    if not pair or _INDEFINITE.match(a) or _INDEFINITE.match(b) or least < 0.6 or max(len(laid.only_a), len(laid.only_b)) > 2:
        return None
    if similarity(a, b) < SAME_STATEMENT:
        return None
    return Relation(RelationKind.CONTRADICTS, bounded(least), f"{pair[0]} and {pair[1]} exclude each other", update)


# "A dog runs" and "A dog sleeps" may be of two dogs; "The dog runs" and "My dog sleeps" speak of one that is known.
_INDEFINITE = re.compile(r"^\W*(?:an?|some(?:one|body)?|one|two|three|four|five|six|several|many|few|people|there)\b", re.IGNORECASE)
_NOBODY = frozenset("nobody none nothing someone somebody no there".split())


def _stated(text: str) -> frozenset[Stance]:
    """How one statement is meant; nothing for a question, a supposition, somebody else's words or a longer text."""
    said = clauses(text)
    stances = frozenset(clause.stance for clause in said)
    return stances if len(said) <= 3 and stances <= {Stance.ASSERTED, Stance.INTENDED, Stance.TRIED} else frozenset()


def _strangers(older: Sequence[Claim], newer: Sequence[Claim]) -> bool:
    """The texts are about different people: "I", "Ana", "my aunt". Two descriptions ("a man", "the person") may well be of one."""
    if not older or not newer or older[0].subject == newer[0].subject:
        return False
    subjects = [claim.subject for claim in (older[0], newer[0])]
    described = [not subject or subject.startswith(("a ", "the ")) or subject.split()[0] in _NOBODY for subject in subjects]
    return not all(described) and not (any(described) and not any(subject.split()[0] in _PERSONS for subject in subjects if subject))


_PERSONS = frozenset("i we he she you my our his her their".split())


def _alike(a: str, b: str, similarity: Similarity) -> Relation:
    """Duplicate, refines or unrelated."""
    laid, closeness = _lay(a, b), bounded(similarity(a, b))
    least, most = sorted((laid.covered_a, laid.covered_b))
    if laid.negated[0] != laid.negated[1] or _claims_anything(a) != _claims_anything(b):
        return Relation(RelationKind.UNRELATED, 0.6, "one denies, asks or supposes and the other does not")
    if _values_differ(a, b):
        return Relation(RelationKind.UNRELATED, 0.7, "numbers or dates differ")
    few = min(len(laid.a), len(laid.b)) < 8  # then each word carries more of the meaning
    if closeness >= SAME_MEANING and least >= (0.75 if few else 0.6):
        return Relation(RelationKind.DUPLICATE, bounded(0.5 * (closeness + least)), "the same in other words")
    if closeness >= 0.6 and most >= 0.9 and least < most:
        return Relation(RelationKind.REFINES, closeness, "one says what the other says, and more")
    return Relation(RelationKind.UNRELATED, bounded(1 - 0.5 * closeness * least), "they say different things")


def _claims_anything(text: str) -> bool:
    return any(clause.stance not in (Stance.ASKED, Stance.SUPPOSED) for clause in clauses(text))


def _values_differ(a: str, b: str) -> bool:
    """Each text has a number or moment that the other lacks; leaving one out is only less exact."""
    one, other = ({(value.kind, value.value) for value in values(text) if value.kind != "name"} for text in (a, b))
    return bool(one - other) and bool(other - one)
