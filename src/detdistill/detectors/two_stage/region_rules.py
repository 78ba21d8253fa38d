"""The rules of a two-stage detector: everything but its layers."""

from __future__ import annotations

from dataclasses import dataclass

from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.two_stage.masks import MaskRules
from detdistill.detectors.two_stage.proposals import ProposalMatcher, ProposalSelection
from detdistill.detectors.two_stage.region_features import RegionFeatures


@dataclass(frozen=True)
class ProposalRules:
    """Of the first stage.

    Attributes:
        training: how proposals are selected in training.
        inference: the same in inference.
        smoothness: β of the smooth L1 loss of boxes; 0 is L1.
        least: for the normaliser, an image's least number of positives, and of negatives.
    """

    training: ProposalSelection
    inference: ProposalSelection
    smoothness: float = 0.0
    least: int = 1


@dataclass(frozen=True)
class StageRules:
    """Of one stage of region heads.

    Attributes:
        matcher: which proposals learn which object.
        coder: writes boxes as deltas from proposals.
        weight: of the stage's losses.
    """

    matcher: ProposalMatcher
    coder: DeltaCoder
    weight: float = 1.0


@dataclass(frozen=True)
class RegionRules:
    """Of the second stage.

    Attributes:
        features: how proposals are read off the pyramid.
        stages: of the region heads, in order.
        smoothness: β of the smooth L1 loss of boxes; 0 is L1.
        averages_probabilities: the final scores are the mean of the stages' probabilities, not of their logits.
        masks: of the mask branch; None without one.
    """

    features: RegionFeatures
    stages: tuple[StageRules, ...]
    smoothness: float = 0.0
    averages_probabilities: bool = False
    masks: MaskRules | None = None
