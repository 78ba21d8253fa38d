"""Losses as pure functions of tensors: those of distillation from here, those of detection from their modules."""

from detdistill.losses.imitation import feature_imitation, prediction_guided_imitation
from detdistill.losses.rank import plackett_luce, rank_mimicking
from detdistill.losses.soft_labels import binary_kl, modulated_binary_cross_entropy, softmax_kl

__all__ = [
    "binary_kl",
    "feature_imitation",
    "modulated_binary_cross_entropy",
    "plackett_luce",
    "prediction_guided_imitation",
    "rank_mimicking",
    "softmax_kl",
]
