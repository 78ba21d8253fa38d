"""Prediction-guided Feature Imitation (Li et al., AAAI 2022, arXiv 2112.04840)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from detdistill.core.output import Output
from detdistill.core.precision import at_least_float32
from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.term import Method
from detdistill.distill.view import View
from detdistill.losses.imitation import prediction_guided_imitation


class PredictionGuided(FeatureTerm):
    """The student imitates the teacher's features where their predictions differ, by as much as they differ.

    At every cell the squared difference of the features, averaged over channels, is multiplied by the squared
    difference of the class predictions, averaged over classes and anchors; the mean over the cells of a level, then
    over the levels. Padding does not count. No reader of the paper stops the gradient at the predictions: so the loss
    also draws them together where features differ.

    Args:
        form: `product` of the two differences; `l2norm`, the length of the map of products divided by its cells, image
            by image; or the `square` of the product. Readers of the paper differ; weights do not carry over.
        space: predictions are class probabilities or logits.
        detach_prediction: only the features learn.
        adapter: `auto` convolves the student's features (1x1) where the channels differ, `always` in any case.
    """

    method = Method(
        paper="Li et al., AAAI 2022, arXiv 2112.04840",
        compares="pyramid features, weighted by the difference of the class predictions",
        needs="pyramid features and class predictions at the same cells",
        weights={"retinanet": 1.5},
        sources="an unmerged configuration of mmrazor (on logits); the paper's own weight is not known",
        ratio=2.0,  # found on validation images, see docs/evidence.md; other methods do not bear it
        reported=(
            "with rank_mimicking: RetinaNet R50 to 40.4, a gain of 3.5 (the paper's abstract); "
            "37.4 to 39.6, teacher R101 (DAVAR's table)"
        ),
    )

    def __init__(
        self,
        *,
        form: Literal["product", "l2norm", "square"] = "product",
        space: Literal["prob", "logit"] = "prob",
        detach_prediction: bool = False,
        adapter: Adapter = "auto",
    ) -> None:
        super().__init__(adapter)
        self.form, self.space, self.detach_prediction = form, space, detach_prediction

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`."""
        student, teacher = view.student, view.teacher
        own, other = self.maps(view)
        loss = prediction_guided_imitation(
            own,
            other,
            self._predictions(student),
            self._predictions(teacher),
            student.predictions.grid.valid_cells(view.targets.sizes),
            form=self.form,
            detach_prediction=self.detach_prediction,
            reduce_sum=view.reduce_sum,
        )
        return {"features": loss}

    def _predictions(self, output: Output) -> tuple[Tensor, ...]:
        """L x `(N, A * C, H, W)`."""
        logits = at_least_float32(output.predictions.class_logits)
        return output.predictions.grid.unflatten(logits if self.space == "logit" else logits.sigmoid())
