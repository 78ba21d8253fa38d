"""PKD: Pearson knowledge distillation (Cao et al., NeurIPS 2022, arXiv 2207.02039)."""

from __future__ import annotations

from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.distill.term import FEATURES, Method, Pair, Term
from detdistill.distill.view import View
from detdistill.losses.features import pearson_imitation


class Pearson(Term):
    """Every channel of the student's pyramid correlates with the teacher's, whatever its scale and offset.

    Channels are standardised over the batch in both, then their squared difference is halved and averaged, and added
    up over levels. So a teacher of another architecture can teach, as long as its pyramid is as wide.

    Args:
        levels: how many are compared, the finest first: mmrazor compares four of five.
    """

    method = Method(
        paper="Cao et al., NeurIPS 2022, arXiv 2207.02039",
        compares="pyramid features, channel by channel, by their correlation",
        needs="pyramids of equally many channels",
        teacher=(FEATURES,),
        weights={"retinanet": 10.0, "fcos": 2.0, "atss": 1.0, "gfl": 6.0},
        sources="mmrazor's configuration for RetinaNet, ResNeXt-101 teacher; for the others CrossKD's, which has both",
        reported="RetinaNet R50 36.5 to 40.3, teacher FCOS X101 42.6 (mmrazor)",
    )

    def __init__(self, *, levels: int = 4) -> None:
        super().__init__()
        if levels < 1:
            raise DetdistillError(f"levels must be at least 1, not {levels}")
        self.levels = levels

    def bind(self, pair: Pair) -> list[str]:
        """Says which levels are left out.

        Raises:
            DetdistillError: the pyramids are not equally wide.
        """
        student, teacher = pair.student_output, pair.teacher_output
        for own, other in zip(student.features.maps[: self.levels], teacher.features.maps[: self.levels], strict=True):
            if own.shape[1] != other.shape[1]:
                raise DetdistillError(
                    f"the student's pyramid has {own.shape[1]} channels, the teacher's {other.shape[1]}, and this "
                    f"method adapts nothing; give the student detector.channels: {other.shape[1]}, or take channel_wise"
                )
        left = [f"{stride:g}" for stride, _ in student.predictions.grid.strides[self.levels :]]
        return [f"stride {', '.join(left)} left out, as its authors do"] if left else []

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`."""
        student, teacher = view.student, view.teacher
        own, other = student.features.maps[: self.levels], teacher.features.maps[: self.levels]
        return {"features": pearson_imitation(own, other, reduce_sum=view.reduce_sum)}
