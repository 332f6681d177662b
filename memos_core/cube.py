"""MemCube: the unit of memory, a payload with three groups of metadata. Frozen values; no torch, no I/O.

Source: MemOS §4.1-4.2 (MemCube; descriptive identifiers, governance attributes, behavioural usage indicators).
A field is here only when something enforces it; later fields arrive together with the code that does.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from itertools import accumulate
from numbers import Integral
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from memos_core.errors import InvalidInput

CubeId = str
Scope = tuple[str, ...]
Actor = tuple[str, ...]

LOCAL_OWNER: Actor = ("local-owner",)
"""Who acts when a cube is addressed by its id and no actor is named: the person who holds the directory."""

MAX_TEXT_BYTES = 1 << 20

LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""Times are stored as seconds in double precision, by which what is later can round up into the year 10000."""


class State(StrEnum):
    """Where a cube is in its life. The transitions are in `lifespan.TRANSITIONS`."""

    ACTIVE = "active"
    CONTESTED = "contested"
    SUPERSEDED = "superseded"
    ARCHIVED = "archived"
    STALE = "stale"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


class Origin(StrEnum):
    """Where a cube's content came from (the paper's origin signature)."""

    USER_INPUT = "user input"
    INFERENCE_EXTRACTION = "inference extraction"
    EXTERNAL_RETRIEVAL = "external retrieval"
    PARAMETER_FINETUNING = "parameter finetuning"
    TRANSFORMATION = "transformation"


class SemanticType(StrEnum):
    """What a memory is for."""

    FACT = "fact"
    PREFERENCE = "preference"
    EVENT = "event"
    CONCEPT = "concept"
    TASK = "task"
    TASK_PROMPT = "task prompt"
    TEMPLATE = "template"
    SKILL = "skill"


class ActivationForm(StrEnum):
    """What an activation payload holds: KV, hidden states h^l_i, attention weights a^l_ij, or a steering vector."""

    KV = "kv"
    HIDDEN = "hidden"
    ATTENTION = "attention"
    STEERING = "steering"


class ParameterForm(StrEnum):
    """How a module holds memory: low-rank factors, the same from the last turn's invocation on alone, or a trained prefix."""

    LORA = "lora"
    ALORA = "alora"
    PREFIX = "prefix"


