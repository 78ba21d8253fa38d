"""The teacher's boxes where they are better than the student's (after Chen et al., NIPS 2017)."""

from __future__ import annotations

from torch import Tensor

from detdistill.core.boxes import aligned_iou
from detdistill.distill.candidates import taught_positives
from detdistill.distill.term import OPINIONS, SCORES, Method, Source, Term, needs_of
from detdistill.distill.view import Need, View
from detdistill.losses.box import giou_loss
from detdistill.teachers.opinions import SHARPNESS


class BoundedRegression(Term):
    """The student's box learns the teacher's, at positives where the teacher's overlaps better with the object.

    1 - GIoU of the two boxes, summed over these candidates, over the number of positives of objects that the teacher
    knows. Chen et al. draw the student to the ground truth where it is worse than the teacher; here it is drawn to the
    teacher's box, which is nearer and so an easier goal. This form is an extension of this package.

    Args:
        margin: by how much the teacher's IoU with the object must exceed the student's, 0 to 1.
        source: of the teacher's boxes, see `Source`: those of the same candidates, or by `opinion` the ones that
            overlap best with the student's, from IoU 0.5 on.
    """

    method = Method(
        paper="after Chen et al., NIPS 2017",
        compares="boxes at positives where the teacher's are better",
        needs="boxes",
        teacher=(SCORES, OPINIONS),
        student=SCORES,
    )

    def __init__(self, *, margin: float = 0.0, source: Source = "auto") -> None:
        super().__init__()
        self.margin = margin
        self._needs = needs_of(source, sharpness=SHARPNESS)

    @property
    def needs(self) -> tuple[Need, ...]:
        """Boxes of the same candidates, or those that opinions come from."""
        return self._needs

    def forward(self, view: View) -> dict[str, Tensor]:
        """`box`."""
        index, goals = taught_positives(view.assignment, view.targets)
        own, other = view.student.predictions.boxes(index), view.teacher.predictions.boxes(index).detach()
        is_matched = other.isfinite().all(dim=-1)
        other = other.nan_to_num()
        is_better = aligned_iou(other, goals) > aligned_iou(own.detach(), goals) + self.margin
        losses = giou_loss(own, other) * (is_better & is_matched)
        return {"box": losses.sum() / view.reduce_sum(losses.new_tensor(len(goals))).clamp(min=1)}
