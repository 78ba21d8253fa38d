"""A student that starts with parts of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from detdistill.core.errors import DetdistillError


def inherit(student: nn.Module, teacher: nn.Module, parts: Sequence[str]) -> str:
    """Copies what has the same name and shape, FGD's and MGD's `inherit` (arXiv 2111.11837, section 4).

    The class layer is copied only if both have the same classes in the same order.

    Args:
        student: is changed.
        teacher: is not.
        parts: names of submodules, `pyramid` and `head`.

    Returns:
        What was copied, in plain words.

    Raises:
        DetdistillError: nothing of a part agrees.
    """
    own, offered = student.state_dict(), teacher.state_dict()
    same_classes = getattr(student, "classes", None) == getattr(teacher, "classes", None)
    counts = []
    for part in parts:
        names = [name for name in own if name.startswith(f"{part}.")]
        fitting = [
            name
            for name in names
            if name in offered
            and offered[name].shape == own[name].shape
            and (same_classes or ".class_predictor." not in name)
        ]
        if not any(own[name].dim() > 1 for name in fitting):
            raise DetdistillError(
                f"init_from_teacher: nothing of the teacher's {part} fits the student's; they need the same channels "
                f"(detector.channels, detector.towers), or leave {part} out"
            )
        with torch.no_grad():
            for name in fitting:
                own[name].copy_(offered[name])
        counts.append(f"{len(fitting)} of {len(names)} tensors of the {part}")
    return f"copied from the teacher: {', '.join(counts)}"
