"""torchvision's dense detectors behind the `Detector` contract: its networks and losses, our outputs and assigners."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import fcos_resnet50_fpn, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detdistill.core.boxes import LARGEST_LOG_SCALE, box_centers, box_sides, distances_to_boxes
from detdistill.core.grid import Grid
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import DENSE_OFFERS
from detdistill.core.output import DENSE, BoxCoder, Candidates, Output, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import IGNORED, Assignment, Detections, Matches, ReduceSum, Targets, single_process
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.assigners import FcosAssigner, MaxIouAssigner, OwnBestAssigner
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.postprocess import PostProcessing

NETWORKS = {
    "retinanet_resnet50_fpn": retinanet_resnet50_fpn,
    "retinanet_resnet50_fpn_v2": retinanet_resnet50_fpn_v2,
    "fcos_resnet50_fpn": fcos_resnet50_fpn,
}


CERTAIN_BACKGROUND = -1e4
"""A logit whose focal loss, as background, is exactly 0 in float32."""


@dataclass(frozen=True)
class PriorSizeCoder:
    """Distances from the prior's centre in units of the prior's sides, as torchvision's FCOS writes boxes."""

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:  # noqa: ARG002 (the contract's)
        """`(…, 4)` boxes from distances left, top, right, bottom `(…, 4)`."""
        sides = box_sides(priors)
        return distances_to_boxes(box_centers(priors), regression * torch.cat((sides, sides), dim=-1))


