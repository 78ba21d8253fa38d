"""Which candidates learn which object. An assigner is called as `assigner(grid, targets)` and gives an `Assignment`.

All of them treat a whole batch at once, and none compares every prior with every object: the priors of a level stand on
a lattice, so the few that can matter to an object are known beforehand. They compute in float64, so that ties between
priors are ties of the lattice and not of rounding; an equal claim of two objects goes to the first.
"""

from detdistill.detectors.dense.assigners.atss_assigner import AtssAssigner
from detdistill.detectors.dense.assigners.fcos_assigner import FcosAssigner
from detdistill.detectors.dense.assigners.max_iou_assigner import MaxIouAssigner
from detdistill.detectors.dense.assigners.own_best_assigner import OwnBestAssigner
from detdistill.detectors.dense.assigners.region import Region

__all__ = ["AtssAssigner", "FcosAssigner", "MaxIouAssigner", "OwnBestAssigner", "Region"]
