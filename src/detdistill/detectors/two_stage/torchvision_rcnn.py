"""torchvision's two-stage detectors behind the `Detector` contract: its networks, and its rules in ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
    maskrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.backbone_utils import mobilenet_backbone, resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from detdistill.core.bounds import MOST
from detdistill.core.boxes import LARGEST_LOG_SCALE
from detdistill.core.grid import Grid
from detdistill.core.input_spec import InputSpec
from detdistill.detectors.dense.assigners import MaxIouAssigner, OwnBestAssigner
from detdistill.detectors.dense.choices import RcnnName
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.two_stage.masks import MaskRules
from detdistill.detectors.two_stage.proposals import ProposalMatcher, ProposalSelection
from detdistill.detectors.two_stage.rcnn import Rcnn
from detdistill.detectors.two_stage.region_features import RegionFeatures
from detdistill.detectors.two_stage.region_rules import ProposalRules, RegionRules, StageRules
from detdistill.detectors.two_stage.sampling import RandomSampler
from detdistill.detectors.two_stage.two_stage_architecture import TorchvisionRcnnArchitecture

NETWORKS: dict[RcnnName, Callable[..., nn.Module]] = {
    "fasterrcnn_resnet50_fpn": fasterrcnn_resnet50_fpn,
    "fasterrcnn_resnet50_fpn_v2": fasterrcnn_resnet50_fpn_v2,
    "fasterrcnn_mobilenet_v3_large_fpn": fasterrcnn_mobilenet_v3_large_fpn,
    "fasterrcnn_mobilenet_v3_large_320_fpn": fasterrcnn_mobilenet_v3_large_320_fpn,
    "maskrcnn_resnet50_fpn": maskrcnn_resnet50_fpn,
    "maskrcnn_resnet50_fpn_v2": maskrcnn_resnet50_fpn_v2,
}
RESNET_STRIDES, MOBILENET_STRIDES = (4, 8, 16, 32), (32,)
"""Of the maps that proposals are read from. MobileNetV3 has two of stride 32, of which torchvision reads the first."""
SMOOTHNESS = 1 / 9
"""β of torchvision's smooth L1 losses."""
STEEPEST = (0.1, 0.1, 0.2, 0.2)
"""What the deltas of torchvision's region head are divided by: the inverse of its weights 10, 10, 5, 5."""


