"""CrossKD: cross-head knowledge distillation (Wang et al., CVPR 2024, arXiv 2306.11369)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.modules import Held
from detdistill.core.output import Predictions, TowerHead
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import IGNORED, Assignment, ReduceSum, Targets, single_process
from detdistill.detectors.dense.coders import DistributionCoder
from detdistill.detectors.dense.heads.centerness import centerness
from detdistill.detectors.dense.heads.dense_head import counted_positives
from detdistill.distill.adapters import Adapters
from detdistill.distill.term import GRID, Method, Pair, Term
from detdistill.distill.view import View
from detdistill.losses.box import giou_loss, iou_loss
from detdistill.losses.features import channel_statistics, standardized
from detdistill.losses.soft_labels import modulated_binary_cross_entropy, softmax_kl

EPSILON = 1e-6
POSITION = 3
FCOS_POSITION = 2
FCOS_CLASS_WEIGHT = 0.4
FCOS_BOX_WEIGHT = 0.75


class CrossHead(Term):
    """The student's head features, sent through the rest of the teacher's head, give the teacher's predictions.

    What the student's towers hold after convolution `position` gets the mean and standard deviation of the teacher's,
    channel by channel over the images of this process, passes the activation, the teacher's other convolutions and its
    predictors, all frozen, and is compared with what the teacher predicted: the gradient reaches the student through
    them. So the two heads need not be of one kind: the predictions compared are the teacher's kind, of its candidates
    and of all its classes, also those that the data lacks.

    Classification: binary cross entropy with the teacher's probability times |p_teacher − p_student|, over the number
    of positives (an image without any counts as one). Boxes, weighted by the teacher's best class probability: 1 − GIoU
    over the number of positives; for distributions (GFL) KL, summed over bins and sides, over the sum of the weights.
    Centerness (ATSS): binary cross entropy at positives, whose least value is the entropy of the teacher's. From FCOS
    to FCOS: classification 0.4, boxes 0.75 times −log IoU, no centerness, both over the sum of the positives'
    centerness, which the authors divide by even where it is nearly 0; here it is at least 1. Ignored candidates do not
    count.

    Args:
        position: number of convolutions, 0 to those of the towers; None for the authors' choice, 3, and 2 for FCOS.
    """

    method = Method(
        paper="Wang et al., CVPR 2024, arXiv 2306.11369",
        compares="predictions of the teacher's head, from its own features and from the student's",
        needs="heads of this package on the same levels, with maps of the same sizes",
        teacher=(GRID | {"head"},),
        student=GRID | {"head"},
        weights={"retinanet": 1.0, "fcos": 1.0, "atss": 1.0, "gfl": 1.0},
        sources="the authors' configurations; parts: RetinaNet and ATSS 1, 1; FCOS 0.4, 0.75; GFL 1, 4 / 4",
        reported="RetinaNet R50 37.4 to 39.7, FCOS 38.5 to 41.1, ATSS 39.4 to 41.8, GFL 40.2 to 43.7 (the authors)",
    )

    def __init__(self, *, position: int | None = None) -> None:
        super().__init__()
        self.position = position
        self.class_adapters, self.box_adapters = Adapters(), Adapters()
        self._head: Held[TowerHead] | None = None
        self._like_fcos = False
        self._ratio = 1.0

    def bind(self, pair: Pair) -> list[str]:
        """Has both heads keep what their towers hold, and makes adapters where the teacher's are of another width.

        Raises:
            DetdistillError: the levels differ, the teacher's images are no whole number of times larger than the
                student's, or a tower has too few convolutions.
        """
        own, other = pair.student.tower_head, pair.teacher.tower_head
        assert own is not None
        assert other is not None
        wanted = tuple(stride / pair.ratio for stride in other.strides)
        if own.strides != wanted:
            at_ratio = (
                "" if pair.ratio == 1 else f" (in pixels of the student at distill.teacher_images {pair.ratio:g}x)"
            )
            raise DetdistillError(
                f"the teacher's head needs its own levels, strides {_listed(wanted)}{at_ratio}, but the student's are "
                f"{_listed(own.strides)}; give the student the teacher's detector.strides and detector.extra_levels"
            )
        if pair.ratio % 1:
            raise DetdistillError(
                f"distill.teacher_images is {pair.ratio:g} times the student's size; expected a whole number, for only "
                "then maps have the same sizes on every canvas"
            )
        self._ratio = pair.ratio
        default = FCOS_POSITION if pair.teacher.kind == "fcos" else POSITION
        for side, head in (("student", own), ("teacher", other)):
            try:
                head.keep_towers(default if self.position is None else self.position)
            except DetdistillError as error:
                raise DetdistillError(f"in the {side}, {error}; choose the option position to fit both") from error
        self._head = Held(other)
        self._like_fcos = pair.student.kind == pair.teacher.kind == "fcos"
        with torch.no_grad():
            maps = own(pair.student_output.features.maps).towers, other(pair.teacher_output.features.maps).towers
        notes = []
        if not set(pair.teacher.classes) <= set(pair.student.classes):
            notes.append(f"all {len(pair.teacher.classes)} classes of the teacher's head are compared")
        for name, adapters in (("class", self.class_adapters), ("box", self.box_adapters)):
            student, teacher = (
                replace(output, features=replace(output.features, maps=getattr(towers, f"{name}_maps")))
                for output, towers in zip((pair.student_output, pair.teacher_output), maps, strict=True)
            )
            notes += [
                f"in the {name} tower, {note}"
                for note in adapters.bind(replace(pair, student_output=student, teacher_output=teacher))
            ]
        return notes

    def forward(self, view: View) -> dict[str, Tensor]:
        """`classification`, `box` and, for ATSS, `centerness`."""
        own, other = view.student.towers, view.teacher.towers
        assert self._head is not None
        assert own is not None
        assert other is not None
        crossed = self._head.thing.complete(
            with_statistics_of(other.class_maps, self.class_adapters(own.class_maps)),
            with_statistics_of(other.box_maps, self.box_adapters(own.box_maps)),
        )
        # Both predictions are in pixels of the teacher's canvas.
        targets = replace(view.targets, boxes=view.targets.boxes * self._ratio, masks=None)
        return prediction_losses(
            crossed,
            other.predictions,
            view.assignment,
            targets,
            like_fcos=self._like_fcos,
            reduce_sum=view.reduce_sum,
        )


def with_statistics_of(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> list[Tensor]:
    """The student's maps with each channel's mean and standard deviation made the teacher's, L x `(N, Q, H, W)`."""
    maps = []
    for own, other in zip(student, teacher, strict=True):
        mean, deviation = channel_statistics(other)
        maps.append(standardized(own) * deviation + mean)
    return maps


