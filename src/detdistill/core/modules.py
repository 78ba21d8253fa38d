"""Holding a module, and running it without leaving a trace in it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Self, TypeVar

import torch
from torch import nn

from detdistill.core.errors import DetdistillError

Thing = TypeVar("Thing")
Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def modes_kept(*modules: nn.Module) -> Iterator[None]:
    """Afterwards every submodule is in its own mode again, training or evaluation, frozen ones too."""
    modes = {part: part.training for module in modules for part in module.modules()}
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def evaluating(module: Module) -> Module:
    """Return a module in evaluation mode, without a change of the given one, so that several threads may ask for it.

    Args:
        module: Returned itself if all its submodules are in evaluation mode already.

    Returns:
        The module, or a copy in evaluation mode that shares its parameters and buffers.

    Raises:
        DetdistillError: The module is in training mode and cannot be copied.
    """
    if not any(part.training for part in module.modules()):
        return module
    # What the memo has is shared instead of copied.
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    try:
        return copy.deepcopy(module, shared).eval()
    except Exception as error:  # a module of the user's own may hold anything
        raise DetdistillError(
            f"{type(module).__name__} is in training mode and cannot be copied into evaluation mode ({error}): call "
            "its eval() first"
        ) from error


@contextmanager
def buffers_kept(*modules: nn.Module) -> Iterator[None]:
    """Afterwards all buffers are as before: batch norm counts what it sees in a forward pass."""
    before = {buffer: buffer.clone() for module in modules for buffer in module.buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before.items():
                # A graph that is still to be walked may hold a buffer that nobody has changed.
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


@contextmanager
def untouched(*modules: nn.Module, seed: int = 0) -> Iterator[None]:
    """Afterwards modes, buffers, gradients and the random state are as before; inside, gradients start at None.

    Args:
        modules: what is tried out.
        seed: of the random numbers inside.
    """
    gradients = {parameter: parameter.grad for module in modules for parameter in module.parameters()}
    for parameter in gradients:
        parameter.grad = None
    try:
        # Of the GPUs only those in use: to touch another one costs half a gigabyte there.
        gpus = list({parameter.device for parameter in gradients if parameter.is_cuda})
        with modes_kept(*modules), buffers_kept(*modules), torch.random.fork_rng(devices=gpus):
            torch.default_generator.manual_seed(seed)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(seed)
            yield
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient


class Held(Generic[Thing]):
    """Holds something that is only looked at.

    Being no module itself, it keeps the held one out of `parameters()`, `state_dict()`, `train()` and deep copies of
    the module that it is an attribute of.

    Args:
        thing: what is held.
    """

    def __init__(self, thing: Thing) -> None:
        self.thing = thing

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
