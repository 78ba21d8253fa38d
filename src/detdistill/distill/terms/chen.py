"""Weighted soft labels, bounded regression and hints of Chen et al. (NIPS 2017)."""

from __future__ import annotations

from torch import Tensor

from detdistill.core.boxes import encode_deltas
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.candidates import taught_positives
from detdistill.distill.term import GRID, OPINIONS, Method, Pair, Source, needs_of
from detdistill.distill.view import Need, View
from detdistill.losses.box import teacher_bounded_regression
from detdistill.losses.imitation import feature_imitation
from detdistill.losses.soft_labels import weighted_binary_cross_entropy
from detdistill.teachers.opinions import SHARPNESS


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
        source: of the teacher's probabilities and boxes (an extension), see `Source`. By `opinion` there is no hint,
            and the regression counts where a box of the teacher overlaps with the student's by an IoU of 0.5.
        sharpness: power of the IoU in an opinion, above 0.

    Raises:
        DetdistillError: the sharpness is not above 0.
    """

    method = Method(
        paper="Chen et al., NIPS 2017",
        compares="class probabilities and boxes at positives, pyramid features",
        needs="pyramid features, class predictions and boxes of the same candidates; or boxes, without the hint",
        teacher=(GRID, OPINIONS),
    )

    def __init__(
        self,
        *,
        background_weight: float = 1.5,
        margin: float = 0.0,
        regression_weight: float = 0.5,
        hint_weight: float = 0.5,
        adapter: Adapter = "always",
        source: Source = "auto",
        sharpness: float = SHARPNESS,
    ) -> None:
        super().__init__(adapter)
        self._needs = needs_of(source, sharpness=sharpness, grid=GRID)
        self.background_weight, self.margin = background_weight, margin
        self.regression_weight, self.hint_weight = regression_weight, hint_weight

    @property
    def needs(self) -> tuple[Need, ...]:
        """Maps, scores and boxes of the same candidates, or opinions."""
        return self._needs

    def bind(self, pair: Pair) -> list[str]:
        """Makes the adapters, unless the teacher has no maps."""
        if not pair.teacher_output.features.maps:
            return ["the hint is left out, by opinion there are no maps"]
        return super().bind(pair)

    def forward(self, view: View) -> dict[str, Tensor]:
        """`classification`, `regression`, and `hint` where there are maps."""
        student, teacher = view.student, view.teacher
        index, goals = taught_positives(view.assignment, view.targets)
        count = view.reduce_sum(goals.new_tensor(len(goals))).clamp(min=1)
        classification = weighted_binary_cross_entropy(
            student.predictions.class_logits[index], teacher.predictions.class_logits[index], self.background_weight
        )
        priors, boxes = student.predictions.priors(index), teacher.predictions.boxes(index)
        regression = teacher_bounded_regression(
            encode_deltas(priors, student.predictions.boxes(index)),
            encode_deltas(priors, boxes),  # NaN where there is no box: then no error exceeds it
            encode_deltas(priors, goals),
            self.margin,
        )
        parts = {
            "classification": classification.sum() / count,
            "regression": self.regression_weight * regression.sum() / count,
        }
        if view.by_opinion:
            return parts
        own, other = self.maps(view)
        cells = student.predictions.grid.valid_cells(view.targets.sizes)
        hint = feature_imitation(own, other, cells, reduce_sum=view.reduce_sum)
        return {**parts, "hint": self.hint_weight * hint}
