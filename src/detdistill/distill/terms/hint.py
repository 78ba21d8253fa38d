"""FitNets' hints, on the pyramid (Romero et al., ICLR 2015, arXiv 1412.6550)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import Output
from detdistill.core.structures import Assignment, ReduceSum, Targets, single_process
from detdistill.distill.adapters import Adapters
from detdistill.distill.candidates import object_cells, positive_cells
from detdistill.distill.term import Method, Pair, Term
from detdistill.losses.imitation import feature_imitation


class Hint(Term):
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
    )

    def __init__(
        self,
        *,
        where: Literal["all", "positive", "box"] = "all",
        adapter: Literal["auto", "always"] = "auto",
    ) -> None:
        super().__init__()
        self.where = where
        self.adapters = Adapters(always=adapter == "always")

    def bind(self, pair: Pair) -> list[str]:
        """Makes the adapters."""
        return self.adapters.bind(pair)

    def forward(
        self,
        student: Output,
        teacher: Output,
        assignment: Assignment,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> dict[str, Tensor]:
        """`features`."""
        cells = self._cells(student.predictions.grid, assignment, targets)
        features = self.adapters(student.features.maps)
        return {"features": feature_imitation(features, teacher.features.maps, cells, reduce_sum=reduce_sum)}

    def _cells(self, grid: Grid, assignment: Assignment, targets: Targets) -> tuple[Tensor, ...]:
        if self.where == "positive":
            return positive_cells(grid, assignment)
        if self.where == "box":
            return object_cells(grid, targets)
        return grid.valid_cells(targets.sizes)
