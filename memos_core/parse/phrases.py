"""Text to the noun phrases it is about, and from many texts to the label a person would give them. Pure.

Words are tagged with TextBlob's lexicon, which needs no model and no download. Labels weigh a phrase by how many of the texts
hold it and how rare it is elsewhere. Source: class-based TF-IDF as in BERTopic (Grootendorst 2022); the rules for phrases are ours.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache

from memos_core.analyse import words

_CODE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_LINK = re.compile(r"(?:https?://|www\.)\S+")
_CLITIC = re.compile(r"(?:n't|'(?:s|m|re|ve|ll|d))\b", re.IGNORECASE)
_ANNOTATION = re.compile(r"\[[^\]]{0,40}\b(?:photo|image|picture|video|gif)\b[^\]:]{0,20}:", re.IGNORECASE)
_WORDLIKE = re.compile(r"[^\W\d_][\w'-]*\Z")
_VAGUE = frozenset(
    """thing things lot lots way ways time times day days today yesterday tomorrow tonight week weeks month months year years weekend morning
    evening night afternoon kind kinds bit stuff people person guy guys hey hi hello thanks thank wow yeah yep ok okay one ones something
    anything everything nothing someone anyone everyone haha lol part parts moment moments fun idea ideas photo photos pic pics picture
    pictures image video hmm oh sense point matter course fact case example question questions answer help chance look feel feeling feelings
    good great awesome amazing nice cool best new more much many other same such last next first few own sure happy glad sorry right little
    big small old real really hard whole able fantastic wonderful incredible interesting beautiful special different important forward
    step steps place places life world love hope luck plan plans end start deal need needs want reason number man woman side area thought thoughts
    talk chat conversation message type sort set couple while change changes word words level issue issues problem problems code
    amount result results rest i'm congrats congratulations god gosh dude bro buddy yes no lately recently soon everyday hour hours minute minutes
    difference differences ya blast process processes tip tips others individuals worries sign signs hug hugs table quality detail details
    shot wonders tons bunch ton piece pieces deal folks buddies pal mate town spot spots stuffs vibe vibes haven treat gang minds mind
    awesome yup nope thats ill ive dont cant kinda gonna wanna gotta""".split()
)
LONGEST = 3
SAMPLE = 64
"""How many texts a label is read from, at most."""


@lru_cache(maxsize=8192)
def phrases(text: str) -> tuple[tuple[str, ...], ...]:
    """The noun phrases of a text in order, each of one to three words as they were written, code and links left out."""
    from textblob.en import tag  # type: ignore[import-untyped]  # its import takes a third of a second

    plain = _LINK.sub(" ", _CODE.sub(" ", text.replace("’", "'")))
    plain = _CLITIC.sub(" ", _ANNOTATION.sub(". ", plain))[:4000]
    found: list[tuple[str, ...]] = []
    run: list[tuple[str, str]] = []
    for word, kind in [*tag(plain), (".", ".")]:
        if _WORDLIKE.match(word) and len(word) > 1 and (kind.startswith(("NN", "JJ")) or (kind == "VBG" and run)):
            run.append((word, kind))
        else:
            _close(run, found)
            run = []
    return tuple(found)


def _close(run: list[tuple[str, str]], found: list[tuple[str, ...]]) -> None:
    """Keep what is a phrase of a run of nouns and adjectives: it ends in a noun, and neither begins nor ends vaguely."""
    while run and (not run[-1][1].startswith("NN") or run[-1][0].casefold() in _VAGUE):
        run.pop()
    while run and (run[0][0].casefold() in _VAGUE or not words(run[0][0])):
        run.pop(0)
    if run:
        found.append(tuple(word for word, _ in run[-LONGEST:]))


def stems(phrase: Sequence[str]) -> tuple[str, ...]:
    """What makes two phrases the same: the stemmed words that carry meaning."""
    return tuple(words(" ".join(phrase)))


def label(texts: Sequence[str], elsewhere: Sequence[str], names: Collection[str] = (), taken: Collection[str] = ()) -> str:
    """A short label for texts that belong together: the phrase, or the two, that tell them from the texts elsewhere.

    names: people who speak, folded: what everybody says of everything. taken: labels of the neighbours, not to be given again.
    "" when the texts hold no phrase.
    """
    inside, outside = _holders(texts[:SAMPLE], names), _holders(elsewhere[: 4 * SAMPLE], names)
    size, other = min(len(texts), SAMPLE), max(1, min(len(elsewhere), 4 * SAMPLE))
    scored = []
    for key, (count, surface) in inside.items():
        away = outside.get(key, (0, ""))[0] / other
        if size > 3 and count < 2 and len(inside) > 3:
            continue
        weight = count / size * math.log((1 + 1 / (2 * other)) / (away + 1 / (2 * other)) + 1) * (1 + 0.4 * (len(key) - 1))
        scored.append((-weight, surface.casefold(), surface, key))
    scored.sort()
    if not scored:
        return label(texts, elsewhere, (), taken) if names else ""
    chosen = [scored[0]]
    for item in scored[1:6]:
        if len(chosen) < 2 and not {*item[3]} & {*chosen[0][3]} and -item[0] > -0.5 * chosen[0][0]:
            chosen.append(item)
    first = chosen[0][2]
    both = " & ".join(item[2] for item in chosen)
    for proposal in (both, *(f"{first} & {item[2]}" for item in scored[1:12] if not {*item[3]} & {*chosen[0][3]}), first):
        if proposal not in taken:
            return proposal
    return next(f"{both} ({number})" for number in range(2, len(taken) + 3) if f"{both} ({number})" not in taken)


def _holders(texts: Sequence[str], names: Collection[str]) -> dict[tuple[str, ...], tuple[int, str]]:
    """For each phrase, and each noun that ends one: how many of the texts hold it, and how it is mostly written."""
    counts: Counter[tuple[str, ...]] = Counter()
    surfaces: dict[tuple[str, ...], Counter[str]] = {}
    for text in texts:
        seen = set()
        for phrase in phrases(text):
            for part in {phrase, phrase[-2:], phrase[-1:]}:
                key = stems(part)
                if len(key) != len(part) or any(word.casefold() in names for word in part):
                    continue
                surfaces.setdefault(key, Counter())[" ".join(part)] += 1
                seen.add(key)
        counts.update(seen)
    return {key: (count, min(surfaces[key].items(), key=lambda item: (-item[1], item[0]))[0]) for key, count in counts.items()}
