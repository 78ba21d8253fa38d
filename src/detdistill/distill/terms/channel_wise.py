"""CWD: channel-wise knowledge distillation (Shu et al., ICCV 2021, arXiv 2011.13256)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from detdistill.distill.adapters import FeatureTerm
from detdistill.distill.term import FEATURES, Method, Pair, check_temperature
from detdistill.distill.view import View
from detdistill.losses.features import channel_wise_divergence


class ChannelWise(FeatureTerm):
    """Every channel of the student is strong at the cells at which the teacher's is.

    A softmax over its cells makes each channel a distribution; the loss is KL(teacher ‖ student) times T², averaged
    over channels and images, added up over levels.

    Args:
        compare: the channels of the pyramid `features`, convolved (1x1) where the two differ in their number; or of the
            `class` logits.
        temperature: T, above 0: what values are divided by.

    Raises:
        DetdistillError: the temperature is not above 0.
    """

    method = Method(
        paper="Shu et al., ICCV 2021, arXiv 2011.13256",
        compares="where each channel of the pyramid features, or of the class logits, is strong",
        needs="pyramid features",
        teacher=(FEATURES,),
        weights={"retinanet": 10.0, "gfl": 5.0},
        sources="mmrazor: RetinaNet on features, GFL with compare class; mmdetection-distiller has 5 for RetinaNet",
        reported="GFL R50 40.2 to 41.9, teacher R101 44.7, on class logits (mmrazor)",
    )

    def __init__(self, *, compare: Literal["features", "class"] = "features", temperature: float = 1.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.compare, self.temperature = compare, temperature

    def bind(self, pair: Pair) -> list[str]:
        """Makes the adapters, if features are compared."""
        return super().bind(pair) if self.compare == "features" else []

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features` or `classification`."""
        student, teacher = view.student, view.teacher
        if self.compare == "features":
            name, (own, other) = "features", self.maps(view)
        else:
            name = "classification"
            own = list(student.predictions.grid.unflatten(student.predictions.class_logits))
            other = teacher.predictions.grid.unflatten(teacher.predictions.class_logits)
        return {name: channel_wise_divergence(own, other, self.temperature, reduce_sum=view.reduce_sum)}
