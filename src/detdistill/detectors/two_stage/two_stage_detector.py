"""Faster, Mask and Cascade R-CNN on a feature pyramid, with this package's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from detdistill.core.bounds import MOST
from detdistill.core.grid import Grid
from detdistill.core.input_spec import InputSpec
from detdistill.detectors.dense.assigners import MaxIouAssigner, Region
from detdistill.detectors.dense.backbones import build_backbone
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.dense.priors import PriorLayout, anchor_boxes
from detdistill.detectors.dense.pyramid import Pyramid
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.two_stage.mask_head import MaskHead
from detdistill.detectors.two_stage.masks import MaskRules
from detdistill.detectors.two_stage.proposals import ProposalMatcher, ProposalSelection
from detdistill.detectors.two_stage.rcnn import Rcnn
from detdistill.detectors.two_stage.region_features import RegionFeatures
from detdistill.detectors.two_stage.region_head import ProposalHead, RegionHead
from detdistill.detectors.two_stage.region_rules import ProposalRules, RegionRules, StageRules
from detdistill.detectors.two_stage.sampling import RandomSampler
from detdistill.detectors.two_stage.two_stage_architecture import (
    RegionProposals,
    TwoStageArchitecture,
)

MULTIPLE = 32
"""Pixels; an image by itself is padded to multiples of so many."""


class TwoStageDetector(Rcnn):
    """Backbone, pyramid, region proposal network and region heads, with mmdetection's rules.

    Ren et al., Faster R-CNN, NeurIPS 2015, on the pyramid of Lin et al., CVPR 2017; Cai and Vasconcelos, Cascade R-CNN,
    CVPR 2018; He et al., Mask R-CNN, ICCV 2017.

    Args:
        architecture: the layers.
        classes: class names.
        input: what images it reads.
        pretrained_backbone: timm's ImageNet weights, where the network allows the download.

    Raises:
        DetdistillError: an unknown backbone or level, or anchors that make no sense.
    """

    catalog_name = "two_stage"
    architecture_type = TwoStageArchitecture
    architecture: TwoStageArchitecture

    def __init__(
        self,
        architecture: TwoStageArchitecture,
        classes: Sequence[str],
        *,
        input: InputSpec = InputSpec(),
        pretrained_backbone: bool = False,
    ) -> None:
        layers = architecture.completed()
        first, second = layers.proposals, layers.regions
        strides = tuple(sorted(set(layers.strides)))
        super().__init__(
            classes,
            input,
            proposing=_proposal_rules(first),
            regions=_region_rules(layers, strides),
            anchor_assigner=MaxIouAssigner(
                0.7, 0.3, minimum=0.3, region=Region(MULTIPLE, inside=bool(first.inside_only))
            ),
            anchor_coder=DeltaCoder(),
            anchor_sampler=RandomSampler(first.sampled, 0.5),
            region_sampler=RandomSampler(second.sampled, second.positive_share),
        )
        self.architecture = architecture
        self.backbone = build_backbone(
            layers.backbone,
            strides,
            width=layers.backbone_width,
            channels=layers.backbone_channels,
            style=layers.backbone_style,
            pretrained=pretrained_backbone,
        )
        channels = layers.pyramid.channels
        self.pyramid = Pyramid(self.backbone.channels, self.backbone.strides, channels, extra_levels=0)
        coarse = tuple(strides[-1] * 2 ** (number + 1) for number in range(layers.pyramid.pooled_levels))
        self.layout = PriorLayout(
            (*strides, *coarse), anchor_boxes((*strides, *coarse), first.anchor_scales, first.anchor_ratios)
        )
        self.proposal_head = ProposalHead(channels, len(self.layout.base_anchors[0]), first.depth)
        self.region_heads = nn.ModuleList(
            RegionHead(
                channels,
                second.size,
                len(self.classes),
                convolutions=second.convolutions,
                layers=second.layers,
                width=second.channels,
                class_boxes=bool(second.class_boxes),
            )
            for _ in self.regions.stages
        )
        branch = layers.masks
        self.mask_heads = nn.ModuleList(
            MaskHead(
                channels,
                len(self.classes),
                convolutions=branch.convolutions,
                channels=branch.channels,
                class_masks=branch.class_masks,
            )
            for _ in self.regions.stages
            if layers.has_masks
        )
        self.postprocessing = PostProcessing(iou_threshold=0.5, candidates_per_level=MOST)

    @classmethod
    def from_architecture(
        cls, architecture: TwoStageArchitecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> TwoStageDetector:
        """A detector with random weights."""
        return cls(architecture, classes, input=input)

    @property
    def kind(self) -> str:
        """The method's name."""
        return self.architecture.kind

    @property
    def backbone_module(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The pyramid of normalised images `(N, 3, H, W)`, L x `(N, Q, H_l, W_l)`."""
        levels = list(self.pyramid(self.backbone(images)))
        for _ in range(self.architecture.pyramid.pooled_levels):
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)

    def grid(self, maps: Sequence[Tensor], canvas: tuple[int, int]) -> Grid:  # noqa: ARG002
        """The anchors of these maps; strides are nominal."""
        return self.layout.grid(tuple((level.shape[-2], level.shape[-1]) for level in maps), maps[0].device)

    def proposed(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Logits, L x `(N, A, H, W)`, and deltas, L x `(N, 4 A, H, W)`, of the anchors."""
        found: tuple[list[Tensor], list[Tensor]] = self.proposal_head(maps)
        return found

    def read_regions(self, stage: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(K, C + 1)`, background last, and deltas `(K, 4 C)` or `(K, 4)`, of features `(K, Q, S, S)`."""
        found: tuple[Tensor, Tensor] = self.region_heads[stage](features)
        return found

    def read_masks(self, stage: int, features: Tensor) -> Tensor:
        """Mask logits `(K, C, S, S)` or `(K, 1, S, S)` of features `(K, Q, s, s)`."""
        logits: Tensor = self.mask_heads[stage](features)
        return logits


def _proposal_rules(settings: RegionProposals) -> ProposalRules:
    """Those of completed settings."""
    assert settings.training_kept is not None
    assert settings.smoothness is not None
    return ProposalRules(
        ProposalSelection(settings.training_per_level, settings.training_kept, settings.iou_threshold),
        ProposalSelection(settings.per_level, settings.kept, settings.iou_threshold),
        settings.smoothness,
    )


def _region_rules(layers: TwoStageArchitecture, strides: tuple[int, ...]) -> RegionRules:
    """Those of completed settings."""
    settings = layers.regions
    features = RegionFeatures(strides, settings.size, settings.aligned, settings.points)
    low_quality = layers.kind == "mask_rcnn"  # as mmdetection's configuration has it, and not that of the cascade
    assert settings.stages is not None
    assert settings.smoothness is not None
    return RegionRules(
        features,
        tuple(
            StageRules(ProposalMatcher(stage.positive, low_quality), DeltaCoder(stage.deviations), stage.weight)
            for stage in settings.stages
        ),
        settings.smoothness,
        settings.average == "probabilities",
        MaskRules(replace(features, size=layers.masks.size)) if layers.has_masks else None,
    )
