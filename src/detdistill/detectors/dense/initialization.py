"""A detector that starts from the weights of another one, for fine-tuning to other classes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from detdistill.core.errors import DetdistillError, listed
from detdistill.core.settings import to_values
from detdistill.detectors.base import Detector
from detdistill.detectors.storage import load_detector

Rows = Literal["anchor * C + class", "class, background", "class * 4 + side", "class"]
"""What a row of a class layer's weights stands for."""
CLASS_LAYERS: tuple[tuple[str, Rows], ...] = (
    (r"head\.class_predictor\.", "anchor * C + class"),
    (r"network\.head\.classification_head\.cls_logits\.", "anchor * C + class"),
    (r"region_heads\.\d+\.class_predictor\.", "class, background"),
    (r"region_heads\.\d+\.box_predictor\.", "class * 4 + side"),
    (r"mask_heads\.\d+\.mask_predictor\.", "class"),
)
"""Where `DenseDetector`, `TorchvisionDetector` and `TwoStageDetector` keep weights of classes."""


LISTED_OF_A_PART = 4


@dataclass(frozen=True)
class Initialization:
    """Which tensors `initialize_from` loaded; as a string, a few lines.

    Attributes:
        source: where the weights come from.
        loaded: number of tensors that were loaded, in whole or, of the class layer, in part.
        left: the tensors that are unchanged, and why: `name: reason`.
        kept_classes: classes whose rows of the class layer were loaded.
        new_classes: classes whose rows are unchanged.
        notes: in what else the two detectors differ.
    """

    source: str
    loaded: int
    left: tuple[str, ...]
    kept_classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.loaded} of {self.loaded + len(self.left)} tensors loaded from {self.source}"]
        if self.new_classes:
            lines.append(f"classes with loaded weights: {', '.join(self.kept_classes) or 'none'}")
            lines.append(f"classes with new weights: {', '.join(self.new_classes)}")
        if self.left:
            lines.append(f"not loaded:{listed(self._left_by_part())}")
        return "\n".join([*lines, *self.notes])

    def _left_by_part(self) -> list[str]:
        """The tensors that are unchanged; of a part of the detector with many of them only their number."""
        parts: dict[str, list[str]] = {}
        for entry in self.left:
            parts.setdefault(entry.partition(".")[0], []).append(entry)
        lines = []
        for part, entries in parts.items():
            many = len(entries) > LISTED_OF_A_PART
            lines += [f"{part}: {len(entries)} tensors, such as {entries[0]}"] if many else entries
        return lines


def initialize_from(detector: Detector, source: Detector | Path) -> Initialization:
    """Loads everything that fits into a detector; the rest of it stays as it is.

    A tensor fits if it has the same name and shape; those of another backbone never do. Of the class layer, the rows of
    classes with equal names are loaded, wherever the two detectors have them. The source's normalization comes with its
    weights.

    Args:
        detector: is changed.
        source: a run folder, or a detector.

    Raises:
        DetdistillError: not one convolution fits (the detector is then as it was), or the folder cannot be loaded.
    """
    origin = load_detector(source) if isinstance(source, Path) else source
    name = str(source) if isinstance(source, Path) else "the given detector"
    state, offered = detector.state_dict(), origin.state_dict()
    shared = [label for label in detector.classes if label in origin.classes]
    other_backbone = _backbone(origin) != _backbone(detector)
    fitting: dict[str, Tensor] = {}
    left = []
    for key, own in state.items():
        if key.startswith("backbone.") and other_backbone:
            left.append(f"{key}: the source has the backbone {_backbone(origin)}, this detector {_backbone(detector)}")
            continue
        if key not in offered:
            left.append(f"{key}: not in the source")
            continue
        value = offered[key].to(own)
        layout = _class_rows(key)
        if layout is not None and detector.classes != origin.classes and not _is_shared(own, value, layout):
            if not shared:
                left.append(f"{key}: no class in common")
                continue
            rows = _with_class_rows(own, value, layout, (detector.classes, origin.classes), shared)
            if rows is None:
                left.append(
                    f"{key}: {tuple(value.shape)} for {len(origin.classes)} classes in the source, "
                    f"{tuple(own.shape)} for {len(detector.classes)} here"
                )
                continue
            value = rows
        if value.shape == own.shape:
            fitting[key] = value
        else:
            left.append(f"{key}: {tuple(value.shape)} in the source, {tuple(own.shape)} here")
    if not any(value.dim() > 1 for value in fitting.values()):
        raise DetdistillError(
            f"no weights of {name} fit this detector ({'; '.join(_differences(detector, origin))}): give both the same "
            "backbone, pyramid or head, or start without these weights (in a recipe: start.from null)"
        )
    detector.load_state_dict(fitting, strict=False)
    notes = _differences(detector, origin)
    detector.input = dataclasses.replace(detector.input, normalization=origin.input.normalization)
    kept = shared if any(_class_rows(key) for key in fitting) else []
    return Initialization(
        source=name,
        loaded=len(fitting),
        left=tuple(left),
        kept_classes=tuple(kept),
        new_classes=tuple(label for label in detector.classes if label not in kept),
        notes=notes,
    )


