"""Products of few rows, divided among threads: the stock product within rounding, and the model as before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from tiny_models import tiny_model

from memos_core.hf.decode import running
from memos_core.hf.linear import LEAST_CELLS, MOST_ROWS, divided, dividing


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 1), (2, 17), (MOST_ROWS,), (1, MOST_ROWS)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_product_is_the_stock_one(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(600, 700, bias=bias)
    x = torch.randn(*shape, 600)
    with torch.no_grad():
        found, stock = divided(x, layer.weight, layer.bias), layer(x)
    assert found is not None and found.shape == stock.shape
    torch.testing.assert_close(found, stock, atol=1e-5, rtol=1e-5)


def test_what_is_left_to_the_stock_product() -> None:
    weight, x = torch.randn(700, 600), torch.randn(1, 600)
    with torch.no_grad():
        assert divided(x, weight, None) is not None
        assert divided(torch.randn(MOST_ROWS + 1, 600), weight, None) is None
        assert divided(torch.randn(0, 600), weight, None) is None
        assert divided(x, torch.randn(701, 600), None) is None  # not to be divided by two
        assert divided(x, torch.randn(600, 700).t(), None) is None
        assert divided(x.double(), weight.double(), None) is None
        assert divided(torch.randn(1, 100), torch.randn(LEAST_CELLS[True] // 100 - 2, 100), None) is None
        torch.set_num_threads(1)
        assert divided(x, weight, None) is None
        torch.set_num_threads(2)
    assert divided(x, weight, None) is None  # gradients are wanted


def test_modules_are_as_before_afterwards_and_other_threads_see_no_change() -> None:
    layer = torch.nn.Linear(600, 700)
    kept = torch.nn.Linear(600, 700)
    kept.forward = lambda x: x  # type: ignore[method-assign]
    x = torch.randn(1, 600)
    with torch.no_grad():
        stock = layer(x)
    seen = []
    with pytest.raises(ZeroDivisionError), dividing([layer, kept, torch.nn.LayerNorm(3)]):
        assert "forward" in layer.__dict__

        def elsewhere() -> None:
            with torch.no_grad():
                seen.append(layer(x))

        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        assert kept(x) is x
        raise ZeroDivisionError
    assert "forward" not in layer.__dict__ and kept(x) is x
    assert torch.equal(seen[0], stock)


def test_a_model_is_as_before_after_running() -> None:
    model = tiny_model()
    before = [dict(module.__dict__) for module in model.modules()]
    with running(model):
        pass
    assert [dict(module.__dict__) for module in model.modules()] == before
