"""Everything that decides the layers of a two-stage detector, but its classes. Readable without torch."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from detdistill.core.bounds import Channels, Count, Factor, Layers, Probability, Stride
from detdistill.core.settings import settings, tuple_of_list
from detdistill.detectors.dense.architecture import MOST_LEVELS, WIDEST, Numbers
from detdistill.detectors.dense.choices import BackboneStyle, RcnnName

T = TypeVar("T")
TwoStageKind = Literal["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn"]
Deviations = Annotated[tuple[Factor, Factor, Factor, Factor], BeforeValidator(tuple_of_list)]

STAGE_DEVIATIONS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
"""What the deltas of the three stages of Cascade R-CNN are divided by, rounded as its authors did."""


@settings
class RegionPyramid:
    """The pyramid between backbone and heads."""

    channels: Channels = 256
    """Channels of every level."""
    pooled_levels: Annotated[int, Field(ge=0, le=4)] = 1
    """Coarser levels for the proposals alone, each with every second cell of the one before."""


@settings
class RegionProposals:
    """The region proposal network (Ren et al., Faster R-CNN, NeurIPS 2015), and what is made of its output."""

    anchor_scales: Numbers = (8.0,)
    """Sides of the square anchors of a cell, in strides."""
    anchor_ratios: Numbers = (0.5, 1.0, 2.0)
    """Height over width; every scale comes in every ratio."""
    depth: Layers = 1
    """3x3 convolutions before the predictors."""
    sampled: Count = 256
    """Anchors of an image that learn in a step, at most half of them positive."""
    per_level: Count = 1000
    """Best anchors of a level that are decoded, in inference."""
    kept: Count = 1000
    """Proposals of an image, in inference."""
    training_per_level: Count = 2000
    """Best anchors of a level that are decoded, in training."""
    training_kept: Count | None = None
    """Proposals of an image, in training. Default: 1000, and 2000 of cascades."""
    iou_threshold: Probability = 0.7
    """Overlap above which the worse of two proposals of one level is dropped."""
    inside_only: bool | None = None
    """Only anchors within the image learn. Default: those of cascades."""
    smoothness: Factor | None = None
    """β of the smooth L1 loss of boxes; 0 is L1. Default: 0, and 1/9 of cascades."""


@settings
class RegionStage:
    """One stage of region heads: which proposals it takes for objects, and how it writes boxes."""

    positive: Probability = 0.5
    """Lowest IoU of a proposal with the object that it learns."""
    deviations: Deviations = (0.1, 0.1, 0.2, 0.2)
    """What the deltas dx, dy, dw and dh are divided by."""
    weight: Factor = 1.0
    """Weight of the stage's losses."""


@settings
class RegionHeads:
    """The second stage: features of each proposal, and the layers that read them."""

    size: Annotated[int, Field(gt=0, le=64)] = 7
    """Cells of a proposal's features along each side."""
    aligned: bool = True
    """Cells begin at pixels' corners, as mmdetection and detectron2 have it; torchvision's lie half a cell off."""
    points: Annotated[int, Field(ge=0, le=16)] = 0
    """Points along each side of a cell that are averaged; 0 takes as many as the cell has pixels of the map."""
    convolutions: Layers = 0
    """3x3 convolutions before the linear layers (`4conv1fc` has 4)."""
    layers: Layers = 2
    """Linear layers before the predictors."""
    channels: Channels = 1024
    """Width of the linear layers."""
    class_boxes: bool | None = None
    """Each class has a box of its own. Default: yes, but for cascades."""
    sampled: Count = 512
    """Proposals of an image that learn in a step."""
    positive_share: Probability = 0.25
    """Largest share of positive ones among them."""
    smoothness: Factor | None = None
    """β of the smooth L1 loss of boxes; 0 is L1. Default: 0, and 1 of cascades."""
    stages: Annotated[tuple[RegionStage, ...], BeforeValidator(tuple_of_list), Field(max_length=8)] | None = None
    """Stages, each reading the boxes of the one before. Default: one, and the three of Cascade R-CNN (Cai and
    Vasconcelos, CVPR 2018) for cascades."""
    average: Literal["logits", "probabilities"] = "logits"
    """What of several stages is averaged for the final scores: mmdetection averages logits, detectron2
    probabilities."""


