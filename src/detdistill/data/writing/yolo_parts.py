"""The names train, val and test for the parts of a YOLO dataset: tools look for no others."""

from __future__ import annotations

from collections.abc import Mapping

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data.splits import usual_name

_USUAL = ("train", "val", "test")


def yolo_parts(parts: Mapping[str, DetectionDataset]) -> tuple[dict[str, DetectionDataset], list[str]]:
    """Name the parts `train`, `val` and `test`.

    `valid`, `val2017` and `VOC2007/val` become `val`; a single part of another name becomes `train`. A part whose name
    is needed by another one is left out if all of its images are in the others, as PASCAL VOC's `trainval`.

    Args:
        parts: the datasets by name, at least one.

    Returns:
        The datasets by their new names, in the order train, val, test, and a warning for each change.

    Raises:
        DataError: a part has no such name, or two have the same and neither can be left out.
    """
    wanted: dict[str, tuple[str, int]] = {}
    for name, part in parts.items():
        usual = usual_name(name) or (("train", 0) if len(parts) == 1 else None)
        if usual is None:
            raise DataError(
                f"{part.source}: the split {name!r} has no place in YOLO; expected the names train, val and test; "
                "convert one split at a time, or rename it"
            )
        wanted[name] = usual
    ranked = sorted(parts, key=lambda name: wanted[name][1])
    named: dict[str, str] = {}
    for name in ranked:
        named.setdefault(wanted[name][0], name)
    kept = {record.path for name in named.values() for record in parts[name].images}
    warnings = []
    for name, part in parts.items():
        key = wanted[name][0]
        if named[key] == name:
            if key != name:
                warnings.append(f"the split {name!r} is written as {key!r}")
        elif all(record.path in kept for record in part.images):
            warnings.append(f"the split {name!r} is left out: its images are in the other splits")
        else:
            raise DataError(
                f"{part.source}: the splits {named[key]!r} and {name!r} both mean {key!r} in YOLO; "
                "expected one split for each of train, val and test; convert one split at a time"
            )
    missing = [usual for usual in _USUAL[:2] if usual not in named]
    if missing:
        warnings.append(f"data.yaml has no {missing[0]}: Ultralytics needs train and val")
    return {usual: parts[named[usual]] for usual in _USUAL if usual in named}, warnings
