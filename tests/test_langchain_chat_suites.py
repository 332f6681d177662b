"""MemosChat under LangChain's suites for chat models: over an HFEngine (a tiny random model, and the real one) and around a chat model.

What the wrapped models cannot do is said by the suites' own flags, and those tests are skipped; nothing is marked as expected to fail:

- over these engines: templates that show no tools, hence no tool calls and no structured output (test_langchain_tools.py has one that
  does); no JSON mode; text alone, no images, PDFs or audio; one model, no override.
- around the rule-following chat model below, which calls tools: no JSON mode, text alone, no override.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import bag_of_words
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from tiny_models import tiny_model, tiny_tokenizer

from memos_core import MemOS
from memos_core.hf import HFEngine
from memos_integrations.langchain import MemosChat


class RuleFollower(BaseChatModel):
    """A chat model without weights: it calls the tool it was given with what it finds in the question, and else repeats what was said last."""

    @property
    def _llm_type(self) -> str:
        return "rule-follower"

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        return self.bind(tools=[convert_to_openai_tool(each)["function"] for each in tools], tool_choice=tool_choice, **kwargs)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        last, tools = messages[-1], {each["name"]: each for each in kwargs.get("tools", ())}
        question = last.text.rpartition("</memory>")[2]
        usage = {"input_tokens": sum(len(each.text.split()) for each in messages) + 1, "output_tokens": len(question.split()) + 1}
        usage["total_tokens"] = usage["input_tokens"] + usage["output_tokens"]
        about: dict[str, Any] = {"usage_metadata": usage, "response_metadata": {"model_name": "rule-follower"}}
        if tools and isinstance(last, HumanMessage):
            tool = tools.get(kwargs.get("tool_choice") or "", next(iter(tools.values())))
            wanted = tool.get("parameters", {}).get("properties", {})
            found = {name: self._argument(question, shape) for name, shape in wanted.items() if "default" not in shape}
            answer = AIMessage("", tool_calls=[{"name": tool["name"], "args": found, "id": f"call-{len(messages)}"}], **about)
        else:
            text = f"You said: {question}"
            answer = AIMessage(min((text.partition(mark)[0] for mark in stop or ()), key=len, default=text), **about)
        return ChatResult(generations=[ChatGeneration(message=answer)])

    @staticmethod
    def _argument(question: str, shape: dict[str, Any]) -> Any:
        if shape.get("type") in ("integer", "number"):
            return int((re.findall(r"-?\d+", question) or ["0"])[0])
        return (re.findall(r"'([^']+)'", question) or [question.strip()])[0]


MODELS: dict[str, Callable[[], Any]] = {
    "tiny": lambda: HFEngine(tiny_model(max_position_embeddings=4096), tiny_tokenizer()),
    "smollm": HFEngine.load,
    "rules": RuleFollower,
}


@pytest.fixture(scope="class")
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MemOS, Any]]:
    """One memory and one model for a whole suite; each test has a scope of its own."""
    model = MODELS[request.cls.wraps]()
    engine = model if isinstance(model, HFEngine) else None
    with MemOS.open(tmp_path_factory.mktemp("suite") / "m", embedder=bag_of_words, engine=engine) as memos:
        yield memos, model
    if engine is not None:
        engine.close()


class Remembering:
    """What both suites ask of a test class."""

    wraps = "rules"
    own: dict[str, Any] = {}  # noqa: RUF012  a constant

    @pytest.fixture(autouse=True)
    def _memory(self, request: pytest.FixtureRequest, opened: tuple[MemOS, Any]) -> None:
        self.memos, self.model_inside = opened
        self.scope = ("suite", request.node.name)
        self.memos.remember("Ana is allergic to penicillin.", scope=self.scope)

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return MemosChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"memos": self.memos, "scope": self.scope, "model": self.model_inside, **self.own}

    supports_model_override = False


class OverEngine(Remembering):
    wraps = "tiny"
    has_tool_calling = False
    has_tool_choice = False
    has_structured_output = False


class TestTinyUnit(OverEngine, ChatModelUnitTests):
    pass


class TestTiny(OverEngine, ChatModelIntegrationTests):
    own = {"max_tokens": 24}  # noqa: RUF012


@pytest.mark.real
class TestSmolLM(OverEngine, ChatModelIntegrationTests):
    wraps = "smollm"
    own = {"max_tokens": 4}  # noqa: RUF012


class TestAroundAChatModelUnit(Remembering, ChatModelUnitTests):
    pass


class TestAroundAChatModel(Remembering, ChatModelIntegrationTests):
    pass
