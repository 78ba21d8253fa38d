"""The dense detector: backbone, pyramid, head; and the contract that any detector must meet to take part."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from detdistill.detectors.backbones import Backbone, build_backbone
from detdistill.detectors.heads.atss import AtssHead
from detdistill.detectors.heads.base import DenseHead
from detdistill.detectors.heads.fcos import FcosHead
from detdistill.detectors.heads.gfl import GflHead
from detdistill.detectors.heads.gflv2 import Gflv2Head
from detdistill.detectors.heads.retinanet import RetinaNetHead
from detdistill.detectors.heads.towers import Towers
from detdistill.detectors.heads.vfnet import VfnetHead
from detdistill.detectors.pyramid import ExtraSource, Pyramid
from detdistill.errors import DetdistillError
from detdistill.normalization import IMAGENET, Normalization
from detdistill.structures import (
    Assignment,
    DenseOutput,
    Detections,
    Grid,
    ReduceSum,
    Targets,
    single_process,
)

HEADS: dict[str, Callable[..., DenseHead]] = {
    "retinanet": RetinaNetHead,
    "fcos": FcosHead,
    "atss": AtssHead,
    "gfl": GflHead,
    "gflv2": Gflv2Head,
    "vfnet": VfnetHead,
}


class Detector(Protocol):
    """What a detector must offer to be trained, distilled, evaluated and exported; `check_detector` tests it.

    Attributes:
        classes: class names; label c is `classes[c]`.
        normalization: turns a batch of 0..255 RGB images into what `forward` takes.
    """

    classes: tuple[str, ...]
    normalization: Normalization

    def __call__(self, images: Tensor) -> DenseOutput:
        """Normalised images `(N, 3, H, W)` to an output, the same type in training and in inference."""

    def assign(self, grid: Grid, targets: Targets) -> Assignment:
        """Which ground truth each candidate is positive for."""

    def detection_loss(
        self, output: DenseOutput, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """The named, weighted terms of the detection loss, each a scalar over the global normaliser."""

    def detect(self, output: DenseOutput, sizes: Tensor) -> list[Detections]:
        """The detections of each image, best first; `sizes` `(N, 2)` are the images' true heights and widths."""


class DenseDetector(nn.Module):
    """Backbone, pyramid and head in a row.

    Args:
        backbone: gives one map per stride.
        pyramid: makes them alike and adds coarser ones.
        head: predicts on every level.
        classes: class names.
        normalization: of the input.
    """

    def __init__(
        self,
        backbone: Backbone,
        pyramid: Pyramid,
        head: DenseHead,
        classes: Sequence[str],
        normalization: Normalization = IMAGENET,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = pyramid
        self.head = head
        self.classes = tuple(classes)
        self.normalization = normalization

    def forward(self, images: Tensor) -> DenseOutput:
        """Normalised images `(N, 3, H, W)` to an output."""
        output: DenseOutput = self.head(self.pyramid(self.backbone(images)))
        return output

    def assign(self, grid: Grid, targets: Targets) -> Assignment:
        """Which ground truth each candidate is positive for, by the head's own rule."""
        return self.head.assign(grid, targets)

    def detection_loss(
        self, output: DenseOutput, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """The head's loss terms, weighted; their sum is the detection loss."""
        return self.head.loss(output, targets, assignment, reduce_sum)

    def detect(self, output: DenseOutput, sizes: Tensor) -> list[Detections]:
        """Detections per image, best first, clipped to the true `sizes` `(N, 2)` (height, width)."""
        return self.head.postprocessing(output, sizes)


@dataclass(frozen=True)
class Architecture:
    """Everything that decides a detector's layers, but its classes.

    Attributes:
        head: `retinanet`, `fcos`, `atss`, `gfl`, `gflv2` or `vfnet`.
        backbone: see `build_backbone`.
        backbone_width: factor on the backbone's channels.
        backbone_channels: channels of a ResNet's four stages, instead of the factor.
        strides: backbone levels that the pyramid uses; (4, 8, 16, 32) for small objects.
        channels: of the pyramid, and of the head unless `towers` says otherwise.
        extra_levels: coarser levels beyond the backbone's.
        extra_source: `input` makes them from the backbone's last map, `output` from the pyramid's.
        extra_relu: a ReLU before the second extra level.
        towers: the head's two stacks of convolutions; None for the head's own default.
        options: further keywords of the head, for example `{"center_sampling": True}` for FCOS.
    """

    head: str = "gfl"
    backbone: str = "resnet18"
    backbone_width: float = 1.0
    backbone_channels: tuple[int, int, int, int] | None = None
    strides: tuple[int, ...] = (8, 16, 32)
    channels: int = 256
    extra_levels: int = 2
    extra_source: ExtraSource = "output"
    extra_relu: bool = False
    towers: Towers | None = None
    options: Mapping[str, bool | int | float] = field(default_factory=dict)


def build_detector(
    architecture: Architecture,
    classes: Sequence[str],
    *,
    normalization: Normalization = IMAGENET,
    pretrained_backbone: bool = False,
) -> DenseDetector:
    """Builds a detector with fresh weights.

    Args:
        architecture: the layers.
        classes: class names.
        normalization: of the input.
        pretrained_backbone: timm's ImageNet weights, where the network allows the download.

    Raises:
        DetdistillError: an unknown head, backbone, level or option.
    """
    if architecture.head not in HEADS:
        raise DetdistillError(f"no head is called {architecture.head!r}; there are: {', '.join(HEADS)}")
    head_class = HEADS[architecture.head]
    keywords = inspect.signature(head_class).parameters.values()
    known = [parameter.name for parameter in keywords if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    unknown = sorted(set(architecture.options) - set(known))
    if unknown:
        raise DetdistillError(
            f"head {architecture.head} has no option {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
        )
    backbone = build_backbone(
        architecture.backbone,
        architecture.strides,
        width=architecture.backbone_width,
        channels=architecture.backbone_channels,
        pretrained=pretrained_backbone,
    )
    pyramid = Pyramid(
        backbone.channels,
        backbone.strides,
        architecture.channels,
        architecture.extra_levels,
        architecture.extra_source,
        architecture.extra_relu,
    )
    towers = {} if architecture.towers is None else {"towers": architecture.towers}
    head = head_class(architecture.channels, len(classes), pyramid.strides, **towers, **architecture.options)
    return DenseDetector(backbone, pyramid, head, classes, normalization)
