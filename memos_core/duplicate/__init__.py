"""Whether two texts say the same thing in the same words, so that keeping one of them loses nothing. Pure.

Exact: equal normal forms. Near: the same words, give or take articles and fillers, in an order that says the same: clauses and
adjuncts may change places, who does what to whom may not. A word, number, name, date or negation that only one of them has blocks.
Paraphrase is not looked for: it needs understanding, and a wrong merge costs a memory where a missed one costs a line.

Candidates to compare come by `bag_key`, which texts of the same words share, so that a store can index it; or by
`coarse.Near`, the nearest fingerprints of a scope. Source: ours; the guard follows the usual order of near-duplicate detection (candidates by
signature, then verification: Broder 1997, Manku et al. 2007).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b, sha256
from itertools import pairwise

from memos_core.analyse import words
from memos_core.duplicate.normal import SENTENCE, Reading, normal_form, read

LEAST_COSINE = 0.5
"""Below it two vectors are of different things whatever the words: a check that text and vector belong together, hence so low."""
REACH = 4
MOST_WORDS = 1000
"""Words that two parts which change places may have in common at their edges; words up to which order is looked into at all."""
SAME_MOMENT = timedelta(hours=12)
ENOUGH, ENOUGH_IN_CONTEXT, ENOUGH_AT_A_MOMENT, MANY_WORDS = 2, 4, 8, 8
"""How many words of content, and words at all, make a repetition out of the same words said twice: see `repeats`."""

_LIGHT = frozenset("a an the oh ah um uh er erm hmm really very quite".split())
_NEGATIONS = frozenset("not no never none nobody nothing neither nor nowhere without hardly barely minus".split())
_NAYS = frozenset("👎🚫❌🙅✖💔")
_DAYS = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september october november december "
    "today yesterday tomorrow tonight morning noon afternoon evening night week month year spring summer autumn fall winter weekend".split()
)
_JOINING = frozenset("and or but".split())
_STARTERS = frozenset(
    "about above across after against along among around at before behind below beside besides between beyond by despite during except for from in "
    "inside into near next on onto over past since through throughout to toward towards under until till up upon via with within without because if "
    "when whenever while although though unless as so then once whereas last this every each".split()
)
_ADVERBS = frozenset(
    "today yesterday tomorrow tonight now recently lately usually often sometimes later soon again however maybe perhaps luckily unfortunately "
    "fortunately finally honestly eventually monday tuesday wednesday thursday friday saturday sunday".split()
)
"""Words that begin an adjunct, and adverbs that are one."""
_AUXILIARIES = frozenset("do does did is are was were am have has had can could will would should shall may might".split())
_SUBJECTS = frozenset(
    "i you he she it we they there this that these those your his her my our their the a an anyone anybody someone".split()
)
_ASKING = frozenset("what where when who whom whose why how which".split())
_ASKING_AT_ONCE = frozenset("whats wheres whos hows whens whys".split())
_OPENING = frozenset("does did is are was were am has could would should".split())
_ASKING_MORE = frozenset("about kind sort type many much long often far old come else".split())
_CONTEXTUAL = frozenset(
    "it its this that these those they them their he him his she her here there you your again more previous next".split()
)
"""Words whose meaning is in what was said before."""
_MOMENT = re.compile(
    r"\b(?:today|yesterday|tomorrow|tonight|ago|recently|currently|now|(?:this|last|next) (?:morning|afternoon|evening|night|weekend|week|month|year))\b"
)
_PHATIC = """hey hi hello bye goodbye good morning afternoon evening night thanks thank welcome please sorry yes yeah yep no nope ok okay sure right great
    nice cool awesome amazing wonderful fantastic lovely sweet wow congrats congratulations lol haha hahaha sounds sound look looks care luck see glad
    happy hope agree exactly absolutely definitely totally true course problem worries talk catch day fun wait today tomorrow tonight yesterday"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two texts are the same, how sure that is (0 to 1), and why."""

    same: bool
    confidence: float
    why: str


@dataclass(frozen=True, slots=True)
class Said:
    """A text, who said it and when, as far as known."""

    text: str
    speaker: str | None = None
    at: datetime | None = None


def content_hash(text: str) -> bytes:
    """sha256 of the normal form: equal for exact duplicates."""
    return sha256(normal_form(text).encode("utf-8", "surrogatepass")).digest()


def bag_key(text: str, secret: bytes = b"") -> bytes:
    """16 bytes, equal for all texts of the same letters and figures whatever their order: nearly every pair that `same` calls the same.

    The exceptions are numbers and articles within a hyphenated word that one of them writes in one ("first-timer", "firsttimer").
    secret: up to 64 bytes that keep the key from being guessed at; destroy it with the text.
    """
    letters = sorted("".join(word for word in read(text).words if word not in _LIGHT))
    return blake2b("".join(letters).encode("utf-8", "surrogatepass"), digest_size=16, key=secret).digest()


