"""What is asked, or answered, again and again in one form: prompt templates and instructions, read from a log. Pure.

Templates are aligned word by word, what differs becoming a slot. Source: MemOS §4.1 (strategic behaviour that is repeatedly triggered
becomes activation memory); aligning messages into templates is what log parsers do (Drain, He et al. 2017). The rules are ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from memos_core.cube import CubeId
from memos_core.parse.sentences import sentences

LEAST_WORDS = 4
"""An order of fewer words of its own is small talk."""
LEAST_WORDS_OF_OTHERS = 8
"""The same of what is no order."""
LEAST_AGREEMENT = 0.6
"""Which share of a form's own words a message must have, in order, to be of that form; of the first two messages, of the shorter one half
as much."""
LONGEST = 300
"""Words of a message that is looked at."""

_PIECE = re.compile(r"\s+|\w+|[^\w\s]")
_ORDER = frozenset(
    """act address adopt always answer assume avoid be begin check cite compare convert do don draft end explain extract follow format give
    highlight ignore include keep limit list make mention name never note only output please provide reply respond return rewrite say
    show sort speak start state stay stick structure suggest summarise summarize tell think translate use write""".split()
)
_Token = str | None  # a word, what stands between words, or a slot


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a log."""

    id: CubeId
    role: str
    session: str
    text: str


@dataclass(frozen=True, slots=True)
class Habit:
    """A form that came up in several sessions. text: of a template with {slots}, of an instruction as it was said. role: who says it.

    ids: the messages it was read from, oldest first. sessions: how many.
    """

    kind: Literal["template", "instruction"]
    text: str
    role: str
    ids: tuple[CubeId, ...]
    sessions: int


def habits(log: Sequence[Said], least_sessions: int) -> list[Habit]:
    """Templates and instructions that came up in so many sessions or more, those of most sessions first."""
    found = [habit for role in ("user", "assistant") for habit in _templates([said for said in log if said.role == role], least_sessions)]
    fixed = " ".join(_plain(habit.text) for habit in found)
    found += [habit for habit in _instructions(log, least_sessions) if _plain(habit.text) not in fixed]
    return sorted(found, key=lambda habit: (-habit.sessions, habit.kind, habit.text))


@dataclass(slots=True)
class _Form:
    pieces: list[_Token]
    words: frozenset[str]
    members: list[Said]


def _templates(log: Sequence[Said], least: int) -> list[Habit]:
    groups: dict[str, list[_Form]] = {}
    for said in log:
        pieces: list[_Token] = list(_PIECE.findall(said.text.strip()))
        words = _words(pieces)
        if not LEAST_WORDS <= len(words) <= LONGEST:
            continue
        forms = groups.setdefault(words[0].casefold(), [])
        for form in forms:
            own = _words(form.pieces)
            needed = LEAST_AGREEMENT * len(own) if len(form.members) > 1 else LEAST_AGREEMENT / 2 * min(len(own), len(words))
            needed = max(LEAST_WORDS, needed)
            if len(form.words.intersection(words)) < min(needed, len(form.words)):
                continue
            merged = _aligned(form.pieces, pieces)
            if len(_words(merged)) >= needed:
                form.pieces, form.words = merged, frozenset(_words(merged))
                form.members.append(said)
                break
        else:
            forms.append(_Form(pieces, frozenset(words), [said]))
    made = []
    for form in (form for forms in groups.values() for form in forms):
        sessions = {said.session for said in form.members}
        if len(sessions) >= least and None in form.pieces and _says_something(form.pieces):
            made.append(_habit("template", _written(form.pieces), form.members, len(sessions)))
    return made


def _says_something(pieces: list[_Token]) -> bool:
    words = _words(pieces)
    return len(words) >= (LEAST_WORDS if words[0].casefold() in _ORDER else LEAST_WORDS_OF_OTHERS)


def _aligned(form: list[_Token], pieces: list[_Token]) -> list[_Token]:
    """The form that both are of: what they have in common in order, and a slot wherever they differ."""
    matcher = SequenceMatcher(None, [each or "\0" for each in form], [each or "\0" for each in pieces], autojunk=False)
    merged: list[_Token] = []
    at_form = at_pieces = 0
    for block in matcher.get_matching_blocks():
        if block.a > at_form or block.b > at_pieces:
            merged.append(None)
        merged += form[block.a : block.a + block.size]
        at_form, at_pieces = block.a + block.size, block.b + block.size
    return _absorbed(merged)


def _absorbed(pieces: list[_Token]) -> list[_Token]:
    """Slots with no more between them than a chance has put there are one slot."""
    merged: list[_Token] = []
    run: list[_Token] = []
    for piece in [*pieces, ""]:
        if piece is not None and piece != "":
            run.append(piece)
            continue
        between_slots = merged and merged[-1] is None and piece is None
        if not (between_slots and _is_chance(run)):
            merged += run
            if piece is None:
                merged.append(None)
        run = []
    return merged


def _is_chance(run: list[_Token]) -> bool:
    words = _words(run)
    divides = any(piece and (piece == ":" or "\n" in piece) for piece in run)
    return (not words and not divides) or (len(words) == 1 and len(words[0]) <= 3 and not divides)


def _words(pieces: Iterable[_Token]) -> list[str]:
    return [piece for piece in pieces if piece and (piece[0].isalnum() or piece[0] == "_")]


def _written(pieces: list[_Token]) -> str:
    """As a template: a slot is called by the word before it, or by its number."""
    text, last = "", ""
    names: list[str] = []
    for piece in pieces:
        if piece is not None:
            text += piece.replace("{", "{{").replace("}", "}}")
            last = piece if _words([piece]) else last
            continue
        name = last.casefold() if last.isidentifier() and len(last) > 3 else "value"
        same = sum(each == name or each.startswith(f"{name}_") for each in names)
        names.append(name if not same else f"{name}_{same + 1}")
        text += f"{{{names[-1]}}}"
    return text.strip()


def _instructions(log: Sequence[Said], least: int) -> list[Habit]:
    """Orders that stand beside ever different text."""
    found: dict[str, tuple[str, dict[CubeId, Said]]] = {}
    for said in log:
        if said.role != "user":
            continue
        for start, end in sentences(said.text):
            sentence = said.text[start:end]
            if is_order(sentence) and len(_plain(sentence)) < len(_plain(said.text)):
                found.setdefault(_plain(sentence), (sentence, {}))[1].setdefault(said.id, said)
    made = []
    for sentence, members in found.values():
        sessions = {said.session for said in members.values()}
        if len(sessions) >= least:
            made.append(_habit("instruction", sentence, list(members.values()), len(sessions)))
    return made


def is_order(sentence: str) -> bool:
    """Whether a sentence tells somebody what to do."""
    words = _words(list(_PIECE.findall(sentence)))
    return len(words) >= LEAST_WORDS and words[0].casefold() in _ORDER and not sentence.rstrip().endswith(("?", "!"))


def without(text: str, sentence: str) -> str:
    """A message without that sentence of it."""
    kept, at = "", 0
    for start, end in sentences(text):
        if _plain(text[start:end]) == _plain(sentence):
            kept += text[at:start]
            at = end
    return " ".join((kept + text[at:]).split())


def _plain(text: str) -> str:
    return " ".join(word.casefold() for word in _words(list(_PIECE.findall(text))))


def _habit(kind: Literal["template", "instruction"], text: str, members: Sequence[Said], sessions: int) -> Habit:
    return Habit(kind, text, members[0].role, tuple(dict.fromkeys(said.id for said in members)), sessions)
