"""What a message says that is worth having by itself: standing wishes, preferences, events, facts; by rules, or by a model where one is given.

Extraction adds and never replaces: the verbatim message is kept elsewhere, and each fact cites it. Whatever a model answers, nothing is raised for it: an
answer that does not hold is dropped, the rules take its place, and `problems` says so. Pure but for the model's own call.
Source: MemOS §4.1 (parsing into structured memory). The rules are in `standing`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal

from json_repair import loads as repaired
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from memos_core.analyse import words
from memos_core.cube import SemanticType
from memos_core.errors import InvalidInput
from memos_core.parse.standing import Found, StandingInstruction, rules, standing

__all__ = ["Extraction", "Fact", "Found", "Said", "StandingInstruction", "extract", "prompt", "rules", "standing"]

Model = Callable[[str], str]
"""A prompt -> the model's answer."""

PROMPT_CHARACTERS = 12_000
"""Messages of one prompt, some 3,000 tokens, so that a small model with its answer is not overrun. More go into further prompts."""
MESSAGE_CHARACTERS = 4_000
"""Of one message in a prompt; what lies beyond is kept verbatim like the rest and is not shown to the model."""

_PROMPT = """Below is a conversation. List what it says that is worth remembering for later: facts about people, things and projects,
lasting preferences and instructions, and dated events. Leave out greetings, questions and requests of the moment. Write each as one
sentence that can be understood alone, with names instead of pronouns.

Answer with JSON alone, in this form:
{"facts": [{"text": "...", "sources": ["1"], "type": "fact", "path": ["task", "concept"], "time": "2024-05-31"}]}
sources: the numbers of the messages that say it. type: fact, preference or event. path: two short names of what it belongs to, or [].
time: when it happened, or null.
When there is nothing to remember, answer {"facts": []}.

"""


# ------------------------------------------------------------------ values
@dataclass(frozen=True, slots=True)
class Said:
    """A message to extract from."""

    id: str
    text: str
    speaker: str | None = None
    at: datetime | None = None


def _short_path(path: object) -> object:
    parts = path.split("/") if isinstance(path, str) else path or ()
    return tuple(part.strip() for part in parts if isinstance(part, str) and part.strip())[:3] if isinstance(parts, (list, tuple)) else ()


def _iso(value: object) -> str | None:
    """ISO text of a date or time, else None: a fact without a time is better than none."""
    if not isinstance(value, str):
        return None
    if re.fullmatch(r"\d{4}(-(0[1-9]|1[0-2]))?", value.strip()):  # a year or a month is a time too
        return value.strip()
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            return read(value.strip()).isoformat()
        except ValueError:
            continue
    return None


def _not_blank(text: str) -> str:
    if not text.strip() or any(0xD800 <= ord(character) < 0xE000 for character in text):
        raise ValueError("is blank or cannot be stored")
    return text.strip()


class Fact(BaseModel):
    """One extracted fact. sources: ids of the messages that say it. time: when it happened, ISO, as far as it was said."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    text: Annotated[str, Field(max_length=1000), AfterValidator(_not_blank)]
    sources: Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(lambda given: _as_ids(given))]
    semantic_type: Annotated[Literal[SemanticType.FACT, SemanticType.PREFERENCE, SemanticType.EVENT], Field(alias="type")] = (
        SemanticType.FACT
    )
    path: Annotated[tuple[str, ...], BeforeValidator(_short_path)] = ()
    time: Annotated[str | None, BeforeValidator(_iso)] = None


def _as_ids(given: object) -> object:
    given = [given] if isinstance(given, (str, int)) else given
    return tuple(str(item).strip(" #[]") for item in given if isinstance(item, (str, int))) if isinstance(given, (list, tuple)) else given


@dataclass(frozen=True, slots=True)
class Extraction:
    """facts: what was found. by: what found them, "rules" when any of it is the rules' work. problems: what was wrong with the model, a line for each."""

    facts: tuple[Fact, ...]
    by: Literal["model", "rules"]
    problems: tuple[str, ...] = ()