# ---------------------------------------------------------------------- two texts
def same(a: str, b: str, cosine: float = 1.0) -> Verdict:
    """Whether two texts say the same in the same words. cosine: of their vectors. Symmetric; never raises."""
    if normal_form(a) == normal_form(b):
        return Verdict(True, 1.0, "the same words")
    if not cosine >= LEAST_COSINE:  # also for one that is not a number
        return Verdict(False, 0.99, f"their vectors are far apart (cosine {cosine:.2f})")
    ours, theirs = _readings(a), _readings(b)
    if blocked := _differing_tone(ours[0], theirs[0]):
        return Verdict(False, 0.95, blocked)
    matching = [(one, other) for one in ours for other in theirs if one.words and Counter(one.words) == Counter(other.words)]
    if not matching:
        return Verdict(False, 0.95, _difference(ours[0], theirs[0], a + " " + b))
    if any(one.words == other.words for one, other in matching):
        return Verdict(True, 0.98, "the same words but for punctuation and fillers")
    if len(ours[0].words) > MOST_WORDS:
        return Verdict(False, 0.5, "the same words in another order, too long to compare")
    if any(_same_order(one, other) or _same_order(other, one) for one, other in matching):
        return Verdict(True, 0.9, "the same clauses in another order")
    return Verdict(False, 0.8, "the same words in an order that may say something else")


def repeats(a: Said, b: Said, cosine: float = 1.0) -> Verdict:
    """Whether one message says again what another said, so that they can be one memory with two sources. Symmetric.

    Only of one speaker, and only when there is enough in the text: "Thanks!" or "Good morning" said twice are two utterances, each
    with its place in its conversation. What hangs on its context ("I like it", "Can you explain that?") needs more, for it means
    another thing elsewhere; and what hangs on its moment ("I ran 5 km this morning") is another event on another day, unless so
    much of it is the same that it must have been copied.
    """
    if (a.speaker or "").casefold() != (b.speaker or "").casefold():
        return Verdict(False, 1.0, "said by different people")
    apart = a.at is not None and b.at is not None and abs(a.at - b.at) > SAME_MOMENT
    if not (_enough(a.text, apart) and _enough(b.text, apart)):
        return Verdict(False, 0.9, "too little in it to tell a repetition from the same words said again")
    return same(a.text, b.text, cosine)


def _enough(text: str, apart: bool) -> bool:
    content, found = len(set(words(text)) - _phatic()), read(text).words
    if content < ENOUGH or (apart and content < ENOUGH_AT_A_MOMENT and _MOMENT.search(" ".join(found))):
        return False
    return content >= ENOUGH_IN_CONTEXT or len(found) >= MANY_WORDS or not _CONTEXTUAL.intersection(found)


@lru_cache(maxsize=1)
def _phatic() -> frozenset[str]:
    return frozenset(words(_PHATIC))


def _readings(text: str) -> tuple[Reading, ...]:
    """A text as written, and with its hyphens and dashes left out where that makes other words. Without fillers."""
    spaced, joined = (_without_fillers(read(text, joined)) for joined in (False, True))
    return (spaced,) if spaced.words == joined.words else (spaced, joined)


def _without_fillers(reading: Reading) -> Reading:
    kept: list[str] = []
    marks: dict[int, str] = {}
    for position, word in enumerate(reading.words, 1):
        if word not in _LIGHT:
            kept.append(word)
        if position in reading.marks and kept:
            marks[len(kept)] = reading.marks[position] if marks.get(len(kept)) != SENTENCE else SENTENCE
    return Reading(tuple(kept), marks, reading.asks, reading.emoji)


# ---------------------------------------------------------------------- the guard
def _differing_tone(a: Reading, b: Reading) -> str | None:
    """Why two readings cannot say the same whatever their words; None if they can."""
    if a.asks != b.asks and not _asks_anyway(*((b, a) if a.asks else (a, b))):
        return "one asks and the other states"
    if a.emoji != b.emoji and ((a.emoji and b.emoji) or _NAYS.intersection((*a.emoji, *b.emoji))):
        return f"emoji differ: {''.join(a.emoji) or 'none'} and {''.join(b.emoji) or 'none'}"
    return None


def _asks_anyway(unmarked: Reading, marked: Reading) -> bool:
    """A text without a question mark may ask all the same: by its words, or because its writer does not end sentences."""
    if not _sentence_ends(unmarked) and len(_sentence_ends(marked)) > 1:
        return True
    if _ASKING_AT_ONCE.intersection(unmarked.words) or (unmarked.words[:1] and unmarked.words[0] in _OPENING):
        return True
    starts = [0, *unmarked.marks]
    for position, (first, second) in enumerate(pairwise(unmarked.words)):
        if first in _ASKING and (second in _AUXILIARIES or second in _ASKING_MORE):
            return True
        inverted = position in starts or unmarked.words[position - 1] in _ASKING or not unmarked.marks
        if inverted and first in _AUXILIARIES and second in _SUBJECTS:
            return True
    return False


