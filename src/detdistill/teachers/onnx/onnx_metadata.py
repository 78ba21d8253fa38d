"""What exporters write into an ONNX file beside the network."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detdistill.core.bounds import LARGEST_STRIDE
from detdistill.core.errors import DetdistillError
from detdistill.core.texts import one_line

OWN = "detdistill"
"""Key of the metadata of `detdistill export`, JSON."""
LONGEST = 1 << 18
"""Characters of a text that is read as a Python literal: names of ten thousand classes."""


@dataclass(frozen=True)
class UltralyticsMetadata:
    """What the package ultralytics writes as texts of Python literals.

    Attributes:
        names: class names, in their order; None if there are none.
        size: height and width in pixels that the network was exported for; None if that is not known.
        stride: of its coarsest level, in pixels; None if that is not known.
        is_rtdetr: the network is its RT-DETR, not its YOLO; None if that is not known.
        is_final: the rows are final detections, by NMS or an end-to-end head.
        threshold: least score of a row where NMS is inside; None if it is not known.
        has_nms: NMS is inside.
    """

    names: tuple[str, ...] | None
    size: tuple[int, int] | None
    stride: int | None
    is_rtdetr: bool | None
    is_final: bool
    threshold: float | None
    has_nms: bool


def own_metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what `detdistill export` wrote; None for files of others.

    Raises:
        DetdistillError: It is damaged.
    """
    if OWN not in metadata:
        return None
    try:
        content = json.loads(metadata[OWN])
    except (ValueError, RecursionError) as error:
        raise _wrong(path, OWN, metadata[OWN], "JSON") from error
    if not isinstance(content, dict):
        raise _wrong(path, OWN, metadata[OWN], "JSON with keys and values")
    return content


def ultralytics_metadata(path: Path, metadata: Mapping[str, str]) -> UltralyticsMetadata | None:
    """Return what ultralytics wrote; None for files of others.

    Raises:
        DetdistillError: A text is damaged, or the network does not detect boxes.
    """
    if not {"names", "stride", "task"} & metadata.keys():
        return None
    task = metadata.get("task", "detect")
    if task != "detect":
        raise DetdistillError(f"{path}: metadata task: {one_line(task, 80)!r}; expected a network of the task 'detect'")
    description = metadata.get("description", "").lower().replace("-", "")
    arguments = literal(path, metadata, "args")
    arguments = arguments if isinstance(arguments, dict) else {}
    has_nms, stride = arguments.get("nms") is True, literal(path, metadata, "stride")
    threshold = arguments.get("conf")
    return UltralyticsMetadata(
        _names(path, metadata),
        _size(path, metadata),
        stride if type(stride) is int and 0 < stride <= LARGEST_STRIDE else None,
        True if "rtdetr" in description else False if "yolo" in description else None,
        has_nms or literal(path, metadata, "end2end") is True,
        float(threshold) if isinstance(threshold, int | float) and not isinstance(threshold, bool) else None,
        has_nms,
    )


def _names(path: Path, metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    if "names" not in metadata:
        return None
    names = literal(path, metadata, "names")
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        raise _wrong(path, "names", metadata["names"], "class names by number, from 0")
    by_number = {str(number): name for number, name in names.items()}
    if not by_number or not all(isinstance(name, str) for name in by_number.values()):
        raise _wrong(path, "names", metadata["names"], "class names that are texts")
    return tuple(by_number[str(number)] for number in range(len(by_number)))


def _size(path: Path, metadata: Mapping[str, str]) -> tuple[int, int] | None:
    size = literal(path, metadata, "imgsz")
    sides = [size, size] if isinstance(size, int) else size
    if sides is None:
        return None
    if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(type(side) is int for side in sides):
        raise _wrong(path, "imgsz", metadata["imgsz"], "height and width in pixels")
    return sides[0], sides[1]


def literal(path: Path, metadata: Mapping[str, str], key: str) -> Any:
    """Return the Python literal of a key, without running anything; None if there is none.

    Raises:
        DetdistillError: It is no literal, or longer than 256 KiB.
    """
    if key not in metadata:
        return None
    text = metadata[key]
    if len(text) > LONGEST:
        raise _wrong(path, key, text, f"at most {LONGEST:,} characters")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise _wrong(path, key, text, "a Python literal") from error


def _wrong(path: Path, key: str, text: str, expected: str) -> DetdistillError:
    return DetdistillError(
        f"{path}: metadata {key}: {one_line(text, 80)!r}; expected {expected}: remove this metadata from the file and "
        "give what it held by options"
    )
