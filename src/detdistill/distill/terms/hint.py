"""FitNets' hints, on the pyramid (Romero et al., ICLR 2015, arXiv 1412.6550)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from detdistill.distill.adapters import Adapter, FeatureTerm
from detdistill.distill.candidates import object_cells, positive_cells
from detdistill.distill.term import FEATURES, Method
from detdistill.distill.view import View
from detdistill.losses.imitation import feature_imitation


class Hint(FeatureTerm):
    """The student imitates the teacher's pyramid features: their squared difference, averaged over cells and levels.

    FitNets trains a middle layer beforehand; detectors, as everyone compares them since, learn from all levels of the
    pyramid along with the detection loss.

    Args:
        where: all cells but padding; those at which the student's assigner has a `positive`; or those whose centre lies
            in a ground-truth `box`.
        adapter: `auto` convolves the student's features (1x1) where the channels differ, `always` in any case.
    """

    method = Method(
        paper="Romero et al., ICLR 2015, arXiv 1412.6550",
        compares="pyramid features at all cells",
        needs="pyramid features",
        teacher=(FEATURES,),
    )

    def __init__(
        self,
        *,
        where: Literal["all", "positive", "box"] = "all",
        adapter: Adapter = "auto",
    ) -> None:
        super().__init__(adapter)
        self.where = where

    def forward(self, view: View) -> dict[str, Tensor]:
        """`features`."""
        own, other = self.maps(view)
        return {"features": feature_imitation(own, other, self._cells(view), reduce_sum=view.reduce_sum)}

    def _cells(self, view: View) -> tuple[Tensor, ...]:
        grid = view.student.predictions.grid
        if self.where == "positive":
            return positive_cells(grid, view.assignment)
        if self.where == "box":
            return object_cells(grid, view.targets)
        return grid.valid_cells(view.targets.sizes)
