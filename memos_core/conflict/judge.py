"""Ask a language model what two texts have to do with each other; whatever it says, only a valid answer counts. Pure.

The model is any callable from prompt to text. What it writes is parsed as JSON and validated; anything else is no answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Model = Callable[[str], str]

LONGEST = 2_000
"""Characters of each text that are shown to the model."""
_PROMPT = """Two notes about the same person or topic. The first was written before the second. What does the second have to do with the first?

- "duplicate": it says the same
- "refines": it says the same and adds detail, or says part of it
- "contradicts": both cannot be true at the same time of the same subject, or it replaces what the first says
- "unrelated": anything else; both can be true

First: {first}
Second: {second}

Answer with one JSON object and nothing else, such as {{"relation": "unrelated", "confidence": 0.8, "update": false, "why": "different people"}}.
"update" is true when the second replaces the first as a change over time."""


class Verdict(BaseModel):
    """What a model answered, checked."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    relation: Literal["duplicate", "refines", "contradicts", "unrelated"]
    confidence: float = Field(ge=0, le=1, allow_inf_nan=False)
    update: bool = False
    why: str = ""


def ask(model: Model, first: str, second: str) -> Verdict | None:
    """The model's verdict, or None when its answer is not a valid one. Errors of the call itself are the caller's and pass through."""
    answer = model(
        _PROMPT.format(first=json.dumps(first[:LONGEST], ensure_ascii=False), second=json.dumps(second[:LONGEST], ensure_ascii=False))
    )
    return verdict(answer)


def verdict(answer: object) -> Verdict | None:
    """The first JSON object in the answer that is a valid verdict."""
    if not isinstance(answer, str):
        return None
    decoder, start = json.JSONDecoder(), answer.find("{")
    for _ in range(8):  # a model may think aloud in braces, not for ever
        if start < 0:
            return None
        try:
            return Verdict.model_validate(decoder.raw_decode(answer, start)[0])
        except (json.JSONDecodeError, ValidationError, RecursionError):
            start = answer.find("{", start + 1)
    return None
