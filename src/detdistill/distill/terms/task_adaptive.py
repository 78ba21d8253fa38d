"""Task Adaptive Regularization (Sun et al., 2020, arXiv 2006.13108)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.boxes import SMALLEST_SIDE, aligned_iou, box_centers, box_sides, encode_deltas
from detdistill.core.grid import Grid
from detdistill.core.structures import Targets
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.candidates import taught_positives
from detdistill.distill.regions import largest_by_image, object_windows
from detdistill.distill.term import Method
from detdistill.distill.view import View
from detdistill.losses.imitation import feature_imitation
from detdistill.losses.soft_labels import binary_kl


class TaskAdaptive(FeatureTerm):
    """The student imitates features around objects, class probabilities, and boxes where the teacher's help.

    The paper distils Faster R-CNN: features weighted by a Gaussian over each object's box, class predictions of shared
    proposals, and their boxes only where the teacher's is closer to the ground truth than the proposal. The dense form
    is our adaptation: candidates are shared anyway, and the student's positives stand for the proposals, their priors
    for the proposals' boxes. The Gaussian is that of DeFeat's code; the norms of the head's losses are not known, so
    classes have the binary KL divergence, and boxes smooth L1 of R-CNN's deltas, both over the number of positives. The
    paper lets distillation fade: that is `decay: linear` beside the term's weight.

    Args:
        adapter: 1x1 convolutions of the student's features `always`, or where channels differ.
    """

    method = Method(
        paper="Sun et al., 2020, arXiv 2006.13108",
        compares="pyramid features around objects, class probabilities and boxes at positives",
        needs="pyramid features, class predictions and boxes of the same candidates",
        reported="Faster R-CNN R50 36.3 to 39.0 (the paper's abstract)",
    )

    def __init__(self, *, adapter: Adapter = "auto") -> None:
        super().__init__(adapter)

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`, `classification` and `regression`."""
        student, teacher = view.student, view.teacher
        own, other = self.maps(view)
        index, goals = taught_positives(view.assignment, view.targets)
        count = view.reduce_sum(goals.new_tensor(len(goals))).clamp(min=1)
        priors, guidance = student.predictions.priors(index), teacher.predictions.boxes(index)
        helps = aligned_iou(guidance, goals) > aligned_iou(priors, goals)
        regression = F.smooth_l1_loss(
            encode_deltas(priors, student.predictions.boxes(index)), encode_deltas(priors, guidance), reduction="none"
        )
        features = feature_imitation(
            own,
            other,
            gaussian_maps(student.predictions.grid, view.targets),
            reduce_sum=view.reduce_sum,
        )
        return {
            "features": features,
            "classification": binary_kl(
                student.predictions.class_logits[index], teacher.predictions.class_logits[index]
            ).sum()
            / count,
            "regression": (regression * helps[:, None]).sum() / count,
        }


def gaussian_maps(grid: Grid, targets: Targets) -> tuple[Tensor, ...]:
    """L x `(N, H, W)`: in each object's box exp(−((x − cx) / (w/2))² / 2 − ((y − cy) / (h/2))² / 2), 0 elsewhere.

    Each object has the level of its size; where boxes overlap, the larger value counts. (DeFeat's code.)
    """
    centers = box_centers(targets.boxes)[:, None]
    halves = (box_sides(targets.boxes)[:, None] / 2).clamp(min=SMALLEST_SIDE)
    maps = []
    for window, (step_y, step_x) in zip(object_windows(grid, targets), grid.strides, strict=True):
        height, width = window.shape[1:]
        x = (torch.arange(width, device=window.device) + 0.5) * step_x
        y = (torch.arange(height, device=window.device) + 0.5) * step_y
        across = (-((x - centers[..., 0]) / halves[..., 0]).square() / 2).exp()  # (G, W)
        down = (-((y - centers[..., 1]) / halves[..., 1]).square() / 2).exp()  # (G, H)
        maps.append(largest_by_image(down[:, :, None] * across[:, None, :] * window, targets))
    return tuple(maps)
