"""Which candidates learn which object. An assigner is called as `assigner(grid, targets)` and gives an `Assignment`.

All of them treat a whole batch at once, and none compares every prior with every object: the priors of a level stand on
a lattice, so the few that can matter to an object are known beforehand. They compute in float64, so that ties between
priors are ties of the lattice and not of rounding; an equal claim of two objects goes to the first.
"""

from detdistill.detectors.assigners.atss import AtssAssigner
from detdistill.detectors.assigners.fcos import FcosAssigner
from detdistill.detectors.assigners.max_iou import MaxIouAssigner

__all__ = ["AtssAssigner", "FcosAssigner", "MaxIouAssigner"]
