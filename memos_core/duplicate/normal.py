"""Texts that say the same in another notation read the same: case, punctuation, contractions, numbers, times and dates. Pure.

`normal_form` is what an exact duplicate is recognised by. `read` gives the same words with what a closer look needs: where the
punctuation stood, whether it asks, which emoji it bears. The notation is English; of other languages only case, punctuation and
width are evened out. Source: Unicode NFKC and case folding; the rules of notation are ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

SENTENCE, CLAUSE = ".", ","
"""Marks in a stream of words: the end of a sentence, the end of a part of one."""

_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = {name: number for number, name in enumerate(_MONTHS, 1)}
_MONTH |= {name[:3]: number for name, number in _MONTH.items()} | {"sept": 9}
_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_CARDINAL = {word: value for value, word in enumerate(_UNITS.split())} | {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
_SCALE = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_ORDINALS = "1st first 2nd second 3rd third 4th fourth 5th fifth 6th sixth 7th seventh 8th eighth 9th ninth 10th tenth".split()
_CURRENCY = {"$": "dollars", "€": "euros", "£": "pounds"}
_SPELLED = {
    "noon": "12pm", "midnight": "0:00", "&": "and", "percent": "%", "usd": "dollars", "dollar": "dollars", "eur": "euros", "euro": "euros",
    **dict(zip(_ORDINALS[1::2], _ORDINALS[::2], strict=True)),
}  # fmt: skip
_EXPANDED = {
    "cannot": "can not", "cant": "can not", "wont": "will not", "shant": "shall not",
    **{f"{verb}nt": f"{verb} not" for verb in "do does did is are was were have has had could would should might must need".split()},
}  # fmt: skip
_PRONOUNS = frozenset("i you he she it we they who what there that".split())
_CONTRACTED = {
    ("i", "am"): "im", ("let", "us"): "lets",
    **{(word, "is"): f"{word}s" for word in "he she it who what where how there that here".split()},
    **{(word, "are"): f"{word}re" for word in "you we they".split()},
    **{(word, "have"): f"{word}ve" for word in "i you we they".split()},
    **{(word, "will"): f"{word}ll" for word in "i you he she it we they that".split()},
}  # fmt: skip
"""Both ways to one form that also fits what is written without an apostrophe: "don't", "dont" as "do not"; "it is", "it's" as "its".
Not "has", "had" and "would": "he'd read" may be either, and "he had read" is not "he would read"."""

_LETTER = r"[a-z\x80-\U0010ffff]"  # of a folded text, once `_plain` has seen to the rest
_GROUPED = re.compile(r"(?<![\d.,])\d{1,3}(?:[,'’\u00a0\u202f\u2009]\d{3})+(?![\d,])")  # not by a plain space: it may part two numbers
_CLOCK = re.compile(r"(?<![\d:.])(\d{1,2})(?:[:.]([0-5]\d))? ?([ap])(?:\. ?m\b\.?|m\b)")
_O_CLOCK = re.compile(r"\b(\d{1,2}) ?o'? ?clock\b")
_HOURS = re.compile(r"(?<![\d:.])0(\d:[0-5]\d)(?![\d:])")
_NAMES = "|".join(sorted(_MONTH, key=len, reverse=True))
_MONTH_DAY = re.compile(rf"\b({_NAMES})\.? (\d\d?)(?:st|nd|rd|th)?\b(?![:.,/]\d| ?%| ?[ap]\.?m\b)(?:,? ((?:19|20)\d\d)\b)?")
_DAY_MONTH = re.compile(rf"(?:\bthe )?(?<![\d:.,/$€£-])\b(\d\d?)(?:st|nd|rd|th)?(?: of)? ({_NAMES})\b(?:\.?,? ((?:19|20)\d\d)\b)?")
_JOINT = re.compile(rf"(?<={_LETTER})[-.,:;!?…/()]+(?={_LETTER})")
_HYPHEN = re.compile(rf"(?<={_LETTER})-(?={_LETTER})")
_DIGIT = re.compile(r"\d")
_FIGURE = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_MINUS = re.compile(r"(?<![^\s(])-(?=\d)")
_PIECE = re.compile(
    rf"""{_LETTER}(?:\d|{_LETTER})*(?:(?<=\bc)(?:\+\+|\#))?
       | \d\d?(?::\d\d)?[ap]m\b            # a time of day
       | \d{{4}}-\d\d-\d\d\b               # a date
       | \d+(?:[.:/]\d+)*(?:(?:st|nd|rd|th)\b)?
       | [$%&+=<>|]
       | [.!?\n]+ | [,;:()\[\]{{}}"/\\-]""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as words in one notation. marks: how many words lie before a mark of punctuation -> SENTENCE or CLAUSE.

    asks: it has a question mark. emoji: those it bears, sorted.
    """

    words: tuple[str, ...]
    marks: dict[int, str]
    asks: bool
    emoji: tuple[str, ...]


def normal_form(text: str) -> str:
    """The words of a text in one notation, joined by spaces, with a "?" behind if it asks; of a text without words, itself, folded.

    A normal form is its own normal form. Two texts with the same one say the same. Never raises.
    """
    form = _form(text)
    for _ in range(8):  # rules may feed each other where they meet ("a s s"); nearly always nothing is left to do
        again = _form(form)
        if again == form:
            break
        form = again
    return form


def _form(text: str) -> str:
    found = read(text)
    parts = (*found.words, *found.emoji)
    return " ".join((*parts, "?") if found.asks and parts else parts) or " ".join(_fold(text).split())


def read(text: str, joined: bool = False) -> Reading:
    """A text's words in one notation. joined: what a hyphen, dash or stop parts without a space is one word, as when it is left out."""
    plain = _plain(_fold(_GROUPED.sub(lambda found: re.sub(r"\D", "", found[0]), text)))
    plain = _JOINT.sub("", plain) if joined else _HYPHEN.sub(" ", plain)
    words: list[str] = []
    marks: dict[int, str] = {}
    emoji: list[str] = []
    for piece in _spelled(_numbers(_contractions(_PIECE.findall(plain)))):
        if piece in (SENTENCE, CLAUSE):
            if words and marks.get(len(words)) != SENTENCE:
                marks[len(words)] = piece
        elif _kind(piece[0]) == "emoji":
            emoji.append(piece)
        else:
            words.append(piece)
    return Reading(tuple(words), marks, "?" in plain, tuple(sorted(emoji)))


# ---------------------------------------------------------------------- characters
def _fold(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _plain(text: str) -> str:
    """A folded text with other scripts' punctuation as ours, symbols apart, apostrophes gone; times and dates in one notation."""
    if not text.isascii():
        text = "".join(_translated(character) for character in text)
    if _DIGIT.search(text):
        text = _MINUS.sub("minus ", text)
        text = _O_CLOCK.sub(r"\1:00", _CLOCK.sub(_clock, text))
        text = _MONTH_DAY.sub(lambda found: _date(found[0], found[2], found[1], found[3]), _HOURS.sub(r"\1", text))
        text = _DAY_MONTH.sub(lambda found: _date(found[0], found[1], found[2], found[3]), text)
    return text.replace("per cent", "percent").translate(_DROPPED)


_DROPPED = str.maketrans("", "", "'`*_~^")


@lru_cache(maxsize=8192)
def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in "LNM" and not "\ufe00" <= character <= "\ufe0f":  # marks spell words in many scripts; not these, which pick a glyph
        return "word"
    return {"So": "emoji", "Sm": "symbol", "Sc": "symbol", "Pd": "dash"}.get(
        category, {"P": "mark", "Z": "space"}.get(category[0], "nothing")
    )


@lru_cache(maxsize=8192)
def _translated(character: str) -> str:
    if character.isascii() or (kind := _kind(character)) == "word":
        return character
    if character in "’‘ʼ´":
        return "'"
    if character in "。…؟।":
        return "?" if character == "؟" else "."
    return {"emoji": f" {character} ", "symbol": f" {character} ", "dash": ", ", "mark": ",", "space": " "}.get(kind, "")


def _clock(found: re.Match[str]) -> str:
    hour, minute, half = int(found[1]), found[2] or "00", found[3]
    if not 1 <= hour <= 12:
        return found[0]
    if hour == 12 and half == "a":
        return f"0:{minute}"
    if hour < 12 and half == "p":
        return f"{hour + 12}:{minute}"
    return f"{hour}{'' if minute == '00' else ':' + minute}{half}m"


def _date(whole: str, day: str, month: str, year: str | None) -> str:
    if not 1 <= int(day) <= 31:
        return whole
    return f"{year}-{_MONTH[month]:02}-{int(day):02}" if year else f"{_MONTHS[_MONTH[month] - 1]} {int(day)}"


# ---------------------------------------------------------------------- words
def _contractions(pieces: list[str]) -> list[str]:
    """ "don t" and "don't" as "do not", "it is" as "its"; marks as SENTENCE or CLAUSE; a new line alone is a CLAUSE."""
    held: list[str] = []
    for piece in pieces:
        if held and _clitic(held[-1], piece):
            held[-1] += piece
        elif piece.strip(".!?\n") == "":
            held.append(SENTENCE if piece.strip() else CLAUSE)
        else:
            held.append(CLAUSE if piece in ',;:()[]{}"/\\-' else piece)
    spelled: list[str] = []
    for word in (word for piece in held for word in _EXPANDED.get(piece, piece).split()):
        short = _CONTRACTED.get((spelled[-1], word)) if spelled else None
        spelled[-1:] = [short] if short else [*spelled[-1:], word]
    return spelled


def _clitic(word: str, piece: str) -> bool:
    if piece == "s":
        return word.isalpha()
    if piece == "t":
        return word.isalpha() and word.endswith("n")
    return piece in ("ll", "re", "ve", "m", "d") and word in _PRONOUNS


def _numbers(pieces: list[str]) -> Iterator[str]:
    """Number words as figures: "two hundred and five" as 205; "2.5 million" and "5k" as the whole number."""
    position = 0
    while position < len(pieces):
        piece, following = pieces[position], pieces[position + 1] if position + 1 < len(pieces) else ""
        scale = 1000 if following == "k" else _SCALE.get(following)
        if scale and _FIGURE.fullmatch(piece):
            value = round(float(piece) * scale, 6)
            yield str(int(value)) if value.is_integer() else str(value)
            position += 2
        elif piece in _CARDINAL or piece in _SCALE or (piece in ("a", "an") and following in _SCALE):
            number, position = _number(pieces, position)
            yield str(number)
        else:
            yield piece
            position += 1


def _number(pieces: list[str], position: int) -> tuple[int, int]:
    """The number whose words start at a position, and where they end."""
    if pieces[position] in _CARDINAL:
        current, position = _below_hundred(pieces, position)
    else:  # "a hundred", "hundred"
        current, position = 1, position + (pieces[position] in ("a", "an"))
    total, least = 0, 10**12
    while position < len(pieces):
        piece = pieces[position]
        small = position + (piece == "and" and position + 1 < len(pieces))
        if current and _SCALE.get(piece, least) < least and not (piece == "hundred" and current >= 100):
            current *= _SCALE[piece]
            position += 1
            if piece != "hundred":
                total, current, least = total + current, 0, _SCALE[piece]
        elif pieces[small] in _CARDINAL and current % 100 == 0 and total + current >= 100:
            more, position = _below_hundred(pieces, small)
            current += more
        else:
            break
    return total + current, position


def _below_hundred(pieces: list[str], position: int) -> tuple[int, int]:
    value = _CARDINAL[pieces[position]]
    unit = _CARDINAL.get(pieces[position + 1], 0) if value >= 20 and position + 1 < len(pieces) else 0
    return (value + unit, position + 2) if 1 <= unit <= 9 else (value, position + 1)


def _spelled(stream: Iterator[str]) -> Iterator[str]:
    """One spelling of ordinals, currencies, percent; a currency's sign as a word behind the number."""
    sign = ""
    for piece in stream:
        if sign and not piece[0].isdigit():
            yield sign
            sign = ""
        if piece in _CURRENCY and not sign:
            sign = _CURRENCY[piece]
            continue
        yield _SPELLED.get(piece, piece)
        if sign:
            yield sign
            sign = ""
    if sign:
        yield sign
