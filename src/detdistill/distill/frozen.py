"""The teacher's holder."""

from __future__ import annotations

from typing import Generic, Self, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class Frozen(Generic[Module]):
    """Holds a module that is only looked at.

    Being no module itself, it keeps the held one out of `parameters()`, `state_dict()`, `train()` and deep copies of
    the module that it is an attribute of.

    Args:
        module: is put into evaluation mode and gets no gradient from now on.
    """

    def __init__(self, module: Module) -> None:
        self.module = module.eval().requires_grad_(requires_grad=False)

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def move_to(self, device: torch.device) -> None:
        """Moves the module to a device, unless it is there."""
        parameter = next(self.module.parameters(), None)
        if parameter is not None and parameter.device != device:
            self.module.to(device)
