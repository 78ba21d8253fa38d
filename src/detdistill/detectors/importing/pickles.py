"""Pickles of strangers: which are safe to read, and an unpickler that runs no code of theirs."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import torch
from torch import Tensor

LEGACY_PICKLES = 4
"""Magic number, protocol, system and content: what a file written before PyTorch 1.6 starts with."""

MOST_MODULES = 20_000
LONGEST_NAME = 1_000
"""Modules that contain each other would make the walk through them endless, and their names too."""


class RefusedError(Exception):
    """Why a file is not opened, without the file's name; becomes a `DetdistillError` that has it."""


def check_pickle(stream: IO[bytes], size: int) -> None:
    """Reads over one pickle, and refuses it if its few bytes would make the unpickler allocate many.

    Args:
        stream: at the start of the pickle; left at its end.
        size: of the whole file in bytes.

    Raises:
        RefusedError: the pickle is not safe to read.
        ValueError: it is not a whole pickle.
    """
    for opcode, argument, _ in pickletools.genops(stream):
        # CPython grows its table of remembered objects to the largest index.
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > size:
            raise RefusedError("is damaged: it would need more memory than its size")
        # The one allocation by number among what `weights_only=True` allows.
        if opcode.name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise RefusedError("is not a checkpoint of tensors and plain values: it makes a bytearray")


def check_pickles(stream: IO[bytes], size: int) -> bool:
    """Checks a file that is not an archive.

    Args:
        stream: the file, at its start.
        size: of the file in bytes.

    Returns:
        Whether it is a single pickle, such as `pickle.dump` writes; else it has the parts of an old PyTorch file.

    Raises:
        RefusedError: it is damaged, or not safe to read.
        ValueError: it does not start with a pickle.
    """
    check_pickle(stream, size)
    if stream.tell() == size:
        return True
    try:
        for _ in range(LEGACY_PICKLES - 1):
            check_pickle(stream, size)
    except ValueError as error:
        raise RefusedError("is damaged, or has more after a pickle: download or copy it again") from error
    return False


def load_pickle(stream: IO[bytes], size: int) -> Any:
    """What a single pickle holds, with tensors and plain values; all else is inert.

    Args:
        stream: a pickle that `check_pickles` accepted, at its start.
        size: of the file in bytes.
    """
    return _PlainUnpickler(stream, 2 * size).load()


class StandIn:
    """Takes the place of an object of a class that is not known here: accepts any content and does nothing.

    Attributes:
        parts: the parameters, buffers and inner modules, if the object was a `torch.nn.Module`.
    """

    PARTS = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
    parts: Mapping[str, Any]

    def __new__(cls, *arguments: object, **keywords: object) -> StandIn:  # noqa: ARG004 (accepts anything)
        """Accepts anything."""
        made = super().__new__(cls)
        made.parts = {}
        return made

    def __init__(self, *arguments: object, **keywords: object) -> None:
        """Accepts anything."""

    def __setstate__(self, state: object) -> None:
        """Keeps the parts of a module."""
        if isinstance(state, dict):
            self.parts = {name: state[name] for name in self.PARTS if name in state}

    def __setitem__(self, key: object, value: object) -> None:
        """Accepts anything."""

    def append(self, item: object) -> None:
        """Accepts anything."""

    def extend(self, items: object) -> None:
        """Accepts anything."""


def module_state(module: StandIn) -> dict[str, Tensor]:
    """The state dict of a module that was saved as an object; empty if the object was none.

    Args:
        module: in the place of the module.

    Raises:
        RefusedError: it holds more modules than any network, as modules that contain each other do.
    """
    state: dict[str, Tensor] = {}
    waiting: list[tuple[str, StandIn]] = [("", module)]
    visited = 0
    while waiting:
        prefix, current = waiting.pop()
        state |= {prefix + name: tensor for name, tensor in _own_tensors(current)}
        inner = current.parts.get("_modules")
        inner = inner if isinstance(inner, Mapping) else {}
        modules = [(f"{prefix}{name}.", part) for name, part in inner.items() if isinstance(part, StandIn)]
        waiting += reversed(modules)
        visited += 1
        if visited + len(waiting) > MOST_MODULES or len(prefix) > LONGEST_NAME:
            raise RefusedError("is damaged: its modules contain each other without end")
    return state


def _own_tensors(module: StandIn) -> Iterator[tuple[str, Tensor]]:
    unsaved = module.parts.get("_non_persistent_buffers_set")
    hidden = unsaved if isinstance(unsaved, set) else ()
    for group in ("_parameters", "_buffers"):
        held = module.parts.get(group)
        for name, tensor in held.items() if isinstance(held, Mapping) else ():
            if isinstance(name, str) and isinstance(tensor, Tensor) and name not in hidden:
                yield name, tensor


def _rebuild(function: Callable[..., Any]) -> Callable[..., Any]:
    # A pickle can set attributes of what it is given: it gets a function of its own.
    def rebuild(*arguments: Any) -> Any:
        return function(*arguments)

    return rebuild


def _parameter_without_attributes(data: Tensor, requires_grad: bool, hooks: Any, _attributes: object) -> Tensor:
    rebuild: Callable[..., Tensor] = torch._utils._rebuild_parameter
    return rebuild(data, requires_grad, hooks)


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows ordered dictionaries, sets and how tensors are rebuilt, and no other name."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch", "Size":
                return torch.Size
            case "builtins" | "__builtin__", "set":
                return set
            case "torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_parameter":
                return _rebuild(getattr(torch._utils, name))
            case "torch._utils", "_rebuild_parameter_with_state":
                return _rebuild(_parameter_without_attributes)
        return type(name, (StandIn,), {})


class _PlainUnpickler(_RestrictedUnpickler):
    """Also knows how a pickle that `torch.save` did not write holds the numbers of tensors.

    Args:
        stream: the pickle.
        allowance: bytes that these numbers may take, all together.
    """

    def __init__(self, stream: IO[bytes], allowance: int) -> None:
        super().__init__(stream)
        self.allowance = allowance

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "torch.storage", "_load_from_bytes":
                return _rebuild(self._storage)
            case "_codecs", "encode":
                return _rebuild(self._bytes)
        return super().find_class(module, name)

    def _bytes(self, text: str, encoding: str) -> bytes:
        """Bytes as pickles of the protocols 0 to 2 write them: text in Latin-1."""
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("bytes are not written in Latin-1")
        self._take(len(text))
        return text.encode("latin1")

    def _storage(self, content: bytes) -> Any:
        """The numbers of a tensor: an old PyTorch file of their own."""
        if not isinstance(content, bytes):
            raise pickle.UnpicklingError("the numbers of a tensor are not bytes")
        self._take(len(content))
        stream = io.BytesIO(content)
        if check_pickles(stream, len(content)):
            raise pickle.UnpicklingError("the numbers of a tensor are missing")
        stream.seek(0)
        return torch.load(stream, map_location="cpu", weights_only=True)

    def _take(self, size: int) -> None:
        # A pickle can name the same bytes many times.
        self.allowance -= size
        if self.allowance < 0:
            raise pickle.UnpicklingError("its tensors need more memory than its size")


class Restricted:
    """What `torch.load` takes from the module `pickle`."""

    Unpickler = _RestrictedUnpickler

    @staticmethod
    def load(file: IO[bytes], **keywords: Any) -> Any:
        """Reads one pickle."""
        return _RestrictedUnpickler(file, **keywords).load()
