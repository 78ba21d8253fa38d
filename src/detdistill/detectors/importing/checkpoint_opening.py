"""Opening a stranger's checkpoint: tensors and plain values come out, no code of it ever runs, memory stays bounded.

`torch.load(weights_only=True)` reads most files. A file that also pickles objects of foreign classes (a training
checkpoint's logs, schedulers, configurations, or a whole model) is read again by an unpickler that can build tensors
and puts an inert stand-in in the place of everything else.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from detdistill.core.errors import LISTED, DetdistillError, first_line
from detdistill.core.files import open_regular
from detdistill.detectors.importing.file_kinds import START, is_safetensors, other_archive, other_kind
from detdistill.detectors.importing.pickles import RefusedError, Restricted, check_pickle, check_pickles, load_pickle

ZIP_START = b"PK\x03\x04"
MSDOS_FOLDER = 0x10
"""Attribute of an archive's entry."""

OWN_DESCRIPTION = "model.json"
OWN_WEIGHTS = "model.safetensors"
"""The files of a detector that is in detdistill's own format already."""

ENDINGS = (".pth", ".pt", ".ckpt", ".safetensors", ".pkl", ".bin")


def open_checkpoint(path: Path) -> Any:
    """Reads a `.safetensors` file, or one that `torch.save` of any age or `pickle.dump` wrote; by content, not by name.

    Args:
        path: the file.

    Returns:
        What was saved, with tensors on the CPU, and inert objects (`StandIn`) in the place of everything that is
        neither a tensor nor a plain value.

    Raises:
        DetdistillError: there is no such file, it is of another kind (a folder, a web page, a compressed file …), is
            damaged, is a TorchScript archive (which is code), or would need more memory than its size.
    """
    _check_place(path)
    try:
        with open_regular(path) as file:
            start = file.read(START)
            size = file.seek(0, 2)
            file.seek(0)
            if start.startswith(ZIP_START):
                _check_archive(file)
                return _load(file)
            if is_safetensors(start, size) or path.suffix == ".safetensors":
                return _load_safetensors(path, start, size)
            return _load_pickles(file, start, size)
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror or error}") from error
    except RefusedError as error:
        raise DetdistillError(f"{path} {error}") from error
    # A damaged pickle can raise anything at all.
    except Exception as error:
        reason = first_line(error)
        if "weights_only" in reason:  # torch's advice is to run the file's code
            reason = "the numbers of a tensor hold an object of another kind"
        raise DetdistillError(
            f"{path} is not a whole PyTorch checkpoint ({reason}): download or copy it again"
        ) from error


def _check_place(path: Path) -> None:
    """Refuses folders, and the weights inside of a folder that needs no opening."""
    if path.is_dir():
        if (path / OWN_DESCRIPTION).exists():
            raise DetdistillError(
                f"{path} is the folder of a detdistill detector; expected a checkpoint file. It needs no import: pass "
                "the folder to any command, or name it in a recipe as `distill.teacher` or `start.from`"
            )
        inside = sorted(file.name for file in path.iterdir() if file.suffix in ENDINGS)[:LISTED]
        remedy = f"give one of the files in it ({', '.join(inside)})" if inside else "no checkpoint file is in it"
        raise DetdistillError(f"{path} is a folder; expected a checkpoint file (.pth or .safetensors): {remedy}")


def _check_archive(file: IO[bytes]) -> None:
    """Refuses archives that are damaged, that grow when read, that hold code, or that are of another program."""
    size = file.seek(0, 2)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        names = [entry.filename.partition("/")[2] for entry in entries]
        if any(name == "constants.pkl" or name.startswith("code/") for name in names):
            raise RefusedError(
                "is a TorchScript archive, a program that is not run here: save the model's state_dict with torch.save"
            )
        other = other_archive([entry.filename for entry in entries])
        if other is not None:
            raise RefusedError(other)
        # PyTorch stores its entries as they are; a bomb is made by compression, or by entries that share their bytes.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
            sum(entry.file_size for entry in entries) > size
        ):
            raise RefusedError(
                "is not an archive as PyTorch writes it: its entries would grow beyond the size of the file"
            )
        # PyTorch's own reader neither compares checksums, nor reads an entry that says it is a folder: its tensor would
        # be what memory held before.
        damaged = next((entry.filename for entry in entries if entry.external_attr & MSDOS_FOLDER), None)
        if damaged is not None:
            raise RefusedError(f"is damaged: {damaged} says that it is a folder; download or copy it again")
        damaged = archive.testzip()
        if damaged is not None:
            raise RefusedError(f"is damaged: the checksum of {damaged} is wrong; download or copy it again")
        for entry, name in zip(entries, names, strict=True):
            if name == "data.pkl":
                check_pickle(io.BytesIO(archive.read(entry)), entry.file_size)


def _load_safetensors(path: Path, start: bytes, size: int) -> Any:
    if size == 0:
        raise RefusedError("is empty: download or copy it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise RefusedError(
            other_kind(start) or f"is not a whole safetensors file ({error}): download or copy it again"
        ) from error


def _load_pickles(file: IO[bytes], start: bytes, size: int) -> Any:
    if size == 0:
        raise RefusedError("is empty: download or copy it again")
    try:
        plain = check_pickles(file, size)
    except ValueError as error:
        raise RefusedError(
            other_kind(start)
            or "is damaged, or of another kind: it is neither a PyTorch archive, nor a whole pickle, nor safetensors"
        ) from error
    file.seek(0)
    return load_pickle(file, size) if plain else _load(file)


def _load(file: IO[bytes]) -> Any:
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        # Only what unpickling refused is tried again: a TorchScript archive ends in another error above.
        file.seek(0)
        with warnings.catch_warnings():
            # Old files hold the source code of a model's classes, and PyTorch warns that it is not the same here.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=False, pickle_module=Restricted)
