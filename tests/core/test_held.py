from __future__ import annotations

import copy

from torch import nn

from detdistill.core.modules import Held


class Owner(nn.Module):
    def __init__(self, held: nn.Module) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.held = Held(held)


def test_what_is_held_is_no_part_of_its_owner() -> None:
    held = nn.BatchNorm1d(3).eval()
    owner = Owner(held).train()
    assert not held.training
    assert set(owner.state_dict()) == {"own.weight", "own.bias"}
    assert len(list(owner.parameters())) == 2
    assert list(owner.buffers()) == []
    assert copy.deepcopy(owner).held.thing is held