@settings
class MaskBranch:
    """The branch that predicts a mask inside each box (He et al., Mask R-CNN, ICCV 2017)."""

    size: Annotated[int, Field(gt=0, le=64)] = 14
    """Cells of a region's features along each side; masks have twice as many."""
    convolutions: Layers = 4
    """3x3 convolutions."""
    channels: Channels = 256
    """Channels of them."""
    class_masks: bool = True
    """Each class has a mask of its own."""


@settings
class TwoStageArchitecture:
    """The layers of a two-stage detector: a backbone, a pyramid, a region proposal network and region heads."""

    kind: TwoStageKind
    """Detection method."""
    backbone: str = "resnet18"
    """`resnet18` to `resnet152`, `mobilenetv2`, or any timm model that offers feature maps."""
    backbone_width: Annotated[float, Field(gt=0, le=WIDEST)] = 1.0
    """Factor on the backbone's channels (ResNets and MobileNetV2)."""
    backbone_channels: tuple[Channels, Channels, Channels, Channels] | None = None
    """Channels of a ResNet's four stages, before a bottleneck's expansion, instead of the factor."""
    backbone_style: BackboneStyle = "pytorch"
    """Where a ResNet's bottlenecks halve the map: `pytorch` in the 3x3 convolution, `caffe` in the first 1x1."""
    strides: Annotated[tuple[Stride, ...], Field(min_length=1, max_length=MOST_LEVELS)] = (4, 8, 16, 32)
    """Strides of the backbone's maps that the pyramid uses."""
    pyramid: RegionPyramid = field(default_factory=RegionPyramid)
    """Pyramid between backbone and heads."""
    proposals: RegionProposals = field(default_factory=RegionProposals)
    """First stage."""
    regions: RegionHeads = field(default_factory=RegionHeads)
    """Second stage."""
    masks: MaskBranch = field(default_factory=MaskBranch)
    """Mask branch of `mask_rcnn` and `cascade_mask_rcnn`."""

    @property
    def name(self) -> str:
        """The detector's name in the literature."""
        return self.kind

    @property
    def is_cascade(self) -> bool:
        """Whether the boxes are refined over several stages."""
        return self.kind in ("cascade_rcnn", "cascade_mask_rcnn")

    @property
    def has_masks(self) -> bool:
        """Whether there is a mask branch."""
        return self.kind in ("mask_rcnn", "cascade_mask_rcnn")

    def completed(self) -> TwoStageArchitecture:
        """The same with the kind's values where there are defaults that depend on it."""
        cascade, proposals, regions = self.is_cascade, self.proposals, self.regions
        weights = (1.0, 0.5, 0.25)
        three = tuple(
            RegionStage(positive, deviations, weight)
            for positive, deviations, weight in zip((0.5, 0.6, 0.7), STAGE_DEVIATIONS, weights, strict=True)
        )
        return replace(
            self,
            proposals=replace(
                proposals,
                training_kept=_first(proposals.training_kept, 2000 if cascade else 1000),
                inside_only=_first(proposals.inside_only, cascade),
                smoothness=_first(proposals.smoothness, 1 / 9 if cascade else 0.0),
            ),
            regions=replace(
                regions,
                class_boxes=_first(regions.class_boxes, not cascade),
                smoothness=_first(regions.smoothness, 1.0 if cascade else 0.0),
                stages=_first(regions.stages, three if cascade else three[:1]),
            ),
        )


@settings
class TorchvisionRcnnArchitecture:
    """The layers of a two-stage detector of torchvision."""

    name: RcnnName
    """torchvision's name of the model."""
    frozen_norm_eps: Factor | None = None
    """What the frozen batch norms of the backbone add to variances; null for batch norms that learn. torchvision
    freezes those of all models but the second versions when it starts from pretrained weights."""
    empty_columns: Annotated[tuple[Count, ...], BeforeValidator(tuple_of_list), Field(max_length=1000)] = ()
    """Class columns that stand for nothing and count as background, such as the gaps in COCO's category ids."""
    kind: Literal["torchvision_rcnn"] = "torchvision_rcnn"
    """A two-stage detector of torchvision."""

    @model_validator(mode="after")
    def _has_frozen_form(self) -> Self:
        if self.frozen_norm_eps is not None and self.name.endswith("_v2"):
            raise ValueError(f"{self.name} has no frozen batch norms: leave frozen_norm_eps out")
        return self


def _first(given: T | None, default: T) -> T:
    """The value that was given, else the default."""
    return default if given is None else given