class Precision(StrEnum):
    """How the numbers of kept KV are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    INT4 = "int4"


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImagePart(Frozen):
    """An image of a message. blob: sha256 of its bytes, its name among the blobs. bytes: how many. caption: what makes it findable."""

    blob: str
    mime_type: str
    bytes: int
    caption: str | None = None


class Plaintext(Frozen):
    """Text that a person can read; the source of every derived payload. record: what it was made of, where it states part of a graph,
    or what the caller keeps with an entry.

    parts: images; each stands in the text as [image: caption].
    """

    kind: Literal["plaintext"] = "plaintext"
    text: str
    record: str | None = None
    parts: tuple[ImagePart, ...] = ()


class Steered(Frozen):
    """What a steering vector does at a strength, measured when it was made.

    effect: which share of the way from the predictions behind its negative examples to those behind its positive ones it covers, in
    Kullback-Leibler divergence, a mean over the pairs: 0 none, 1 all of it, below 0 the other way. perplexity: of ordinary text,
    steered / as it is.
    """

    strength: float
    effect: float
    perplexity: float


class Activation(Frozen):
    """Tensors that a model computed, kept in a blob.

    blob: sha256 of the safetensors file. prefix_key: of KV, chained hash of the token ids it stands for. tokens: how many.
    model: identity key of the engine that made it. system: of KV, the caller's system text that it was computed behind.
    precision: how its numbers are stored. divergence, agreement: what that lost, measured when it was made: the KL divergence of the
    predictions behind its last tokens in nats, and the share of them whose likeliest token stayed the same.
    shapes: of other forms, (layer, shape of its tensor). steered: of a steering vector, what it does.
    """

    kind: Literal["activation"] = "activation"
    form: ActivationForm
    blob: str
    prefix_key: str = ""
    tokens: int = 0
    bytes: int
    model: str
    system: str = ""
    shapes: tuple[tuple[int, tuple[int, ...]], ...] = ()
    steered: Steered | None = None
    precision: Precision = Precision.FLOAT32
    divergence: float = 0.0
    agreement: float = 1.0

    @property
    def exact(self) -> bool:
        """Whether predictions behind it are those of the text."""
        return self.divergence == 0


class Answer(Frozen):
    """How a module answered one held-out probe. fact: the cube that it is about. ranked: the right answer came first; said: it stood in
    the greedy answer. expected: what was right. believed: what the model alone says instead, where it is sure; else ""."""

    question: str
    expected: str
    fact: str
    ranked: bool
    said: bool
    believed: str = ""

    @property
    def passed(self) -> bool:
        return self.ranked and self.said


class Report(Frozen):
    """What a module was measured to do before it was let in. Shares are from 0 to 1; perplexities are with the module / without it.

    ranked, said: of held-out probes the right answer came first, or stood in the greedy answer. known: of what the base knew, still known.
    leaked: of questions about unknown names, answered with something taught; neighbours: the same with names half taught. text: perplexity
    of plain text; turns: of assistants' turns. unharmed: of open and in-context questions, how many are answered as well as before.
    failed: the measures that did not reach their threshold. seconds: CPU time of making it. answers: probe by probe.
    """

    ranked: float
    said: float
    known: float
    leaked: float
    neighbours: float
    text: float
    turns: float
    unharmed: float
    seconds: float
    failed: tuple[str, ...] = ()
    answers: tuple[Answer, ...] = ()


class Parameter(Frozen):
    """A module, kept in a blob: weights that hold memory.

    blob: sha256 of the safetensors file, bytes: of its tensors. base_model: identity key of the model that it is for. rank: of low-rank
    factors, targets: the layers that they add to. tokens: of a trained prefix. report: None for a module made elsewhere, which has a name,
    a description that requests are routed by, and a note on its licence.
    """

    kind: Literal["parameter"] = "parameter"
    form: ParameterForm
    blob: str
    bytes: int
    base_model: str
    rank: int = 0
    targets: tuple[str, ...] = ()
    tokens: int = 0
    report: Report | None = None
    name: str = ""
    description: str = ""
    licence: str = ""


Payload = Annotated[Plaintext | Activation | Parameter, Field(discriminator="kind")]


class Identifiers(Frozen):
    """Descriptive identifiers: what it is, when, and from where.

    created_at: written here (audit only). updated_at: when this version was written. occurred_at: when it was said.
    valid_from, valid_to: from when and until when it was true; None for no known bound.
    sources: the callers' ids of the messages it came from, verbatim. mentions: how many messages said it, merged ones included.
    speaker: who said it. path: task / concept, as given. fingerprint: of the text in what it was said in, 64 hexadecimal digits.
    collection, key: of an entry, what the caller keeps it under, unique in its scope; None for everything else.
    """

    created_at: datetime
    updated_at: datetime
    occurred_at: datetime
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    origin: Origin = Origin.USER_INPUT
    semantic_type: SemanticType = SemanticType.FACT
    path: tuple[str, ...] = ()
    fingerprint: str | None = None
    session: str | None = None
    role: str | None = None
    speaker: str | None = None
    sources: tuple[str, ...] = ()
    mentions: int = 1
    collection: str | None = None
    key: str | None = None


class Access(Frozen):
    """Who beyond the scope itself may act on the cube: actors, or groups that contain them."""

    read: tuple[Actor, ...] = ()
    write: tuple[Actor, ...] = ()


class Governance(Frozen):
    """Whose it is, who may see it, how long it lives, how much it matters.

    expires_at: from then on no recall shows it. priority: 0 (ordinary) to 1; raises rank and keeps KV longer.
    frozen: its KV is not given up for a budget or for other memory, only when what it was made of changes.
    least_precision: to what its KV may be reduced where room is short; None: not at all.
    tags: sensitivity tags; "no-training" keeps it out of weights.
    """

    scope: Scope
    owner: Actor
    access: Access = Access()
    expires_at: datetime | None = None
    priority: float = 0.0
    frozen: bool = False
    least_precision: Precision | None = None
    tags: tuple[str, ...] = ()


class Usage(Frozen):
    """How the cube has been used: a view over append-only events, composed when the cube is read.

    recalls: turns whose prompt held it (as text or KV) because recall brought it up. sessions: distinct ones.
    uses: turns whose answer came from it, as far as attention or the words in common tell. successes: of its turns, those that the caller
    said went well. tasks: distinct ones it was recalled for. tokens_saved: of prompts, that KV or a module made unnecessary to compute;
    seconds_saved: what computing them would have taken at the rate measured here; 0 without a local model.
    heat: recalls decayed by `lifespan.HEAT_HALF_LIFE`, at the time of reading.
    """

    recalls: int = 0
    uses: int = 0
    successes: int = 0
    sessions: int = 0
    tasks: int = 0
    tokens_saved: int = 0
    seconds_saved: float = 0.0
    last_used_at: datetime | None = None
    heat: float = 0.0


class MemCube(Frozen):
    """One memory: payload and metadata. Frozen; a change is a new version."""

    id: CubeId
    version: int
    state: State = State.ACTIVE
    payload: Payload
    identifiers: Identifiers
    governance: Governance
    usage: Usage = Usage()


def blob_of(payload: Payload) -> str | None:
    """The blob that a computed payload lives in; None for text."""
    return payload.blob if isinstance(payload, Activation | Parameter) else None


def text_of(cube: MemCube) -> str:
    """The text of a plaintext cube."""
    assert isinstance(cube.payload, Plaintext)
    return cube.payload.text


def with_fingerprint(cube: MemCube, fingerprint: str) -> MemCube:
    """The same cube with that fingerprint."""
    return cube.model_copy(update={"identifiers": cube.identifiers.model_copy(update={"fingerprint": fingerprint})})


def canonical(cube: MemCube) -> bytes:
    """The bytes that the version chain commits to: JSON without usage, which is not part of a version."""
    return cube.model_dump_json(exclude={"usage"}).encode()


_last_microsecond = [0]


def new_id() -> CubeId:
    """An unguessable id that sorts by time of creation: 14 hex digits of microseconds, 18 of randomness.

    Not derived from content: an id outlives its cube as a tombstone, and must not help to guess what was erased.
    """
    stamp = max(time.time_ns() // 1000, _last_microsecond[0] + 1)
    _last_microsecond[0] = stamp
    return f"{stamp:014x}{secrets.token_hex(9)}"


def as_scope(value: str | Iterable[str], what: str = "scope") -> Scope:
    """Check a scope or an actor: a non-empty string or tuple of them. Raises InvalidInput."""
    parts = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (tuple, list)) else None
    if not parts or any(not isinstance(part, str) or not part.strip() for part in parts):
        raise InvalidInput(f"{what} must be a non-empty string or a tuple of them, such as ('clinic', 'ana'); got {value!r}")
    if any(ord(character) < 32 for part in parts for character in part):
        raise InvalidInput(f"{what} {value!r} contains a control character; use printable names")
    if any(0xD800 <= ord(character) < 0xE000 for part in parts for character in part):
        raise InvalidInput(f"{what} {value!r} contains half a surrogate pair and cannot be stored as UTF-8")
    return parts


def scope_key(scope: Scope) -> str:
    """One text per scope; the key of a scope is a prefix of the keys below it, and of no other's."""
    return "".join(part + "\x1f" for part in scope)


