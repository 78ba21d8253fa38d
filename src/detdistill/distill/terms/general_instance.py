"""General Instance Distillation (Dai et al., CVPR 2021, arXiv 2103.02340)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from detdistill.core.boxes import encode_deltas
from detdistill.core.errors import DetdistillError
from detdistill.core.output import Candidates, Output
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Assignment, Matches, Targets
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.grid_correspondence import cell_matches
from detdistill.distill.regions import Regions, best_regions, region_features
from detdistill.distill.term import Method, Pair
from detdistill.distill.view import View
from detdistill.losses.features import LEAST_RELATED, relation_imitation
from detdistill.losses.soft_labels import binary_kl

OVERLAP = 0.3
"""Suppresses instances. This and the two numbers below are those of the reproduction."""

SMALLEST_SIDE = 10
"""Pixels; of an instance."""

BINS = 10
"""Along both axes of an instance."""


class GeneralInstance(FeatureTerm):
    """Where the two detectors differ most, the student imitates features, their relations and the predictions.

    General instances are the boxes of the candidates whose class probabilities differ most, each from the detector that
    is surer of it, without those that overlap a better one. Three things are compared, none of which needs ground
    truth: RoIAligned features of the instances, squared differences summed over channels and averaged over instances
    and bins; the distances between the instances of an image, in proportion, averaged over images with at least three;
    and the predictions at the candidates that the student's assigner gives to the instances: binary KL of the classes
    (the gradient of the published cross entropy) and L1 of R-CNN's deltas, over the number of these candidates.

    Sources disagree, and no official code was published. The defaults are those of the first author's reproduction,
    which says of itself that its accuracy is not aligned with the paper's.

    Args:
        score: |max_c p_teacher − max_c p_student| (`difference_of_best`, the reproduction), or
            max_c |p_teacher − p_student| (`largest_difference`, the paper).
        instances: of an image, at most.
        feature_weight: of the features.
        relation_weight: of the relations.
        class_weight: of the class predictions.
        box_weight: of the boxes.
        adapter: 3x3 convolutions of the student's features where channels differ (the reproduction never applies its
            adapter), or `always`.

    Raises:
        DetdistillError: there is no instance.
    """

    method = Method(
        paper="Dai et al., CVPR 2021, arXiv 2103.02340",
        compares="features, relations and predictions of the instances on which both differ most",
        needs="pyramid features, class predictions and boxes of the same candidates",
        weights={"retinanet": 1.0},
        sources="the first author's reproduction in detectron2, whose four weights are the options' defaults",
        reported="RetinaNet R50 37.4 to 39.1, Faster R-CNN 38.4 to 40.2, FCOS 38.5 to 42.0 (tables of FGD and DAVAR)",
    )

    def __init__(
        self,
        *,
        score: Literal["difference_of_best", "largest_difference"] = "difference_of_best",
        instances: int = 10,
        feature_weight: float = 5e-4,
        relation_weight: float = 40.0,
        class_weight: float = 0.1,
        box_weight: float = 1.0,
        adapter: Adapter = "auto",
    ) -> None:
        super().__init__(adapter, kernel_size=3)
        if instances < 1:
            raise DetdistillError(f"instances must be at least 1, not {instances}")
        self.score, self.instances = score, instances
        self.feature_weight, self.relation_weight = feature_weight, relation_weight
        self.class_weight, self.box_weight = class_weight, box_weight
        self._match: Callable[[Output, Targets], Matches]

    def bind(self, pair: Pair) -> list[str]:
        """Makes the adapters, and takes the student's assigner.

        Raises:
            DetdistillError: the assigner cannot be used on the candidates that both have.
        """
        self._match = pair.student.match
        grid = pair.student_output.predictions.anchors
        nothing = Regions(grid.priors[:0], grid.priors.new_zeros(0, dtype=torch.int64))
        self._assigned(pair.student_output, _as_targets(nothing, grid.priors.new_ones(1, 2)))
        return super().bind(pair)

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`, `relations`, `classification` and `regression`."""
        student, teacher, targets = view.student, view.teacher, view.targets
        regions = self.general_instances(student, teacher, targets.sizes)
        own, other = (region_features(maps, student.predictions.grid, regions, BINS) for maps in self.maps(view))
        features = (own - other).square().sum() / BINS**2
        counts = torch.bincount(regions.image, minlength=targets.num_images)
        by_image = zip(*(torch.split(values.flatten(1), counts.tolist()) for values in (own, other)), strict=True)
        relations = torch.stack([relation_imitation(mine, theirs) for mine, theirs in by_image]).sum()
        matched = self._assigned(student, _as_targets(regions, targets.sizes)).matched
        grid, anchors = student.predictions.grid, student.predictions.anchors
        matched = matched if grid.anchors_per_cell == anchors.anchors_per_cell else cell_matches(anchors, matched)
        index = Assignment(matched).positive
        classes = binary_kl(student.predictions.class_logits[index], teacher.predictions.class_logits[index]).sum()
        priors = student.predictions.priors(index)
        deltas = [encode_deltas(priors, output.predictions.boxes(index)) for output in (student, teacher)]
        boxes = (deltas[0] - deltas[1]).abs().sum()

        amounts = torch.stack((counts.sum(), (counts >= LEAST_RELATED).sum(), index[0].new_tensor(len(index[0]))))
        instances, images, candidates = view.reduce_sum(amounts.float()).clamp(min=1).unbind()
        return {
            "features": self.feature_weight * features / instances,
            "relations": self.relation_weight * relations / images,
            "classification": self.class_weight * classes / candidates,
            "regression": self.box_weight * boxes / candidates,
        }

    def _assigned(self, student: Output, targets: Targets) -> Assignment:
        """The student's assignment on all its anchors at the compared cells."""
        predictions = student.predictions
        anchors = student.with_predictions(replace(predictions, candidates=Candidates(predictions.anchors)))
        return self._match(anchors, targets)[student.final]

    @torch.no_grad()
    def general_instances(self, student: Output, teacher: Output, sizes: Tensor) -> Regions:
        """Where the two differ most, in images of true height and width `sizes` `(N, 2)`."""
        own, other = (at_least_float32(output.predictions.class_logits).sigmoid() for output in (student, teacher))
        best_own, best_other = own.amax(dim=-1), other.amax(dim=-1)
        if self.score == "largest_difference":
            scores = (other - own).abs().amax(dim=-1)
        else:
            scores = (best_other - best_own).abs()
        teacher_is_surer = best_other > best_own

        def boxes(index: tuple[Tensor, Tensor]) -> Tensor:
            return teacher.predictions.boxes(index).where(
                teacher_is_surer[index][:, None], student.predictions.boxes(index)
            )

        return best_regions(
            scores, boxes, sizes, count=self.instances, iou_threshold=OVERLAP, smallest_side=SMALLEST_SIDE
        )


def _as_targets(regions: Regions, sizes: Tensor) -> Targets:
    """Regions as objects of one class."""
    return Targets(regions.boxes, torch.zeros_like(regions.image), regions.image, sizes)