def _class_rows(key: str) -> Rows | None:
    """What the rows of a tensor stand for; None if they are of no classes."""
    return next((rows for pattern, rows in CLASS_LAYERS if re.match(pattern, key)), None)


def _is_shared(own: Tensor, other: Tensor, layout: Rows) -> bool:
    """Whether a box or mask layer has rows for all classes together on both sides."""
    together = {"class * 4 + side": 4, "class": 1}.get(layout)
    return together is not None and len(own) == len(other) == together


def _with_class_rows(
    own: Tensor,
    other: Tensor,
    layout: Rows,
    classes: tuple[Sequence[str], Sequence[str]],
    shared: Sequence[str],
) -> Tensor | None:
    """`own` with the rows of the shared classes, and of background, from `other`; None if the other rows differ.

    Args:
        own: `(rows, …)`, as `layout` has them for the first classes.
        other: the same for the second.
        layout: what a row stands for.
        classes: names on both sides.
        shared: names in both.
    """
    here, there = ([names.index(label) for label in shared] for names in classes)
    counts = [len(names) for names in classes]
    if layout == "class, background":
        here, there = [*here, counts[0]], [*there, counts[1]]
        counts = [count + 1 for count in counts]
    sides = (own, other)
    if any(len(side) % count for side, count in zip(sides, counts, strict=True)):
        return None
    by_anchor = layout == "anchor * C + class"
    shapes = [
        (-1, count) if by_anchor else (1, count, len(side) // count) for side, count in zip(sides, counts, strict=True)
    ]
    rows, other_rows = (side.reshape(*shape, *side.shape[1:]) for side, shape in zip(sides, shapes, strict=True))
    if rows[:, 0].shape != other_rows[:, 0].shape:
        return None
    rows = rows.clone()
    rows[:, here] = other_rows[:, there]
    return rows.reshape(own.shape)


def _backbone(detector: Detector) -> str:
    return str(getattr(detector.architecture, "backbone", "resnet50"))


def _layers(detector: Detector) -> dict[str, Any]:
    """What decides the layers, by key; of a detector without a known architecture nothing."""
    values = {} if detector.architecture is None else to_values(detector.architecture)
    pyramid = values.pop("pyramid", {})
    return values | {f"pyramid.{key}": value for key, value in pyramid.items()}


def _differences(detector: Detector, origin: Detector) -> tuple[str, ...]:
    """The fields in which two detectors differ: the same weights may mean other things in another architecture."""
    own, other = (_layers(each) for each in (detector, origin))
    notes = [
        f"{key}: {other[key]} in the source, {own[key]} here" for key in own if key in other and other[key] != own[key]
    ]
    if detector.input.normalization != origin.input.normalization:
        notes.append(f"the input is normalised as in the source: {origin.input.normalization}")
    return tuple(notes)