# ------------------------------------------------------------------ with a model
def extract(messages: Sequence[Said], model: Model | None = None) -> Extraction:
    """Facts of the messages, by the model, and by the rules for whatever the model did not answer properly.

    An error of the model's call (a network that is down) is a problem like any other; KeyboardInterrupt and its kind pass.
    """
    ids = [message.id for message in messages]
    if len(set(ids)) != len(ids):
        raise InvalidInput("two messages have the same id; facts could not say which one they cite")
    facts: list[Fact] = []
    problems: list[str] = []
    ruled = model is None
    for batch in _batches(messages):
        found = _asked(batch, model, problems) if model is not None else None
        ruled = ruled or found is None
        facts += by_rules(batch) if found is None else found
    return Extraction(tuple(dict.fromkeys(facts)), "rules" if ruled else "model", tuple(problems))


def by_rules(messages: Sequence[Said]) -> list[Fact]:
    """The messages' sentences that are facts, preferences or events, verbatim."""
    return [
        Fact(text=found.text[:1000], sources=(message.id,), semantic_type=found.kind)
        for message in messages
        for found in rules(message.text)
    ]


def prompt(messages: Sequence[Said]) -> str:
    """What a model is asked. Messages are numbered from 1: small models copy numbers better than ids."""
    return _PROMPT + "\n".join(_line(number, message) for number, message in enumerate(messages, 1)) + "\n"


def _line(number: int, message: Said) -> str:
    when = f" ({message.at.date().isoformat()})" if message.at else ""
    text = message.text if len(message.text) <= MESSAGE_CHARACTERS else message.text[:MESSAGE_CHARACTERS] + " …"
    return f"[{number}]{when} {' '.join((message.speaker or 'user').split())[:80]}: {text}"


def _batches(messages: Sequence[Said]) -> Iterator[list[Said]]:
    batch: list[Said] = []
    size = 0
    for message in messages:
        length = len(_line(len(batch) + 1, message)) + 1
        if batch and size + length > PROMPT_CHARACTERS:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += length
    if batch:
        yield batch


def _asked(batch: Sequence[Said], model: Model, problems: list[str]) -> list[Fact] | None:
    """The model's facts that hold; None when its answer is of no use."""
    try:
        answer: object = model(prompt(batch))
    except Exception as error:  # noqa: BLE001  whatever a caller's model raises, the message is not lost for it
        problems.append(f"the model raised {type(error).__name__}: {str(error)[:200]}")
        return None
    given = _facts_in(answer)
    if given is None:
        problems.append(f"the model's answer holds no list of facts: {str(answer)[:80]!r}")
        return None
    facts, before = [], len(problems)
    for position, raw in enumerate(given):
        try:
            facts.append(_grounded(Fact.model_validate(raw), batch))
        except ValidationError as error:
            problems.append(f"fact {position} is invalid: {error.errors(include_url=False)[0]['msg']}")
        except InvalidInput as error:
            problems.append(f"fact {position} {error}")
    return facts if facts or len(problems) == before else None


def _facts_in(answer: object) -> list[Any] | None:
    """The list of facts in an answer, whatever stands around it: talk, a fence, broken JSON."""
    if not isinstance(answer, str):
        return None
    start = re.search(r"\{\s*['\"]?facts", answer) or re.search(r"[{\[]", answer)
    if start is None:
        return None
    try:
        found: Any = repaired(answer[start.start() :])
    except (ValueError, RecursionError):  # nested beyond what can be parsed
        return None
    for item in (found, *(found if isinstance(found, list) else ())):
        if isinstance(item, dict) and isinstance(item.get("facts"), list):
            return list(item["facts"])
    if isinstance(found, dict) and "text" in found:
        return [found]
    return found if isinstance(found, list) and found and all(isinstance(item, dict) and "text" in item for item in found) else None


def _grounded(fact: Fact, batch: Sequence[Said]) -> Fact:
    """The fact with the messages' own ids. Raises InvalidInput for one that cites no message there is, or shares no word with those it cites."""
    known = {str(number): message for number, message in enumerate(batch, 1)}
    cited = [known[source] for source in fact.sources if source in known]
    if len(cited) < len(fact.sources):
        raise InvalidInput(f"cites a message that is not there: {', '.join(fact.sources)}")
    if not set(words(fact.text)) & {word for message in cited for word in words(message.text)}:
        raise InvalidInput("shares no word with the messages it cites")
    return fact.model_copy(update={"sources": tuple(dict.fromkeys(message.id for message in cited))})