class TorchvisionRcnn(Rcnn):
    """One of torchvision's two-stage detectors, taken apart.

    Networks, anchors, proposals, matching, losses, scores and boxes are torchvision's; what torchvision resizes and
    normalises inside of the model is done before, as for every detector here. Levels are read at their nominal strides;
    torchvision finds the strides from its first batch and keeps them. An object that overlaps no anchor gets none.

    Args:
        architecture: the layers.
        classes: class names, one for each of the network's class columns but 0 and the empty ones.
        input: what images it reads.

    Attributes:
        network: torchvision's model; its `transform` is never run.
    """

    catalog_name = "torchvision_rcnn"
    architecture_type = TorchvisionRcnnArchitecture
    architecture: TorchvisionRcnnArchitecture

    def __init__(
        self, architecture: TorchvisionRcnnArchitecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> None:
        columns = len(classes) + len(architecture.empty_columns) + 1
        network: Any = NETWORKS[architecture.name](weights=None, weights_backbone=None, num_classes=columns)
        if architecture.frozen_norm_eps is not None:
            network.backbone = _frozen_backbone(architecture.name, architecture.frozen_norm_eps)
        rpn, roi = network.rpn, network.roi_heads
        strides = RESNET_STRIDES if "resnet" in architecture.name else MOBILENET_STRIDES
        features = RegionFeatures(strides, roi.box_roi_pool.output_size[0], aligned=False, points=2)
        masks = None
        if "maskrcnn" in architecture.name:
            masks = MaskRules(replace(features, size=roi.mask_roi_pool.output_size[0]), soft_targets=True)
        matcher, sampler = rpn.proposal_matcher, rpn.fg_bg_sampler
        super().__init__(
            classes,
            input,
            proposing=ProposalRules(_selection(rpn, "training"), _selection(rpn, "testing"), SMOOTHNESS, least=0),
            regions=RegionRules(
                features,
                (StageRules(ProposalMatcher(roi.proposal_matcher.high_threshold), _coder(STEEPEST)),),
                SMOOTHNESS,
                masks=masks,
            ),
            anchor_assigner=OwnBestAssigner(MaxIouAssigner(matcher.high_threshold, matcher.low_threshold)),
            anchor_coder=_coder((1.0, 1.0, 1.0, 1.0)),
            anchor_sampler=RandomSampler(sampler.batch_size_per_image, sampler.positive_fraction),
            region_sampler=RandomSampler(roi.fg_bg_sampler.batch_size_per_image, roi.fg_bg_sampler.positive_fraction),
        )
        self.architecture = architecture
        self.network = network
        self.base_anchors: tuple[Tensor, ...] = tuple(rpn.anchor_generator.cell_anchors)
        self.postprocessing = PostProcessing(
            score_threshold=roi.score_thresh,
            iou_threshold=roi.nms_thresh,
            candidates_per_level=MOST,
            max_detections=roi.detections_per_img,
        )
        empty = {0, *architecture.empty_columns}
        self.columns = tuple(column for column in range(columns) if column not in empty)
        self.background_columns = tuple(sorted(empty))

    @classmethod
    def from_architecture(
        cls, architecture: TorchvisionRcnnArchitecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> TorchvisionRcnn:
        """The detector of this architecture, with random weights."""
        return cls(architecture, classes, input)

    @property
    def kind(self) -> str:
        """The network's name in torchvision."""
        return self.architecture.name

    @property
    def backbone_module(self) -> nn.Module:
        """The backbone without its pyramid."""
        backbone: nn.Module = self.network.backbone.body
        return backbone

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The pyramid of normalised images `(N, 3, H, W)`, L x `(N, Q, H_l, W_l)`."""
        return tuple(self.network.backbone(images).values())

    def grid(self, maps: Sequence[Tensor], canvas: tuple[int, int]) -> Grid:
        """The anchors of these maps; a step is the canvas's side divided by the map's, rounded down."""
        sizes = tuple((level.shape[-2], level.shape[-1]) for level in maps)
        steps = tuple((canvas[0] // height, canvas[1] // width) for height, width in sizes)
        return Grid(sizes, steps, tuple(anchors.to(maps[0].device) for anchors in self.base_anchors))

    def proposed(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits, L x `(N, A, H, W)`, and deltas, L x `(N, 4 A, H, W)`, of the anchors."""
        found: tuple[list[Tensor], list[Tensor]] = self.network.rpn.head(list(maps))
        return found

    def read_regions(self, stage: int, features: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002 (there is one)
        """Logits `(K, C + 1)`, background last, and deltas `(K, 4 C)`, of features `(K, Q, S, S)`."""
        roi = self.network.roi_heads
        logits, deltas = roi.box_predictor(roi.box_head(features))
        background = logits[:, list(self.background_columns)].logsumexp(dim=1, keepdim=True)
        kept = list(self.columns)
        return torch.cat((logits[:, kept], background), dim=1), deltas.view(deltas.shape[0], -1, 4)[:, kept].flatten(1)

    def read_masks(self, stage: int, features: Tensor) -> Tensor:  # noqa: ARG002 (there is one)
        """Mask logits `(K, C, S, S)` of features `(K, Q, s, s)`."""
        roi = self.network.roi_heads
        logits: Tensor = roi.mask_predictor(roi.mask_head(features))
        return logits[:, list(self.columns)]


def _coder(deviations: tuple[float, float, float, float]) -> DeltaCoder:
    return DeltaCoder(deviations, (-math.inf, LARGEST_LOG_SCALE))


def _selection(rpn: Any, mode: str) -> ProposalSelection:
    return ProposalSelection(
        rpn._pre_nms_top_n[mode],
        rpn._post_nms_top_n[mode],
        rpn.nms_thresh,
        least_side=rpn.min_size,
        score_threshold=rpn.score_thresh,
    )


def _frozen_backbone(name: RcnnName, eps: float) -> nn.Module:
    norm_layer = partial(FrozenBatchNorm2d, eps=eps)
    if "resnet" in name:
        backbone: nn.Module = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=norm_layer, trainable_layers=5
        )
        return backbone
    small: nn.Module = mobilenet_backbone(
        backbone_name="mobilenet_v3_large", fpn=True, weights=None, norm_layer=norm_layer, trainable_layers=6
    )
    return small
