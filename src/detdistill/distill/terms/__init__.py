"""One file, one method. `TERMS` has the names by which recipes and the command line know them."""

from __future__ import annotations

from detdistill.distill.term import Term
from detdistill.distill.terms.chen import Chen
from detdistill.distill.terms.decoupled import Decoupled
from detdistill.distill.terms.fine_grained import FineGrained
from detdistill.distill.terms.general_instance import GeneralInstance
from detdistill.distill.terms.hint import Hint
from detdistill.distill.terms.mimic import Mimic
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.terms.task_adaptive import TaskAdaptive

TERMS: dict[str, type[Term]] = {
    "rank_mimicking": RankMimicking,
    "prediction_guided": PredictionGuided,
    "soft_label": SoftLabel,
    "hint": Hint,
    "chen": Chen,
    "decoupled": Decoupled,
    "fine_grained": FineGrained,
    "general_instance": GeneralInstance,
    "mimic": Mimic,
    "task_adaptive": TaskAdaptive,
}
