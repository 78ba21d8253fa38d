"""How a loss is compared with the golden arrays of its name, at the tolerances that the golden README states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = dict[str, NDArray[Any]]


def as_tensor(array: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """`array` as a tensor; integers and flags keep their type."""
    tensor = torch.from_numpy(array)
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def assert_matches(
    arrays: Arrays,
    name: str,
    loss: Callable[[Tensor, Callable[[str], Tensor]], Tensor],
    *,
    prediction: str,
    weight: str,
    loss_weight: float = 1.0,
) -> None:
    """Compares `loss(prediction, get)`, where `get` hands out other arrays, with every golden array called `name`_*."""
    for dtype in (torch.float32, torch.float64):

        def get(key: str, dtype: torch.dtype = dtype) -> Tensor:
            return as_tensor(arrays[key], dtype)

        predicted = get(prediction).requires_grad_()
        elementwise = loss_weight * loss(predicted, get)
        weights = get(weight)
        if weights.dim() < elementwise.dim():
            weights = weights[:, None]
        weighted = (elementwise * weights).sum() / (float(arrays["avg_factor"]) + torch.finfo(torch.float32).eps)
        (gradient,) = torch.autograd.grad(weighted, predicted)

        for key, value in (("elementwise", elementwise), ("mean", elementwise.mean()), ("weighted", weighted)):
            np.testing.assert_allclose(
                value.detach().numpy(), arrays[f"{name}_{key}"], rtol=1e-5, atol=1e-6, err_msg=f"{name}_{key} {dtype}"
            )
        expected = arrays[f"{name}_grad"]
        error = np.abs(gradient.numpy() - expected).max() / np.abs(expected).max()
        assert error < 2e-5, f"{name}_grad {dtype}: {error}"