def entry_key(collection: str, key: str) -> str:
    """One text per key of a collection; those of a collection, and of no other, begin with `entry_key(collection, "")`."""
    return f"{collection}\x1f{key}"


def scope_of_key(key: str) -> Scope:
    return tuple(key.split("\x1f")[:-1])


def ancestors(scope: Scope) -> tuple[Scope, ...]:
    """The scope and all above it, outermost first."""
    return tuple(accumulate(((part,) for part in scope), lambda a, b: a + b))


def contains(outer: Scope, inner: Scope) -> bool:
    """Whether `inner` is `outer` or lies below it."""
    return inner[: len(outer)] == outer


def as_id(value: object) -> CubeId:
    """Check a cube's id. Raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"a cube's id is a str, got {type(value).__name__}")
    return value


def as_count(value: object, what: str, least: int) -> int:
    """A whole number, NumPy's included. Raises InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InvalidInput(f"{what} must be a whole number from {least}, got {value!r}")
    return int(value)


def as_time(value: datetime | str | None, what: str, default: datetime | None = None) -> datetime:
    """An aware datetime in UTC, from one or from ISO text. Raises InvalidInput for a naive one."""
    if value is None:
        return default if default is not None else datetime.now(UTC)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidInput(f"{what} {value!r} is not ISO 8601 text such as '2026-03-01T18:00:00+00:00'") from error
    if not isinstance(value, datetime):
        raise InvalidInput(f"{what} must be a datetime or ISO text, got {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidInput(f"{what} {value.isoformat()} has no time zone; pass an aware one, such as datetime(..., tzinfo=timezone.utc)")
    try:
        at = value.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(f"{what} {value.isoformat()} lies outside the years 1 to 9999 in UTC") from error
    if at > LATEST:
        raise InvalidInput(f"{what} {value.isoformat()} cannot be kept: the latest time is {LATEST.isoformat()}. Leave out what has no end")
    return at


def as_validity(start: datetime | str | None, end: datetime | str | None) -> tuple[datetime | None, datetime | None]:
    """From when and until when something was true; None for no known bound. Raises InvalidInput."""
    since = None if start is None else as_time(start, "valid_from")
    until = None if end is None else as_time(end, "valid_to")
    if since is not None and until is not None and until <= since:
        raise InvalidInput(f"valid_to must be later than valid_from, got {since.isoformat()} to {until.isoformat()}")
    return since, until


def as_text(value: object, what: str = "text") -> str:
    """Check a text: not empty, storable, of bearable size. Raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a str, got {type(value).__name__}")
    if not value.strip():
        raise InvalidInput(f"{what} is empty; pass a text with something in it")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} holds half a surrogate pair at character {error.start}; decode it properly first") from error
    if size > MAX_TEXT_BYTES:
        raise InvalidInput(f"{what} has {size:,} bytes; the limit is {MAX_TEXT_BYTES:,}. Split it into passages and remember those")
    return value


def dumps(value: object) -> str:
    """JSON in one canonical form."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
