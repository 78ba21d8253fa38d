"""Weights of torchvision's models, as files and as state dicts."""

from __future__ import annotations

import argparse
import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models.detection import FCOS, RetinaNet, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing import torchvision_weights
from detdistill.detectors.importing.mmdet_keys import TORCHVISION_LOGITS
from detdistill.detectors.importing.torchvision_weights import COCO_CATEGORIES, import_torchvision

State = dict[str, Tensor]
IMAGES = torch.linspace(-2, 2, 3 * 64 * 96).reshape(1, 3, 64, 96)


def frozen(kind: Any, eps: float, classes: int) -> Any:
    """A model as torchvision makes it from pretrained weights, with frozen statistics of its own."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=partial(FrozenBatchNorm2d, eps=eps),
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    for layer in backbone.modules():
        if isinstance(layer, FrozenBatchNorm2d):
            layer.running_var.add_(torch.rand_like(layer.running_var))
    return kind(backbone, classes).eval()


def raw_of(model: Any) -> State:
    with torch.no_grad():
        raw: State = model.head(list(model.backbone(IMAGES).values()))
    assert all(tensor.isfinite().all() for tensor in raw.values())
    return raw


@pytest.fixture(scope="module")
def fcos() -> Any:
    return frozen(FCOS, 1e-5, len(COCO_CATEGORIES))


@pytest.fixture(scope="module")
def retinanet() -> Any:
    return frozen(RetinaNet, 0.0, 4)


def test_coco_has_eighty_classes(fcos: Any) -> None:
    detector = import_torchvision(fcos.state_dict())
    assert len(detector.classes) == 80
    assert detector.classes[:3] == ("person", "bicycle", "car")
    assert detector.classes[-1] == "toothbrush"
    assert detector.architecture.name == "fcos_resnet50_fpn"
    assert detector.architecture.frozen_norm_eps == 1e-5
    kept = [COCO_CATEGORIES.index(name) for name in detector.classes]
    raw = raw_of(fcos)
    with torch.no_grad():
        output = detector(IMAGES)
    torch.testing.assert_close(output.predictions.class_logits, raw["cls_logits"][..., kept])
    assert torch.equal(output.predictions.regression, raw["bbox_regression"])
    assert torch.equal(output.predictions.quality_logits, raw["bbox_ctrness"].squeeze(-1))


@pytest.mark.parametrize(
    ("classes", "expected", "kept"),
    [
        (("cat", "dog", "owl"), ("cat", "dog", "owl"), [1, 2, 3]),
        (("ant", "cat", "dog", "owl"), ("ant", "cat", "dog", "owl"), [0, 1, 2, 3]),
        (("__background__", "cat", "N/A", "owl"), ("cat", "owl"), [1, 3]),
    ],
)
def test_class_columns(retinanet: Any, classes: tuple[str, ...], expected: tuple[str, ...], kept: list[int]) -> None:
    detector = import_torchvision(retinanet.state_dict(), classes, frozen_norm_eps=0.0)
    assert detector.classes == expected
    raw = raw_of(retinanet)
    with torch.no_grad():
        output = detector(IMAGES)
    torch.testing.assert_close(output.predictions.class_logits, raw["cls_logits"][..., kept])
    assert torch.equal(output.predictions.regression, raw["bbox_regression"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "4 class columns, but of class names none are given: give 4, or 3 if column 0 is the background"),
        (("cat", "dog"), "4 class columns, but of class names 2 are given: give 4, or 3"),
        (("N/A", "N/A", "N/A"), "none of the 4 class columns"),
    ],
)
def test_class_names_that_do_not_fit(retinanet: Any, classes: tuple[str, ...] | None, message: str) -> None:
    with pytest.raises(DetdistillError, match=message):
        import_torchvision(retinanet.state_dict(), classes, frozen_norm_eps=0.0)


@pytest.mark.parametrize("make", [retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2])
def test_batch_norms_that_learn(make: Any) -> None:
    torch.manual_seed(0)
    model = make(weights=None, weights_backbone=None, num_classes=2).eval()
    detector = import_torchvision(model.state_dict(), ["cat"])
    assert detector.architecture.name == make.__name__
    assert detector.architecture.frozen_norm_eps is None
    with torch.no_grad():
        torch.testing.assert_close(detector(IMAGES).predictions.class_logits, raw_of(model)["cls_logits"][..., 1:])
    with pytest.raises(DetdistillError, match=f"{make.__name__} have no frozen batch norms: leave frozen_norm_eps out"):
        import_torchvision(model.state_dict(), ["cat"], frozen_norm_eps=0.0)


def test_names_of_older_torchvisions(retinanet: Any) -> None:
    state = {}
    for name, tensor in retinanet.state_dict().items():
        for layer in range(4):
            name = name.replace(f"head.conv.{layer}.0.", f"head.conv.{2 * layer}.")
        state[name] = tensor
    assert "head.classification_head.conv.6.weight" in state
    detector = import_torchvision(state, ["cat", "dog", "owl"], frozen_norm_eps=0.0)
    with torch.no_grad():
        assert torch.equal(detector(IMAGES).predictions.regression, raw_of(retinanet)["bbox_regression"])


def test_files(retinanet: Any, tmp_path: Path) -> None:
    """torchvision's reference scripts save the model beside the options of the command line."""
    state = retinanet.state_dict()
    torch.save({"model": state, "epoch": 1, "args": argparse.Namespace(lr=0.1)}, tmp_path / "checkpoint.pth")
    save_file(state, tmp_path / "model.safetensors")
    for name in ("checkpoint.pth", "model.safetensors"):
        detector = import_torchvision(tmp_path / name, ["cat", "dog", "owl"], frozen_norm_eps=0.0)
        with torch.no_grad():
            assert torch.equal(detector(IMAGES).predictions.regression, raw_of(retinanet)["bbox_regression"])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "model.", "architecture.", "ema.", "student."])