def _difference(a: Reading, b: Reading, written: str) -> str:
    """What words only one of two readings has, by what they are."""
    ours, theirs = Counter(a.words) - Counter(b.words), Counter(b.words) - Counter(a.words)
    names = {name.lower() for name in re.findall(r"(?<=[^.!?\s] )[A-Z]\w+", written)}
    differing = {*ours, *theirs}
    if differing & _NEGATIONS:
        kind = "negation differs"
    elif any(word[0].isdigit() for word in differing):
        kind = "numbers differ"
    elif differing & _DAYS:
        kind = "dates differ"
    elif differing & names:
        kind = "names differ"
    else:
        kind = "words differ"
    return f"{kind}: {' '.join(sorted(ours)) or 'nothing'} and {' '.join(sorted(theirs)) or 'nothing'}"


# ---------------------------------------------------------------------- order
def _same_order(a: Reading, b: Reading) -> bool:
    """Whether b is a with one adjunct or clause moved, two clauses around an "and" exchanged, or its sentences in another order."""
    return _one_move(a, b) or _exchanged(a, b) or _sentences_moved(a, b)


def _one_move(a: Reading, b: Reading) -> bool:
    """Two neighbouring parts of a have changed places, and either both are whole clauses or one is an adjunct."""
    x, y, n = a.words, b.words, len(a.words)
    prefix = next((i for i in range(n) if x[i] != y[i]), n)
    suffix = next((i for i in range(n) if x[n - 1 - i] != y[n - 1 - i]), n)
    # the parts may begin with the same words, which the common beginning has swallowed ("in spring in Rome"); likewise at the end
    for start in range(max(0, prefix - REACH), prefix + 1):
        for end in range(max(n - suffix, start + 2), min(n, n - suffix + REACH) + 1):
            for middle in range(start + 1, end):
                if x[middle] == y[start] and (*x[middle:end], *x[start:middle]) == y[start:end] and _legitimate(a, b, start, middle, end):
                    return True
    return False


def _legitimate(a: Reading, b: Reading, start: int, middle: int, end: int) -> bool:
    first, second = a.words[start:middle], a.words[middle:end]
    there, least = start + len(second), min(len(first), len(second))
    whole = _edge(a, b, start) and _edge(a, b, end)
    movable = (_adjunct(first) or _adjunct(second)) if whole else (_adjunct(first) and _adjunct(second))
    if movable and not any(start < position < end for reading in (a, b) for position in _sentence_ends(reading)):
        return True  # within its sentence only: "I met Ana. Ben came on Monday."
    return whole and (_parted(a, b, middle, there, least) or _parted(b, a, there, middle, least))


def _parted(a: Reading, b: Reading, here: int, there: int, least: int) -> bool:
    """Whether two parts that meet at `here` in a and at `there` in b are parted by punctuation in a, and not joined in b.

    In b they are parted likewise, or its writer leaves such marks out; then there must be more to them than in "Ana, Ben called."
    and "ben called ana". least: the number of words of the shorter.
    """
    if here not in a.marks or there in b.marks:
        return here in a.marks
    inner = [mark for position, mark in b.marks.items() if position < len(b.words)]
    if a.marks[here] == SENTENCE and SENTENCE not in inner:
        return len(a.words) >= 5
    return least >= (4 if inner else 2)


def _edge(a: Reading, b: Reading, position: int) -> bool:
    """A clause begins or ends here, in one of two readings that agree up to or from this position."""
    n = len(a.words)
    if position in (0, n) or position in a.marks or position in b.marks:
        return True
    return a.words[position - 1] in _JOINING or a.words[position] in _JOINING


def _adjunct(part: Sequence[str]) -> bool:
    return part[0] in _ADVERBS or (part[0] in _STARTERS and len(part) > 1)


def _exchanged(a: Reading, b: Reading) -> bool:
    """ "X and Y" against "Y and X", where both are all of one sentence."""
    edges = sorted({0, *_sentence_ends(a), *_sentence_ends(b), len(a.words)})
    for start, end in pairwise(edges):
        for position in range(start + 2, end - 2):
            if a.words[position] in _JOINING:
                turned = (*a.words[position + 1 : end], a.words[position], *a.words[start:position])
                if b.words == (*a.words[:start], *turned, *a.words[end:]):
                    return True
    return False


def _sentences_moved(a: Reading, b: Reading) -> bool:
    """The sentences of a make up b in another order. Those of one or two words answer what stands before them and must stay."""
    sentences = list(_sentences(a))
    if len(sentences) < 2 or any(len(sentence) < 3 for sentence in sentences):
        return False
    return _tiled(b.words, tuple(sorted(sentences, key=len, reverse=True)))


def _sentences(reading: Reading) -> Iterator[tuple[str, ...]]:
    for start, end in pairwise(sorted({0, *_sentence_ends(reading), len(reading.words)})):
        yield reading.words[start:end]


def _sentence_ends(reading: Reading) -> list[int]:
    return [position for position, mark in reading.marks.items() if mark == SENTENCE]


def _tiled(rest: tuple[str, ...], tiles: tuple[tuple[str, ...], ...]) -> bool:
    """Whether the tiles, each used once, make up the rest; of those that fit, the longest goes first."""
    position, left = 0, list(tiles)
    while left:
        fitting = next((tile for tile in left if rest[position : position + len(tile)] == tile), None)
        if fitting is None:
            return False
        left.remove(fitting)
        position += len(fitting)
    return position == len(rest)
