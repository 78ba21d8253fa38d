"""One file, one method. `TERMS` has the names by which recipes and the command line know them."""

from __future__ import annotations

from detdistill.distill.term import Term
from detdistill.distill.terms.binary_classification import BinaryClassification
from detdistill.distill.terms.bounded_regression import BoundedRegression
from detdistill.distill.terms.channel_wise import ChannelWise
from detdistill.distill.terms.chen import Chen
from detdistill.distill.terms.cross_head import CrossHead
from detdistill.distill.terms.decoupled import Decoupled
from detdistill.distill.terms.fine_grained import FineGrained
from detdistill.distill.terms.focal_global import FocalGlobal
from detdistill.distill.terms.general_instance import GeneralInstance
from detdistill.distill.terms.hint import Hint
from detdistill.distill.terms.localization import Localization
from detdistill.distill.terms.masked_generative import MaskedGenerative
from detdistill.distill.terms.mimic import Mimic
from detdistill.distill.terms.pearson import Pearson
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.terms.task_adaptive import TaskAdaptive

TERMS: dict[str, type[Term]] = {
    "rank_mimicking": RankMimicking,
    "prediction_guided": PredictionGuided,
    "soft_label": SoftLabel,
    "hint": Hint,
    "binary_classification": BinaryClassification,
    "bounded_regression": BoundedRegression,
    "channel_wise": ChannelWise,
    "chen": Chen,
    "cross_head": CrossHead,
    "decoupled": Decoupled,
    "fine_grained": FineGrained,
    "focal_global": FocalGlobal,
    "general_instance": GeneralInstance,
    "localization": Localization,
    "masked_generative": MaskedGenerative,
    "mimic": Mimic,
    "pearson": Pearson,
    "task_adaptive": TaskAdaptive,
}
