"""Weighted soft labels, bounded regression and hints of Chen et al. (NIPS 2017)."""

from __future__ import annotations

from torch import Tensor

from detdistill.core.boxes import encode_deltas
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.candidates import taught_positives
from detdistill.distill.term import Method
from detdistill.distill.view import View
from detdistill.losses.box import teacher_bounded_regression
from detdistill.losses.imitation import feature_imitation
from detdistill.losses.soft_labels import weighted_binary_cross_entropy


class Chen(FeatureTerm):
    """The student learns soft labels, boxes until they are better than the teacher's, and features.

    The paper distils both stages of Faster R-CNN: L_soft = −Σ w_c P_t log P_s with w 1.5 for the background and 1 for
    other classes; L_b = ‖R_s − y‖² where the student is worse than the teacher, else 0; L_hint = ‖φ(V) − Z‖². The dense
    form is our adaptation: soft labels and bounded regression apply at the student's positives, over their number.
    Sigmoid heads have no background column, so 1.5 goes to each class's "no" at these locations. Boxes are compared as
    R-CNN's deltas from the student's priors, whatever a head regresses. The hint is the mean over channels, cells and
    levels of the pyramid. The hard labels and the box loss beside them are the detection loss, and the share μ of soft
    labels, which the paper does not give, is the term's weight.

    Args:
        background_weight: the paper's 1.5.
        margin: the teacher's error may be smaller by this much in squared deltas before it bounds; not given in the
            paper, 0 or 0.2 in others' code.
        regression_weight: ν; the paper's value could not be verified.
        hint_weight: γ.
        adapter: 1x1 convolutions of the student's features `always`, as in the paper, or where channels differ.
    """

    method = Method(
        paper="Chen et al., NIPS 2017",
        compares="class probabilities and boxes at positives, pyramid features",
        needs="pyramid features, class predictions and boxes of the same candidates",
    )

    def __init__(
        self,
        *,
        background_weight: float = 1.5,
        margin: float = 0.0,
        regression_weight: float = 0.5,
        hint_weight: float = 0.5,
        adapter: Adapter = "always",
    ) -> None:
        super().__init__(adapter)
        self.background_weight, self.margin = background_weight, margin
        self.regression_weight, self.hint_weight = regression_weight, hint_weight

    def forward(self, view: View) -> dict[str, Tensor]:
        """`classification`, `regression` and `hint`."""
        student, teacher = view.student, view.teacher
        own, other = self.maps(view)
        index, goals = taught_positives(view.assignment, view.targets)
        count = view.reduce_sum(goals.new_tensor(len(goals))).clamp(min=1)
        classification = weighted_binary_cross_entropy(
            student.predictions.class_logits[index], teacher.predictions.class_logits[index], self.background_weight
        )
        priors = student.predictions.priors(index)
        regression = teacher_bounded_regression(
            encode_deltas(priors, student.predictions.boxes(index)),
            encode_deltas(priors, teacher.predictions.boxes(index)),
            encode_deltas(priors, goals),
            self.margin,
        )
        hint = feature_imitation(
            own,
            other,
            student.predictions.grid.valid_cells(view.targets.sizes),
            reduce_sum=view.reduce_sum,
        )
        return {
            "classification": classification.sum() / count,
            "regression": self.regression_weight * regression.sum() / count,
            "hint": self.hint_weight * hint,
        }
