"""One file, one method. `TERMS` has the names by which recipes and the command line know them."""

from __future__ import annotations

from detdistill.distill.term import Term
from detdistill.distill.terms.hint import Hint
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.terms.soft_label import SoftLabel

TERMS: dict[str, type[Term]] = {
    "rank_mimicking": RankMimicking,
    "prediction_guided": PredictionGuided,
    "soft_label": SoftLabel,
    "hint": Hint,
}
