"""The dense detector: backbone, pyramid, head."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.core.output import DENSE, Output
from detdistill.core.structures import Detections, Matches, ReduceSum, Targets, single_process
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.backbones import build_backbone
from detdistill.detectors.dense.heads.atss_head import AtssHead
from detdistill.detectors.dense.heads.dense_head import DenseHead
from detdistill.detectors.dense.heads.efficientdet_head import EfficientDetHead
from detdistill.detectors.dense.heads.fcos_head import FcosHead
from detdistill.detectors.dense.heads.gfl_head import GflHead
from detdistill.detectors.dense.heads.gflv2_head import Gflv2Head
from detdistill.detectors.dense.heads.retinanet_head import RetinaNetHead
from detdistill.detectors.dense.heads.vfnet_head import VfnetHead
from detdistill.detectors.dense.pyramid import build_pyramid

HEADS: dict[str, type[DenseHead]] = {
    "retinanet": RetinaNetHead,
    "fcos": FcosHead,
    "atss": AtssHead,
    "gfl": GflHead,
    "gflv2": Gflv2Head,
    "vfnet": VfnetHead,
    "efficientdet": EfficientDetHead,
}


class DenseDetector(Detector):
    """Backbone, pyramid and head in a row.

    Args:
        architecture: the layers.
        classes: class names.
        input: what images it reads.
        pretrained_backbone: timm's ImageNet weights, where the network allows the download.

    Raises:
        DetdistillError: an unknown backbone, level or option.
    """

    catalog_name = "dense"
    architecture_type = Architecture
    architecture: Architecture

    def __init__(
        self,
        architecture: Architecture,
        classes: Sequence[str],
        *,
        input: InputSpec = InputSpec(),
        pretrained_backbone: bool = False,
    ) -> None:
        super().__init__(classes, input)
        self.architecture = architecture
        self.backbone = build_backbone(
            architecture.backbone,
            architecture.strides,
            width=architecture.backbone_width,
            channels=architecture.backbone_channels,
            style=architecture.backbone_style,
            deformable=architecture.backbone_deformable,
            pretrained=pretrained_backbone,
        )
        self.pyramid = build_pyramid(architecture.pyramid, self.backbone.channels, self.backbone.strides)
        self.head = build_head(architecture, len(self.classes), self.pyramid.strides)
        self.postprocessing = self.head.postprocessing

    @classmethod
    def from_architecture(
        cls, architecture: Architecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> DenseDetector:
        """A detector with random weights."""
        return cls(architecture, classes, input=input)

    @property
    def kind(self) -> str:
        """The head's name."""
        return self.architecture.kind

    @property
    def offers(self) -> frozenset[Offer]:
        """The head's."""
        return self.head.offers

    @property
    def tower_head(self) -> DenseHead:
        """The head."""
        return self.head

    @property
    def backbone_module(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:  # noqa: ARG002 (the contract's)
        """Normalised images `(N, 3, H, W)` to an output."""
        output: Output = self.head(self.pyramid(self.backbone(images)))
        return output

    def match(self, output: Output, targets: Targets) -> Matches:
        """Which ground truth each candidate is positive for, by the head's own rule."""
        return {DENSE: self.head.assign(output.predictions.grid, targets)}

    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """The head's loss terms, weighted; their sum is the detection loss."""
        return self.head.loss(output.predictions, targets, matches[DENSE], reduce_sum)

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        """Detections per image, best first, clipped to the true `sizes` `(N, 2)` (height, width)."""
        return self.postprocessing(output.predictions, sizes)


def build_head(architecture: Architecture, num_classes: int, strides: Sequence[int]) -> DenseHead:
    """The architecture's head for C classes on levels of these strides."""
    head = HEADS[architecture.kind]
    parameters = inspect.signature(head).parameters.values()
    known = {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    unknown = sorted(architecture.options.keys() - known.keys())
    if unknown:
        raise DetdistillError(
            f"head {architecture.kind} has no option {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
        )
    for name, value in architecture.options.items():
        if not _has_type_of(known[name], value):
            raise DetdistillError(
                f"option {name} of head {architecture.kind} must be of type {type(known[name]).__name__}, such as "
                f"{known[name]}, not {value!r}"
            )
    towers = {} if architecture.towers is None else {"towers": architecture.towers}
    build: Callable[..., DenseHead] = head  # the base class has other arguments than the heads
    return build(architecture.pyramid.channels, num_classes, strides, **towers, **architecture.options)


def _has_type_of(default: object, value: object) -> bool:
    """Whether an option is of its default's type; a whole number passes for a float."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_has_type_of(default[0], item) for item in value)
    return type(value) is type(default) or (type(default) is float and type(value) is int)