def prediction_losses(
    crossed: Predictions,
    teacher: Predictions,
    assignment: Assignment,
    targets: Targets,
    *,
    like_fcos: bool,
    reduce_sum: ReduceSum = single_process,
) -> dict[str, Tensor]:
    """How far predictions of one head from two detectors' features are apart; see `CrossHead`.

    Args:
        crossed: from the student's features.
        teacher: from the teacher's.
        assignment: the student's; it may have one candidate per cell where the head has several.
        targets: the objects.
        like_fcos: weigh and normalise as between two FCOS heads.
        reduce_sum: over all processes.

    Returns:
        `classification`, `box`, and `centerness` if the head has it and `like_fcos` is not asked for.
    """
    matched = assignment.matched.repeat_interleave(crossed.grid.num_priors // assignment.matched.shape[1], dim=1)
    counts = matched != IGNORED
    logits, goals = (
        at_least_float32(crossed.class_logits),
        at_least_float32(teacher.class_logits),
    )
    weights = goals.amax(dim=-1).sigmoid() * counts
    if like_fcos:
        points = crossed.grid.centers[assignment.positive[1]]
        positives = centerness(points, targets.boxes[assignment.positive_targets]).sum()
    else:
        positives = counted_positives(assignment)
    positives, weight = reduce_sum(torch.stack((positives, weights.sum()))).clamp(min=EPSILON)
    positives = positives.clamp(min=1)

    parts = {"classification": (modulated_binary_cross_entropy(logits, goals).sum(dim=-1) * counts).sum() / positives}
    if isinstance(teacher.coder, DistributionCoder):
        sides = *matched.shape, 4, teacher.coder.bins
        own, other = (output.regression.reshape(sides) for output in (crossed, teacher))
        parts["box"] = (softmax_kl(own, other).sum(dim=-1) * weights).sum() / weight
    else:
        loss = iou_loss if like_fcos else giou_loss
        parts["box"] = (loss(crossed.boxes(), teacher.boxes()) * weights).sum() / positives
    if like_fcos:
        parts["classification"] *= FCOS_CLASS_WEIGHT
        parts["box"] *= FCOS_BOX_WEIGHT
    elif crossed.quality_logits is not None and teacher.quality_logits is not None:
        positive = matched >= 0
        central = at_least_float32(crossed.quality_logits[positive])
        goal = at_least_float32(teacher.quality_logits[positive]).sigmoid()
        parts["centerness"] = F.binary_cross_entropy_with_logits(central, goal, reduction="sum") / positives
    return parts


def _listed(strides: Sequence[float]) -> str:
    return ", ".join(f"{stride:g}" for stride in strides)
