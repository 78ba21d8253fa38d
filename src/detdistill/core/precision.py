"""Half-precision tensors are widened before anything that sums, divides or takes a logarithm."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` in float32 if it is float16 or bfloat16, else as it is (float64 stays float64)."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
