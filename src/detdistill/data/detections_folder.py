"""Folders of stored detections: `detections.json`, and files of arrays that are named by their content."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import save
from torch import Tensor

from detdistill.core.bounds import Count, Probability
from detdistill.core.errors import DataError, DetdistillError, SettingsError
from detdistill.core.files import write_atomically
from detdistill.core.image_options import ImageSize
from detdistill.core.json_files import check_format, read_object, write_json
from detdistill.core.packed_texts import PackedTexts
from detdistill.core.settings import from_values, settings, to_values
from detdistill.core.tensor_files import read_tensors
from detdistill.data.stored_detections import BoxColumns, StoredDetections
from detdistill.data.stored_images import ImagesOfSplits

FORMAT = 1
FILE_NAME = "detections.json"
MOST_CLASSES = 65_536
"""Classes of a teacher: probabilities of all of them are made for each box. Published datasets have up to 22,000."""


@settings
class PartEntry:
    """A file with the detections of some images of a split."""

    split: Annotated[str, Field(min_length=1, max_length=1_000)]
    """Name of the split, as the dataset has it."""
    images: Count
    """Number of images in the file."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the file `boxes-<first 16 digits>.safetensors`, in hexadecimal."""

    @property
    def file_name(self) -> str:
        """Name of the file, which is a function of its content."""
        return f"boxes-{self.sha256[:16]}.safetensors"


@settings
class DetectionsHeader:
    """The contents of `detections.json`."""

    _: KW_ONLY
    format: Count = FORMAT
    """Format of the folder; a reader refuses what is newer than itself."""
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=MOST_CLASSES)]
    """Class names of the teacher; label c is `classes[c]`."""
    floor: Probability
    """Score below which nothing was stored."""
    top_k: Count
    """Largest number of classes for each box."""
    image_size: ImageSize | None = None
    """Size of the images that the teacher saw; boxes are in pixels of the image files all the same."""
    postprocessing: Mapping[str, Any] | None = None
    """How the teacher selects its boxes, with the threshold of NMS; None if that is not known."""
    teacher: Mapping[str, Any]
    """Where the teacher comes from, with a hash of what decides its predictions."""
    parts: tuple[PartEntry, ...] = ()
    """The files of boxes."""


@dataclass(frozen=True, eq=False)
class ImagesPart:
    """Some images of a split with what was predicted in them.

    Attributes:
        split: Name of the split.
        names: File names `(I,)`, relative to the split's image folder.
        sizes: `(I, 2)` int32, height and width in pixels.
        digests: `(I,)` int64, `file_digest` of each image file.
        columns: The boxes of each image.
    """

    split: str
    names: PackedTexts
    sizes: NDArray[np.int32]
    digests: NDArray[np.int64]
    columns: BoxColumns


def read_header(folder: Path) -> DetectionsHeader:
    """Read a folder's `detections.json`.

    Raises:
        DetdistillError: It is missing, damaged, not ours, or of a newer format.
    """
    path = folder / FILE_NAME
    content = read_object(path, "copy the folder again")
    check_format(path, content, FORMAT, "the header of stored detections")
    try:
        header = from_values(DetectionsHeader, content)
    except SettingsError as error:
        raise SettingsError(error.problems, str(path)) from error
    if len(set(header.classes)) < len(header.classes):
        raise SettingsError("classes must be names that differ", str(path))
    return header


def write_part(folder: Path, header: DetectionsHeader, part: ImagesPart) -> DetectionsHeader:
    """Add images to a folder: the file of arrays first, `detections.json` last, each whole or not at all.

    Args:
        folder: Created if it does not exist.
        header: What the folder holds already.
        part: What is added, at least one image.

    Returns:
        What the folder holds now.

    Raises:
        DetdistillError: The folder cannot be written.
    """
    arrays: dict[str, NDArray[np.generic]] = {
        "offsets": part.columns.offsets,
        "boxes": part.columns.boxes,
        "labels": part.columns.labels,
        "probabilities": part.columns.probabilities,
        "sizes": part.sizes,
        "digests": part.digests,
        "names": part.names.content,
        "name_starts": part.names.starts,
    }
    content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    entry = PartEntry(part.split, len(part.names), hashlib.sha256(content).hexdigest())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be created: {error.strerror}") from error
    write_atomically(folder / entry.file_name, content)
    header = dataclasses.replace(header, parts=(*header.parts, entry))
    write_json(folder / FILE_NAME, to_values(header), indent=2)
    return header


