"""A detector that starts from the weights of another one: fine-tuning onto own classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from detdistill.detectors.checkpoints import load_detector
from detdistill.detectors.dense import DenseDetector
from detdistill.detectors.imported.torchvision import TorchvisionDetector
from detdistill.errors import DetdistillError, listed

SavedDetector = DenseDetector | TorchvisionDetector
CLASS_LAYERS = ("head.class_predictor.", "network.head.classification_head.cls_logits.")
"""Where `DenseDetector` and `TorchvisionDetector` keep one row of weights per anchor and class."""


@dataclass(frozen=True)
class Initialization:
    """What `initialize_from` did; as a string, in plain words.

    Attributes:
        source: where the weights come from.
        loaded: how many tensors were taken over, in whole or, of the class layer, in part.
        left: the tensors that stayed as they were, and why.
        kept_classes: whose rows of the class layer were taken over.
        new_classes: whose rows stayed as they were.
        notes: in what else the two detectors differ.
    """

    source: str
    loaded: int
    left: tuple[str, ...]
    kept_classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.loaded} of {self.loaded + len(self.left)} tensors taken over from {self.source}"]
        if self.new_classes:
            lines.append(f"classes taken over: {', '.join(self.kept_classes) or 'none'}")
            lines.append(f"classes that start anew: {', '.join(self.new_classes)}")
        if self.left:
            lines.append(f"left as they were:{listed(self.left)}")
        return "\n".join([*lines, *self.notes])


def initialize_from(detector: SavedDetector, source: SavedDetector | Path) -> Initialization:
    """Loads everything that fits into a detector; the rest of it stays as it is.

    A tensor fits if it has the same name and shape. Of the class layer, the rows of classes with equal names are taken
    over, wherever the two detectors have them. The source's normalization comes with its weights.

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
    fitting: dict[str, Tensor] = {}
    left = []
    for key, own in state.items():
        if key not in offered:
            left.append(f"{key}: not in the source")
            continue
        value = offered[key].to(own)
        if key.startswith(CLASS_LAYERS) and detector.classes != origin.classes:
            if not shared:
                left.append(f"{key}: no class in common")
                continue
            rows = _with_class_rows(own, value, detector.classes, origin.classes, shared)
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
            f"nothing of {name} fits: its architecture is {origin.architecture}, this detector's is "
            f"{detector.architecture}; give both the same backbone, pyramid or head"
        )
    detector.load_state_dict(fitting, strict=False)
    notes = _differences(detector, origin)
    detector.normalization = origin.normalization
    kept = shared if any(key.startswith(CLASS_LAYERS) for key in fitting) else []
    return Initialization(
        source=name,
        loaded=len(fitting),
        left=tuple(left),
        kept_classes=tuple(kept),
        new_classes=tuple(label for label in detector.classes if label not in kept),
        notes=notes,
    )


def _with_class_rows(
    own: Tensor, other: Tensor, classes: Sequence[str], other_classes: Sequence[str], shared: Sequence[str]
) -> Tensor | None:
    """`own` with the rows of the shared classes from `other`; None if A or the columns differ.

    Args:
        own: `(A * C, …)`, row = anchor * C + class.
        other: `(A * C', …)`.
        classes: C names.
        other_classes: C' names.
        shared: names in both.
    """
    rows = own.reshape(-1, len(classes), *own.shape[1:]).clone()
    other_rows = other.reshape(-1, len(other_classes), *other.shape[1:])
    if rows[:, 0].shape != other_rows[:, 0].shape:
        return None
    here, there = ([names.index(label) for label in shared] for names in (classes, other_classes))
    rows[:, here] = other_rows[:, there]
    return rows.flatten(0, 1)


def _differences(detector: SavedDetector, origin: SavedDetector) -> tuple[str, ...]:
    """What equal shapes hide: the same weights may mean other things in another architecture."""
    own, other = (dataclasses.asdict(each.architecture) for each in (detector, origin))
    notes = [
        f"{key}: {other[key]} in the source, {own[key]} here" for key in own if key in other and other[key] != own[key]
    ]
    if detector.normalization != origin.normalization:
        notes.append(f"the input is normalised as in the source from now on: {origin.normalization}")
    return tuple(notes)
