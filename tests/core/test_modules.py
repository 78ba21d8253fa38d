from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from detdistill.core.errors import DetdistillError
from detdistill.core.modules import buffers_kept, evaluating, modes_kept, untouched


def network() -> nn.Sequential:
    """In training, but for its second normalization, which is frozen."""
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.BatchNorm1d(4))
    made[3].eval()
    return made


def test_every_part_gets_its_own_mode_back() -> None:
    module = network()
    with modes_kept(module):
        module.eval()
        module[3].train()
    assert [part.training for part in module.modules()] == [True, True, True, True, False]


def test_a_copy_in_evaluation_mode_shares_the_weights_and_leaves_the_modes() -> None:
    module = network()
    values = {name: value.clone() for name, value in module.state_dict().items()}
    copied = evaluating(module)
    assert not any(part.training for part in copied.modules())
    copied(torch.randn(5, 3))
    assert [part.training for part in module.modules()] == [True, True, True, True, False]
    assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())
    assert [*map(id, copied.parameters())] == [*map(id, module.parameters())]
    assert [*map(id, copied.buffers())] == [*map(id, module.buffers())]
    assert evaluating(module.eval()) is module
    module[1].train()
    assert evaluating(module) is not module, "one part in training mode is enough"


def test_a_module_that_cannot_be_copied_is_told() -> None:
    module = network()
    module.kept = module(torch.randn(5, 3))  # in a graph
    with pytest.raises(DetdistillError, match=r"Sequential is in training mode .*eval\(\)"):
        evaluating(module)


def test_what_batch_norm_counted_is_forgotten() -> None:
    module = network()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with buffers_kept(module):
        module(torch.randn(5, 3))
        assert any(not torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.named_buffers())


def test_buffers_in_a_graph_can_still_be_walked_through() -> None:
    module = network().eval()
    with buffers_kept(module):
        loss = module(torch.randn(5, 3)).sum()
    torch.autograd.backward(loss)
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize("fails", [False, True])
def test_no_trace_is_left_even_of_what_failed(fails: bool) -> None:
    module = network()
    torch.autograd.backward(module(torch.randn(5, 3)).sum())
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    values = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with contextlib.suppress(ZeroDivisionError), untouched(module):
        assert all(parameter.grad is None for parameter in module.parameters())
        torch.autograd.backward(module.eval()(torch.randn(5, 3)).sum())
        module.train()(torch.randn(5, 3))
        if fails:
            raise ZeroDivisionError
    assert torch.equal(torch.rand(2), expected)
    assert all(parameter.grad is gradients[name] for name, parameter in module.named_parameters())
    assert all(torch.equal(value, values[name]) for name, value in module.state_dict().items())
    assert [part.training for part in module.modules()] == [True, True, True, True, False]


def test_inside_the_seed_decides() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.rand(3)
        with untouched(network(), seed=seed):
            drawn.append(torch.rand(2))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[1], drawn[2])
