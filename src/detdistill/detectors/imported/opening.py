"""Opening a stranger's `.pth`: tensors and plain values come out, no code of the file ever runs, memory stays bounded.

`torch.load(weights_only=True)` reads most files. A file that also pickles objects of foreign classes (a training
checkpoint's logs, schedulers, configurations) is read again by an unpickler that can build tensors and puts an inert
stand-in in the place of everything else.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from detdistill.errors import LISTED, DetdistillError, listed

ZIP_START = b"PK\x03\x04"
MSDOS_FOLDER = 0x10
"""Attribute of an archive's entry."""
LEGACY_PICKLES = 4
"""Magic number, protocol, system and content: what a file written before PyTorch 1.6 starts with."""
STATE_DICT_KEYS = ("state_dict", "model")
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class _RefusedError(Exception):
    """Why a file is not opened; becomes a `DetdistillError` that names the file."""


def open_checkpoint(path: Path) -> Any:
    """Reads a file that `torch.save` wrote, of any age; tensors come back on the CPU.

    Args:
        path: the file.

    Returns:
        What was saved, with inert objects in the place of everything that is neither a tensor nor a plain value.

    Raises:
        DetdistillError: the file cannot be read, is damaged, is a TorchScript archive (which is code), or would need
            more memory than its size.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(ZIP_START)) == ZIP_START:
                _check_archive(file)
            else:
                _check_legacy(file)
            return _load(file)
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror or error}") from error
    except _RefusedError as error:
        raise DetdistillError(f"{path} {error}") from error
    # A damaged pickle can raise anything at all.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DetdistillError(
            f"{path} is not a whole PyTorch checkpoint ({reason}): download or copy it again"
        ) from error


def find_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The parameters and buffers in a checkpoint: under `state_dict` or `model`, or the checkpoint itself.

    Args:
        content: what `open_checkpoint` returned.
        path: the file, for messages and for the bound on memory.

    Returns:
        Tensors by key, in the file's order.

    Raises:
        DetdistillError: there is no state dict; or a tensor is unreadable, larger than the file, or not finite.
    """
    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        keys = list(content)[:LISTED] if isinstance(content, Mapping) else []
        # Only names are written out: the text of a nested tuple can be longer than memory.
        entries = ", ".join(key if isinstance(key, str) else type(key).__name__ for key in keys)
        raise DetdistillError(
            f"{path} holds no state dict: expected tensors by name, at the top or under "
            f"{' or '.join(STATE_DICT_KEYS)}; found {entries or type(content).__name__}"
        )
    size = path.stat().st_size
    problems = [problem for key, value in state.items() if (problem := _tensor_problem(key, value, size))]
    if problems:
        raise DetdistillError(f"{path}: {len(problems)} entries of the state dict cannot be used:{listed(problems)}")
    return dict(state)


def _tensor_problem(key: Any, value: Any, file_size: int) -> str | None:
    if not isinstance(key, str):
        return f"{type(key).__name__} instead of a name"
    if not isinstance(value, Tensor):
        return f"{key}: {type(value).__name__} instead of a tensor"
    if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in FLOATS + INTEGERS:
        return f"{key}: not a dense tensor of plain numbers"
    # Strides of 0 let a few bytes claim any shape.
    if value.numel() * value.element_size() > file_size:
        return f"{key}: shape {tuple(value.shape)} needs more bytes than the whole file has"
    if value.dtype in FLOATS and not value.isfinite().all():
        return f"{key}: NaN or infinity"
    return None


def _check_archive(file: IO[bytes]) -> None:
    """Refuses archives that are damaged, that grow when read, or that hold code."""
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename.partition("/")[2] for entry in entries]
        if any(name == "constants.pkl" or name.startswith("code/") for name in names):
            raise _RefusedError(
                "is a TorchScript archive, a program that is not run here: save the model's state_dict with torch.save"
            )
        # PyTorch stores its entries as they are; a bomb is made by compression, or by entries that share their bytes.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
            sum(entry.file_size for entry in entries) > size
        ):
            raise _RefusedError(
                "is not an archive as PyTorch writes it: its entries would grow beyond the size of the file"
            )
        # PyTorch's own reader neither compares checksums, nor reads an entry that says it is a folder: its tensor would
        # be what memory held before.
        damaged = next((entry.filename for entry in entries if entry.external_attr & MSDOS_FOLDER), None)
        if damaged is not None:
            raise _RefusedError(f"is damaged: {damaged} says that it is a folder; download or copy it again")
        damaged = archive.testzip()
        if damaged is not None:
            raise _RefusedError(f"is damaged: the checksum of {damaged} is wrong; download or copy it again")
        for entry, name in zip(entries, names, strict=True):
            if name == "data.pkl":
                _check_pickle(io.BytesIO(archive.read(entry)), entry.file_size)


def _check_legacy(file: IO[bytes]) -> None:
    size = file.seek(0, 2)
    if size == 0:
        raise _RefusedError("is empty: download or copy it again")
    file.seek(0)
    try:
        for _ in range(LEGACY_PICKLES):
            _check_pickle(file, size)
    except ValueError as error:
        raise _RefusedError(
            "is neither a PyTorch archive nor a pickle: it is another kind of file, or damaged"
        ) from error


def _check_pickle(stream: IO[bytes], size: int) -> None:
    """Refuses pickles whose few bytes would make the unpickler allocate many."""
    for opcode, argument, _ in pickletools.genops(stream):
        # CPython grows its table of remembered objects to the largest index.
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(argument, int) and argument > size:
            raise _RefusedError("is damaged: it would need more memory than its size")
        # The one allocation by number among what `weights_only=True` allows.
        if opcode.name == "GLOBAL" and str(argument).endswith(" bytearray"):
            raise _RefusedError("is not a checkpoint of tensors and plain values: it makes a bytearray")


def _load(file: IO[bytes]) -> Any:
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Only what unpickling refused is tried again: a TorchScript archive ends in another error above.
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=_Restricted)


class _StandIn:
    """Takes the place of an object of a class that is not known here: accepts any content and does nothing."""

    def __init__(self, *arguments: object, **keywords: object) -> None:
        """Accepts anything."""

    def __setstate__(self, state: object) -> None:
        """Accepts anything."""

    def __setitem__(self, key: object, value: object) -> None:
        """Accepts anything."""

    def append(self, item: object) -> None:
        """Accepts anything."""

    def extend(self, items: object) -> None:
        """Accepts anything."""


def _rebuild(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    # A pickle can set attributes of what it is given: it gets a function of its own.
    def rebuild(*arguments: Any) -> Tensor:
        return function(*arguments)

    return rebuild


class _RestrictedUnpickler(pickle.Unpickler):
    """Knows ordered dictionaries and how tensors are rebuilt, and no other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch", "Size"):
            return torch.Size
        if module == "torch._utils" and name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"):
            return _rebuild(getattr(torch._utils, name))
        return type(name, (_StandIn,), {})


class _Restricted:
    """What `torch.load` takes from the module `pickle`."""

    Unpickler = _RestrictedUnpickler

    @staticmethod
    def load(file: IO[bytes], **keywords: Any) -> Any:
        """Reads one pickle."""
        return _RestrictedUnpickler(file, **keywords).load()