def test_prefixes_of_wrappers(retinanet: Any, prefix: str) -> None:
    state = {f"{prefix}{name}": tensor for name, tensor in retinanet.state_dict().items()}
    state |= {f"teacher.{name}": torch.zeros_like(tensor) for name, tensor in retinanet.state_dict().items()}
    detector = import_torchvision(state, ["cat", "dog", "owl"], frozen_norm_eps=0.0)
    name = "backbone.fpn.inner_blocks.0.0.weight"
    assert torch.equal(detector.network.state_dict()[name], retinanet.state_dict()[name])


def test_numbered_classes(retinanet: Any) -> None:
    detector = import_torchvision(retinanet.state_dict(), frozen_norm_eps=0.0, number_classes=True)
    assert detector.classes == ("class_0", "class_1", "class_2", "class_3")
    with pytest.raises(DetdistillError, match=r"--classes.*--number-classes"):
        import_torchvision(retinanet.state_dict(), ["cat"] * 80, frozen_norm_eps=0.0)


def test_eps_of_frozen_norms_is_never_guessed(retinanet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.pth"
    torch.save(retinanet.state_dict(), file)
    with pytest.raises(DetdistillError, match=r"frozen_norm_eps=0\.0 if .* 1e-5 if"):
        import_torchvision(file, ["cat", "dog", "owl"])
    monkeypatch.setattr(torchvision_weights, "PUBLISHED_RETINANET", hashlib.sha256(file.read_bytes()).hexdigest()[:8])
    published = import_torchvision(file, ["cat", "dog", "owl"])
    other = import_torchvision(file, ["cat", "dog", "owl"], frozen_norm_eps=1e-5)
    expected = raw_of(retinanet)["bbox_regression"]
    with torch.no_grad():
        assert torch.equal(published(IMAGES).predictions.regression, expected)
        assert not torch.equal(other(IMAGES).predictions.regression, expected)


def test_the_published_files_hash_is_read_off_torchvisions_url() -> None:
    assert len(torchvision_weights.PUBLISHED_RETINANET) == 8
    int(torchvision_weights.PUBLISHED_RETINANET, 16)


def without(state: State) -> None:
    del state["backbone.body.layer1.0.conv1.weight"]


def with_more(state: State) -> None:
    state["head.mask.weight"] = torch.zeros(1)


def of_another_shape(state: State) -> None:
    state["backbone.body.layer1.0.conv1.weight"] = torch.zeros(32, 64, 1, 1)


def of_integers(state: State) -> None:
    state["backbone.body.layer1.0.conv1.weight"] = state["backbone.body.layer1.0.conv1.weight"].to(torch.int8)


def of_no_shape(state: State) -> None:
    state[f"{TORCHVISION_LOGITS}.weight"] = state[f"{TORCHVISION_LOGITS}.bias"] = torch.tensor(0.0)


def of_other_anchors(state: State) -> None:
    state[f"{TORCHVISION_LOGITS}.bias"] = torch.zeros(4 * 9 + 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without, r"layer1\.0\.conv1\.weight: missing"),
        (with_more, r"head\.mask\.weight: not part of the network"),
        (of_another_shape, r"layer1\.0\.conv1\.weight.*\[32, 64, 1, 1\].*\[64, 64, 1, 1\]"),
        (of_integers, r"layer1\.0\.conv1\.weight: torch\.int8 instead of floating point"),
        (of_no_shape, r"weight \(\) and a bias \(\)"),
        (of_other_anchors, r"weight \(36, 256, 3, 3\) and a bias \(37,\)"),
    ],
)
def test_weights_that_do_not_fit(retinanet: Any, damage: Any, message: str) -> None:
    state = dict(retinanet.state_dict())
    damage(state)
    with pytest.raises(DetdistillError, match=rf"the state dict[\s\S]*{message}"):
        import_torchvision(state, ["cat", "dog", "owl"], frozen_norm_eps=0.0)


def test_another_network(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(DetdistillError, match=r"other\.pth holds none of torchvision's .*found fc\.weight"):
        import_torchvision(tmp_path / "other.pth")
    (tmp_path / "other.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(DetdistillError, match=r"other\.pth"):
        import_torchvision(tmp_path / "other.pth")
