from __future__ import annotations

import copy

import torch
from torch import nn

from detdistill.distill.frozen import Frozen


class Owner(nn.Module):
    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.held = Frozen(held)


def test_what_is_held_is_no_part_of_its_owner() -> None:
    held = nn.BatchNorm1d(3)
    owner = Owner(held).train()
    assert not held.training
    assert not any(parameter.requires_grad for parameter in held.parameters())
    assert set(owner.state_dict()) == {"own.weight", "own.bias"}
    assert len(list(owner.parameters())) == 2
    assert list(owner.buffers()) == []
    assert copy.deepcopy(owner).held.module is held


def test_moves_only_where_it_is_not() -> None:
    frozen = Frozen(nn.Linear(2, 2))
    before = frozen.module.weight
    frozen.move_to(torch.device("cpu"))
    assert frozen.module.weight is before
    frozen.move_to(torch.device("meta"))
    assert frozen.module.weight.device.type == "meta"


def test_a_module_without_parameters_stays_where_it_is() -> None:
    Frozen(nn.Identity()).move_to(torch.device("meta"))