def read_part(folder: Path, header: DetectionsHeader, entry: PartEntry) -> ImagesPart:
    """Read the images of one file; arguments as `read_header` returns them.

    Raises:
        DetdistillError: The file is missing, damaged, or not the one that was described.
        DataError: An array is missing, or has another type, shape or range than it must have.
    """
    path = folder / entry.file_name
    tensors = read_tensors(path, entry.sha256, FILE_NAME)
    fault = _form_fault(tensors, entry.images)
    arrays: dict[str, NDArray[Any]] = {} if fault else {name: tensor.numpy() for name, tensor in tensors.items()}
    fault = fault or _value_fault(arrays, len(header.classes))
    if fault:
        raise DataError(f"{path}: {fault}; store the detections again")
    columns = BoxColumns(arrays["offsets"], arrays["boxes"], arrays["labels"], arrays["probabilities"])
    names = PackedTexts(arrays["names"], arrays["name_starts"])
    return ImagesPart(entry.split, names, arrays["sizes"], arrays["digests"], columns)


def read_detections(folder: Path, header: DetectionsHeader) -> StoredDetections:
    """Read all images of a folder.

    Args:
        folder: Of stored detections.
        header: As `read_header` returns it.

    Raises:
        DetdistillError: No file is described, or one cannot be read; see `read_part`.
        DataError: An image stands twice in a split.
    """
    if not header.parts:
        raise DetdistillError(f"{folder / FILE_NAME}: parts is empty; store detections with `detdistill predict`")
    parts = [read_part(folder, header, entry) for entry in header.parts]
    splits = tuple(dict.fromkeys(part.split for part in parts))
    images = ImagesOfSplits(
        names=PackedTexts.joined([part.names for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        digests=np.concatenate([part.digests for part in parts]),
        split=np.repeat([splits.index(part.split) for part in parts], [len(part.names) for part in parts]),
        splits=splits,
    )
    seen: set[tuple[int, str]] = set()
    for key in zip(images.split.tolist(), images.names, strict=True):
        if key in seen:
            raise DataError(f"{folder}: image {key[1]} stands twice in split {splits[key[0]]}; store them again")
        seen.add(key)
    return StoredDetections(header.classes, images, BoxColumns.joined([part.columns for part in parts]), header.floor)


def _form_fault(tensors: Mapping[str, Tensor], images: int) -> str:
    """Name the first tensor that is missing, or of another type or shape than detections of so many images have."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    boxes, letters = ((shapes.get(name) or (0,))[0] for name in ("boxes", "names"))
    columns = max(1, *shapes.get("labels", ())[1:2], 0)
    expected: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "offsets": (torch.int64, (images + 1,)),
        "boxes": (torch.float32, (boxes, 4)),
        "labels": (torch.int32, (boxes, columns)),
        "probabilities": (torch.float32, (boxes, columns)),
        "sizes": (torch.int32, (images, 2)),
        "digests": (torch.int64, (images,)),
        "names": (torch.uint8, (letters,)),
        "name_starts": (torch.int64, (images + 1,)),
    }
    for name, (kind, shape) in expected.items():
        if name not in tensors:
            return f"{name} is missing"
        if tensors[name].dtype != kind or shapes[name] != shape:
            return f"{name} is {tensors[name].dtype} {shapes[name]}, expected {kind} {shape}"
    return ""


def _value_fault(arrays: Mapping[str, NDArray[Any]], classes: int) -> str:
    """Name the first array with a value out of range, and the range; empty if there is none."""
    labels, probabilities, sizes, corners = (arrays[name] for name in ("labels", "probabilities", "sizes", "boxes"))
    for name, end in (("offsets", len(corners)), ("name_starts", len(arrays["names"]))):
        if not _ascends(arrays[name], end):
            return f"{name} must ascend from 0 to {end}"
    if not ((labels >= 0) & (labels < classes)).all():
        return f"labels must lie between 0 and {classes - 1}, the number of classes less one"
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        return "probabilities must lie between 0 and 1"
    if not (sizes >= 1).all():
        return "sizes must be at least 1 pixel"
    limits = np.repeat(np.tile(sizes[:, ::-1], 2), np.diff(arrays["offsets"]), axis=0)
    if not ((corners >= 0) & (corners <= limits)).all() or not (corners[:, :2] <= corners[:, 2:]).all():
        return "boxes must be x1 y1 x2 y2 inside their images"
    try:
        list(PackedTexts(arrays["names"], arrays["name_starts"]))
    except UnicodeDecodeError as error:
        return f"names must be UTF-8 ({error.reason})"
    return ""


def _ascends(starts: NDArray[np.int64], end: int) -> bool:
    return bool(starts[0] == 0 and starts[-1] == end and (np.diff(starts) >= 0).all())