class GeometricMeanPredictions(Predictions):
    """Predictions ranked by the square root of class probability times centerness, as torchvision's FCOS does."""

    def scores(self, index: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """`(K,)`, or `(N, P, C)` for all; 0 to 1."""
        return super().scores(index).sqrt()

    def log_odds(self, index: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """The logits of `scores(index)`, in the same shape."""
        # With p the product, logit(√p) = logit(p) − log √p + log(1 + √p): nothing is lost where p is nearly 0 or 1.
        product = super().log_odds(index)
        log_root = F.logsigmoid(product) / 2
        return product - log_root + log_root.exp().log1p()


class TorchvisionDetector(Detector):
    """One of torchvision's dense detectors, taken apart.

    Raw outputs, assignment, losses, scores and boxes are torchvision's; what torchvision resizes and normalises inside
    of the model is done before, as for every detector here. Its priors depend on the canvas: their step is
    `canvas // cells`, which is the level's stride only where the canvas is a multiple of it. torchvision pads to
    multiples of 32.

    Boxes without area, which torchvision reports, are left out; images are weighted equally over all processes, not
    over each.

    Args:
        architecture: the layers.
        classes: class names, one for each of the network's class columns.
        input: what images it reads.

    Attributes:
        network: torchvision's model; its `transform` is never run.
        postprocessing: how detections are read off an output; the threshold is on the whole score.
    """

    catalog_name = "torchvision"
    architecture_type = TorchvisionArchitecture
    architecture: TorchvisionArchitecture
    terms: ClassVar[dict[str, str]]
    predictions_type: type[Predictions] = Predictions
    coder: BoxCoder

    def __init__(
        self, architecture: TorchvisionArchitecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> None:
        super().__init__(classes, input)
        self.architecture = architecture
        network: Any = NETWORKS[architecture.name](weights=None, weights_backbone=None, num_classes=len(self.classes))
        if architecture.frozen_norm_eps is not None:
            network.backbone = _frozen_backbone(architecture.frozen_norm_eps)
        self.network = network
        self.base_anchors: tuple[Tensor, ...] = tuple(network.anchor_generator.cell_anchors)
        self.postprocessing = PostProcessing(
            score_threshold=network.score_thresh,
            iou_threshold=network.nms_thresh,
            candidates_per_level=network.topk_candidates,
            max_detections=network.detections_per_img,
        )

    @classmethod
    def from_architecture(
        cls, architecture: TorchvisionArchitecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> TorchvisionDetector:
        """The detector of this architecture, with random weights."""
        kind = TorchvisionFcos if architecture.name == "fcos_resnet50_fpn" else TorchvisionRetinaNet
        return kind(architecture, classes, input)

    @property
    def kind(self) -> str:
        """The network's name in torchvision."""
        return self.architecture.name

    @property
    def backbone_module(self) -> nn.Module:
        """The backbone without its pyramid."""
        backbone: nn.Module = self.network.backbone.body
        return backbone

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:  # noqa: ARG002 (the contract's)
        """Normalised images `(N, 3, H, W)` to an output."""
        features: tuple[Tensor, ...] = tuple(self.network.backbone(images).values())
        raw = self.network.head(list(features))
        quality = raw["bbox_ctrness"].squeeze(-1) if "bbox_ctrness" in raw else None
        sizes = [(level.shape[-2], level.shape[-1]) for level in features]  # `int` would fix them in an exported file
        grid = self.grid((images.shape[-2], images.shape[-1]), sizes, images.device)
        predictions = self.predictions_type(
            Candidates(grid), raw["cls_logits"], raw["bbox_regression"], self.coder, quality
        )
        return Output.dense(features, predictions)

    def grid(self, canvas: tuple[int, int], sizes: Sequence[tuple[int, int]], device: torch.device) -> Grid:
        """The grid of a batch of `canvas` (height, width) pixels whose maps have `sizes` (height, width) cells."""
        steps = tuple((canvas[0] // height, canvas[1] // width) for height, width in sizes)
        return Grid(tuple(sizes), steps, tuple(anchors.to(device) for anchors in self.base_anchors))

    @abstractmethod
    def assign(self, grid: Grid, targets: Targets) -> Assignment:
        """Which ground truth each candidate is positive for."""

    def match(self, output: Output, targets: Targets) -> Matches:
        """Which ground truth each candidate is positive for."""
        return {DENSE: self.assign(output.predictions.grid, targets)}

    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """Torchvision's loss terms under our names; their sum is the detection loss."""
        assignment = matches[DENSE]
        images = range(targets.num_images)
        own = [targets.image == image for image in images]
        listed = [{"boxes": targets.boxes[mine], "labels": targets.labels[mine]} for mine in own]
        first = torch.searchsorted(targets.image, torch.arange(targets.num_images, device=targets.image.device))
        matched = torch.where(assignment.matched >= 0, assignment.matched - first[:, None], assignment.matched)
        predictions = output.predictions
        ignored = (assignment.matched == IGNORED)[..., None]
        raw = {
            # torchvision's FCOS takes all that is not positive for background.
            "cls_logits": at_least_float32(predictions.logits).masked_fill(ignored, CERTAIN_BACKGROUND),
            "bbox_regression": at_least_float32(predictions.regression),
        }
        if predictions.quality_logits is not None:
            raw["bbox_ctrness"] = at_least_float32(predictions.quality_logits[..., None])
        losses = self.network.head.compute_loss(listed, raw, [predictions.grid.priors for _ in images], list(matched))
        divided_by, counted = self._normalizers(assignment)
        share = divided_by.clamp(min=1) / reduce_sum(counted).clamp(min=1)
        return {ours: losses[theirs] * share for theirs, ours in self.terms.items()}

    @abstractmethod
    def _normalizers(self, assignment: Assignment) -> tuple[Tensor, Tensor]:
        """Scalars: what torchvision divides the loss of a batch by, at the least 1, and what it is to be divided by."""

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        """Detections per image, best first, clipped to the true `sizes` `(N, 2)` (height, width)."""
        # torchvision chooses candidates by their whole score, so that takes the place of the class score.
        own = output.predictions
        return self.postprocessing(Predictions(own.candidates, own.log_odds(), own.regression, own.coder), sizes)


class TorchvisionRetinaNet(TorchvisionDetector):
    """torchvision's RetinaNet, both versions: L1 on deltas (the first), GIoU and group norm in the head (the second).

    Each image's loss is divided by its own positives. An object's best anchors become positive however little they
    overlap it, but learn whatever object they overlap most; RetinaNet's authors and mmdetection let them learn that
    object.
    """

    offers = DENSE_OFFERS | {"anchors"}
    terms: ClassVar = {"classification": "classification", "bbox_regression": "box"}

    def __init__(
        self, architecture: TorchvisionArchitecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> None:
        super().__init__(architecture, classes, input)
        self.coder = DeltaCoder(log_scales=(-math.inf, LARGEST_LOG_SCALE))
        matcher = self.network.proposal_matcher
        self.assigner = OwnBestAssigner(MaxIouAssigner(matcher.high_threshold, matcher.low_threshold))

    def assign(self, grid: Grid, targets: Targets) -> Assignment:
        """Positives as `MaxIouAssigner` finds them, each for the object of its image that it overlaps most."""
        return self.assigner(grid, targets)

    def _normalizers(self, assignment: Assignment) -> tuple[Tensor, Tensor]:
        counts = (assignment.matched != IGNORED).any(dim=1)
        return counts.new_tensor(len(counts), dtype=torch.float32), counts.sum().float()


class TorchvisionFcos(TorchvisionDetector):
    """torchvision's FCOS: centre sampling, GIoU, centerness on the box branch.

    Its points are the upper left corners of the cells.
    """

    terms: ClassVar = {"classification": "classification", "bbox_regression": "box", "bbox_ctrness": "centerness"}
    predictions_type = GeometricMeanPredictions
    coder = PriorSizeCoder()

    def __init__(
        self, architecture: TorchvisionArchitecture, classes: Sequence[str], input: InputSpec = InputSpec()
    ) -> None:
        super().__init__(architecture, classes, input)
        sides = [float(box_sides(anchors)[0, 0]) for anchors in self.base_anchors]
        # Ours are inclusive, torchvision's are not: with whole pixels an object's farthest side often lies on a bound.
        bounds = [(math.nextafter(4 * side, math.inf), math.nextafter(8 * side, 0)) for side in sides]
        bounds[0] = (0.0, bounds[0][1])
        bounds[-1] = (bounds[-1][0], math.inf)
        self.assigner = FcosAssigner(tuple(bounds), self.network.center_sampling_radius)

    def assign(self, grid: Grid, targets: Targets) -> Assignment:
        """A point near an object's centre learns the smallest such object that suits its level."""
        return self.assigner(grid, targets)

    def _normalizers(self, assignment: Assignment) -> tuple[Tensor, Tensor]:
        positives = (assignment.matched >= 0).sum().float()
        return positives, positives


def _frozen_backbone(eps: float) -> Any:
    return resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=partial(FrozenBatchNorm2d, eps=eps),
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
