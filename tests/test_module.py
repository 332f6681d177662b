"""Modules in the engine: the same as PEFT makes of them, on their request alone, and the base bit for bit when detached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import CONTEXT, TEXT, chat, tiny_model, tiny_tokenizer

from memos_core.cube import ParameterForm
from memos_core.errors import IdentityMismatch, InvalidInput
from memos_core.hf import HFEngine
from memos_core.hf.cache import Layout
from memos_core.hf.lowrank import LowRank, linear_layers
from memos_core.hf.module import Module, TrainedPrefix, low_rank_config, prefix_config

FORMS = list(ParameterForm)
ASKED = chat("What now?", system=TEXT)


def random_module(engine: HFEngine, form: ParameterForm, seed: int = 0, size: float = 0.3) -> Module:
    generator = torch.Generator().manual_seed(seed)
    if form is ParameterForm.PREFIX:
        layout = engine.reusable(engine.identity, 0)
        assert isinstance(layout, Layout)
        (group,) = layout.groups
        prefix = TrainedPrefix(torch.randn(5, len(layout.windows) * 2 * group.heads * group.dim, generator=generator))
        return Module(prefix_config(prefix, layout, None), prefix)
    factors = {
        name: (
            torch.randn(4, layer.in_features, generator=generator) * size,
            torch.randn(layer.out_features, 4, generator=generator) * size,
        )
        for name, layer in linear_layers(engine.model).items()
        if name.endswith(("q_proj", "v_proj", "down_proj"))
    }
    weights = LowRank(factors, 2.0, form is ParameterForm.ALORA)
    return Module(low_rank_config(weights, None, tuple(invocation(engine))), weights)


def invocation(engine: HFEngine) -> list[int]:
    whole, without = engine.tokens(ASKED), engine.tokens(ASKED, add_generation_prompt=False)
    return whole[len(without) :]


def by_peft(engine: HFEngine, module: Module, folder: Path, ids: list[int], new: int) -> tuple[torch.Tensor, list[int]]:
    """Logits behind the prompt, and greedy tokens, of PEFT over the saved directory."""
    module.to_directory(folder)
    fresh = tiny_model(engine.model.config.model_type)
    model = PeftModel.from_pretrained(fresh, str(folder))
    model.eval()
    inputs = torch.tensor([ids])
    output = model.generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=new,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.logits[0][0], output.sequences[0, len(ids) :].tolist()


@pytest.fixture
def fresh() -> HFEngine:
    return HFEngine(tiny_model("llama"), tiny_tokenizer())


@pytest.mark.parametrize("form", FORMS)
def test_it_is_what_peft_makes_of_the_saved_directory(fresh: HFEngine, form: ParameterForm, tmp_path: Path) -> None:
    module = random_module(fresh, form)
    logits, tokens = by_peft(fresh, module, tmp_path / "module", fresh.tokens(ASKED), 8)
    for _ in range(2):  # the second starts from what the first has kept
        with fresh.activate(module):
            reply = fresh.generate(ASKED, max_new_tokens=8)
            torch.testing.assert_close(fresh.next_token_logits(ASKED), logits, atol=1e-4, rtol=1e-4)
        assert list(reply.token_ids) == tokens
    assert reply.reused_tokens > 0
    assert Module.from_directory(tmp_path / "module").key == module.key == Module.from_bytes(module.to_bytes()).key


@pytest.mark.parametrize("form", FORMS)
def test_detached_the_model_is_bit_for_bit_the_base(fresh: HFEngine, form: ParameterForm) -> None:
    before, plain = fresh.next_token_logits(ASKED, reuse=False), fresh.generate(ASKED, max_new_tokens=8)
    weights = {name: tensor.clone() for name, tensor in fresh.model.state_dict().items()}
    with fresh.activate(random_module(fresh, form)):
        other = fresh.generate(ASKED, max_new_tokens=8)
    assert other.token_ids != plain.token_ids
    assert torch.equal(fresh.next_token_logits(ASKED, reuse=False), before)
    again = fresh.generate(ASKED, max_new_tokens=8)  # over what is kept: nothing of the module's
    assert again.token_ids == plain.token_ids
    assert all(torch.equal(weights[name], tensor) for name, tensor in fresh.model.state_dict().items())
    assert not any(module._forward_hooks for module in fresh.model.modules())


def test_kv_of_the_base_is_reused_under_an_activated_module_alone(fresh: HFEngine) -> None:
    prompt = len(fresh.tokens(ASKED))
    fresh.generate(ASKED, max_new_tokens=4)
    with fresh.activate(random_module(fresh, ParameterForm.ALORA)):
        assert fresh.generate(ASKED, max_new_tokens=4).reused_tokens == prompt - len(invocation(fresh))
    for form in (ParameterForm.LORA, ParameterForm.PREFIX):
        with fresh.activate(random_module(fresh, form)):
            assert fresh.generate(ASKED, max_new_tokens=4).reused_tokens == 0


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_several_is_what_one_by_one_gives(fresh: HFEngine, form: ParameterForm) -> None:
    module, other = random_module(fresh, form), random_module(fresh, ParameterForm.LORA, seed=3)
    asked = [chat(text, system=TEXT) for text in ("What now?", "Why the dose?", "Remember Ana.", "Nine.")]
    wanted: dict[str, list[Module]] = {"Why the dose?": [module], "Remember Ana.": [module, other]}
    fresh.route("test", lambda messages, plan, scope: wanted.get(messages[-1]["content"], []))
    one_by_one = [fresh.generate(each, max_new_tokens=6, reuse=False) for each in asked]
    together = fresh.generate_batch(asked, max_new_tokens=6)
    assert [reply.token_ids for reply in together] == [reply.token_ids for reply in one_by_one]
    fresh.route("test", None)
    base = [fresh.generate(each, max_new_tokens=6) for each in asked]
    assert [a.token_ids == b.token_ids for a, b in zip(base, one_by_one, strict=True)] == [True, False, False, True]


def test_ranking_and_streams_are_under_it_as_well(fresh: HFEngine) -> None:
    module = random_module(fresh, ParameterForm.ALORA)
    answers = ["nine", "Ana", "the dose"]
    plain = fresh.rank(ASKED, answers)
    with fresh.activate(module):
        under = dict(fresh.rank(ASKED, answers))
        stream = fresh.stream(ASKED, max_new_tokens=4)
        steps = [dict(fresh.rank(ASKED, [answer]))[answer] for answer in answers]
    assert under != dict(plain)
    assert [under[answer] for answer in answers] == pytest.approx(steps, abs=1e-4)
    text = "".join(stream)  # read outside: what acts was decided when it was asked for
    with fresh.activate(module):
        assert fresh.generate(ASKED, max_new_tokens=4).text == text


def test_several_add_up_and_two_beginnings_cannot(fresh: HFEngine) -> None:
    one, two = (random_module(fresh, ParameterForm.LORA, seed) for seed in (1, 2))
    with fresh.activate(one, two):
        both = fresh.next_token_logits(ASKED)
    with fresh.activate(two), fresh.activate(one, one):
        torch.testing.assert_close(fresh.next_token_logits(ASKED), both, atol=1e-5, rtol=1e-5)
    with fresh.activate(one):
        assert not torch.allclose(fresh.next_token_logits(ASKED), both, atol=1e-3)
    prefixes = [random_module(fresh, ParameterForm.PREFIX, seed) for seed in (1, 2)]
    with pytest.raises(InvalidInput, match="two trained prefixes"), fresh.activate(*prefixes):
        pass


def test_a_prefix_takes_room_of_the_context_and_gives_way_to_one_that_is_there(fresh: HFEngine) -> None:
    one, two = (random_module(fresh, ParameterForm.PREFIX, seed) for seed in (1, 2))
    with fresh.activate(one):
        alone = fresh.next_token_logits(ASKED)
        fresh.route("test", lambda messages, plan, scope: [two])
        torch.testing.assert_close(fresh.next_token_logits(ASKED), alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(fresh.next_token_logits(ASKED), alone, atol=1e-2)
    fresh.route("test", None)
    longest = CONTEXT - len(fresh.tokens(chat("")))
    text = next(text for count in range(longest, 0, -1) if len(fresh.tokens(chat(text := "7" * count))) <= CONTEXT - 2)
    assert len(fresh.generate(chat(text), max_new_tokens=9).token_ids) <= 3
    with fresh.activate(one), pytest.raises(InvalidInput, match="reads at most"):  # its five tokens stand before them
        fresh.generate(chat(text), max_new_tokens=9)


def test_a_module_of_another_model_is_refused(fresh: HFEngine) -> None:
    wider = HFEngine(tiny_model("llama", hidden_size=64), tiny_tokenizer())
    with pytest.raises(IdentityMismatch, match="another model"), fresh.activate(random_module(wider, ParameterForm.LORA)):
        pass
    deeper = HFEngine(tiny_model("llama", num_hidden_layers=3), tiny_tokenizer())
    with pytest.raises(InvalidInput, match="another model"), fresh.activate(random_module(deeper, ParameterForm.PREFIX)):
        pass
    recurrent = HFEngine(tiny_model("mamba"), tiny_tokenizer())
    with pytest.raises(InvalidInput, match="takes no modules"), recurrent.activate(random_module(fresh, ParameterForm.LORA)):
        pass


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"use_dora": True}, "use_dora"), ({"bias": "all"}, "bias"), ({"modules_to_save": ["lm_head"]}, "modules_to_save")],
)
def test_what_is_no_plain_lora_says_so(settings: Any, says: str, tmp_path: Path) -> None:
    model = get_peft_model(tiny_model("llama"), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], **settings))
    model.save_pretrained(str(tmp_path))
    with pytest.raises(InvalidInput, match=says):
        Module.from_directory(tmp_path)


def test_directories_that_are_none(fresh: HFEngine, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="safetensors"):
        Module.from_directory(tmp_path / "nowhere")
    (tmp_path / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(InvalidInput, match=r"adapter_model\.bin.*nothing is unpickled"):
        Module.from_directory(tmp_path)
    module = random_module(fresh, ParameterForm.LORA)
    module.to_directory(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(InvalidInput, match="cannot be read"):
        Module.from_directory(tmp_path)
    data = module.to_bytes()
    with pytest.raises(InvalidInput, match="no module"):
        Module.from_bytes(data[:-3])
