"""Losses between the class logits of two detectors, one prior at a time; the caller weights and normalises."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from detdistill.core.precision import at_least_float32
from detdistill.losses.distribution import distribution_kl


def binary_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(teacher ‖ student) of each class's own yes or no.

    Binary cross entropy with the teacher's probability as target (soft labels, Hinton et al., Distilling the Knowledge
    in a Neural Network, 2015, on sigmoids) less the teacher's entropy: the same gradient, and 0 at the optimum.

    Args:
        student: logits of any shape.
        teacher: logits of the same shape; no gradient flows into them.
        temperature: T, above 0; both sigmoids take logits / T.

    Returns:
        The shape of the logits, at least 0.
    """
    student, teacher = at_least_float32(student) / temperature, at_least_float32(teacher.detach()) / temperature
    present = F.kl_div(F.logsigmoid(student), F.logsigmoid(teacher), reduction="none", log_target=True)
    absent = F.kl_div(F.logsigmoid(-student), F.logsigmoid(-teacher), reduction="none", log_target=True)
    return (present + absent) * temperature**2


def softmax_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T² · KL(teacher ‖ student) of the softmax over classes (Hinton et al., 2015), summed over classes.

    `distribution_kl` is its mean over classes.

    Args:
        student: `(…, C)` logits.
        teacher: `(…, C)` logits; no gradient flows into them.
        temperature: T, above 0; both softmaxes take logits / T.

    Returns:
        `(…,)`, at least 0.
    """
    return distribution_kl(student, teacher, temperature) * student.shape[-1]


def weighted_binary_cross_entropy(student: Tensor, teacher: Tensor, background_weight: float = 1.5) -> Tensor:
    """−(p ln q + w (1 − p) ln(1 − q)), the weighted soft labels of Chen et al. for one class's yes or no.

    Learning Efficient Object Detection Models with Knowledge Distillation, NIPS 2017, weighs the background column of a
    softmax; "no" is the background of a sigmoid. As in the paper this is a cross entropy, neither 0 nor at rest where
    the two agree: it draws the student towards background.

    Args:
        student: logits of q, of any shape.
        teacher: logits of p, of the same shape; no gradient flows into them.
        background_weight: w.

    Returns:
        The shape of the logits, at least 0.
    """
    student, target = at_least_float32(student), at_least_float32(teacher.detach()).sigmoid()
    return -(target * F.logsigmoid(student) + background_weight * (1 - target) * F.logsigmoid(-student))


def modulated_binary_cross_entropy(student: Tensor, teacher: Tensor, beta: float = 1.0) -> Tensor:
    """BCE(student, σ(teacher)) · |σ(teacher) − σ(student)|^β (Wang et al., CrossKD, CVPR 2024; BCKD has it too).

    Gradients flow through the modulation, as in the authors' code. At the optimum it is 0.

    Args:
        student: logits of any shape.
        teacher: logits of the same shape; no gradient flows into them.
        beta: power of the modulation, at least 1.

    Returns:
        The shape of the logits, at least 0.
    """
    student, target = at_least_float32(student), at_least_float32(teacher.detach()).sigmoid()
    modulation = (target - student.sigmoid()).abs().pow(beta)
    return modulation * F.binary_cross_entropy_with_logits(student, target, reduction="none")
