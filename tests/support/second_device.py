"""A second device on a machine that has none: what lies there is computed on the CPU, but never mixed with the CPU's.

Code for GPUs has an error of its own: a tensor that was made on the CPU, and forgotten there. Here it is one, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy", 0)
"""A kind that torch knows, nobody has, and whose backward pass runs in the thread that asks for it."""
aten = torch.ops.aten
BETWEEN_DEVICES = {aten.copy_.default, aten._foreach_copy_.default}
BY_INDEX = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
"""As on GPUs, the indices may lie on the CPU."""
JOINING = {aten.cat.default, aten.stack.default}
"""Of these, a CPU's tensor without dimensions is no number."""


class There(Tensor):
    """A tensor on the second device."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, here: Tensor) -> There:
        made: There = torch.Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            layout=here.layout,
            device=DEVICE,
            requires_grad=here.requires_grad,
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return computed(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.here.tolist()

    def numpy(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a tensor of the second device becomes no array: copy it to the CPU first")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.here.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]


class _Making(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes new tensors on the second device, too."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return computed(function, args, kwargs or {})


def computed(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a function of torch gives, on the device where its tensors lie.

    Raises:
        RuntimeError: they lie on two.
    """
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    is_there = any(isinstance(each, There) for each in tensors)
    if is_there and function not in BETWEEN_DEVICES:
        strangers = [each for each in tensors if not isinstance(each, There)]
        if not all(_is_allowed(function, args, each) for each in strangers):
            shapes = [tuple(each.shape) for each in tensors]
            raise RuntimeError(f"{function}: tensors on two devices, of shapes {shapes}")
    given = tree_map(_here, dict(kwargs))
    if given.get("device") is not None:
        is_there = torch.device(given["device"]) == DEVICE
        given["device"] = torch.device("cpu") if is_there else given["device"]
    found = function(*tree_map(_here, tuple(args)), **given)
    if function._schema.name.endswith("_") and found is not None:
        return args[0]
    return tree_map(_there, found) if is_there else found


def _is_allowed(function: Any, args: Sequence[Any], stranger: Tensor) -> bool:
    if function in BY_INDEX and isinstance(args[0], There) and not stranger.is_floating_point():
        return True
    return stranger.dim() == 0 and function not in JOINING


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


def _there(value: Any) -> Any:
    return There(value) if isinstance(value, Tensor) and not isinstance(value, There) else value


def _no_autocast(*_: Any, **__: Any) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def second_device() -> Iterator[torch.device]:
    """Inside, there is a second device. Nothing is rounded to half precision, which torch does not offer for it."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device=…) then goes through `_Making`
    try:
        with patch("torch.autocast", _no_autocast), _Making():  # type: ignore[no-untyped-call]
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
