from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn, maskrcnn_resnet50_fpn

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import Targets
from detdistill.detectors.dense.choices import RcnnName
from detdistill.detectors.importing.import_checkpoint import import_checkpoint
from detdistill.detectors.importing.torchvision_rcnn_weights import import_torchvision_rcnn
from detdistill.detectors.storage import load_detector

SMALL: RcnnName = "fasterrcnn_mobilenet_v3_large_320_fpn"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def mobile() -> State:
    torch.manual_seed(0)
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=4)
    return dict(network.state_dict())


@pytest.fixture(scope="module")
def masked() -> tuple[Any, State]:
    """torchvision's Mask R-CNN, and its weights by the names of the published file."""
    torch.manual_seed(0)
    network = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3).eval()
    renamed = {}
    for key, value in network.state_dict().items():
        name = key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        for blocks in ("inner_blocks", "layer_blocks"):
            for level in range(4):
                name = name.replace(f"fpn.{blocks}.{level}.0.", f"fpn.{blocks}.{level}.")
        for layer in range(4):
            name = name.replace(f"roi_heads.mask_head.{layer}.0.", f"roi_heads.mask_head.mask_fcn{layer + 1}.")
        renamed[name] = value
    return network, renamed


def test_the_published_names_are_known(masked: tuple[Any, State]) -> None:
    network, state = masked
    assert "roi_heads.mask_head.mask_fcn1.weight" in state
    detector = import_torchvision_rcnn(state, ["cat", "dog"])
    assert detector.architecture.name == "maskrcnn_resnet50_fpn"
    assert detector.classes == ("cat", "dog")
    assert detector.has_masks
    for key, value in network.state_dict().items():
        assert torch.equal(detector.network.state_dict()[key], value), key


def test_a_saved_import_detects_the_same(mobile: State, tmp_path: Path) -> None:
    torch.save(mobile, tmp_path / "model.pth")
    found = import_checkpoint(tmp_path / "model.pth", tmp_path / "out", classes=["a", "N/A", "c"], network=SMALL)
    assert found.image_size is not None
    assert (found.image_size.short_side, found.image_size.long_side) == (320, 640)
    assert found.detector.classes == ("a", "c")
    loaded = load_detector(tmp_path / "out")
    images, sizes = torch.randn(1, 3, 96, 128), torch.tensor([[96, 128]])
    with torch.no_grad():
        one, other = (
            each.detect(each(images, Targets.without_objects(sizes)), sizes)[0] for each in (found.detector, loaded)
        )
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.scores, other.scores)


def without(name: str, state: State) -> State:
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "options", "named"),
    [
        (lambda state: state, {"classes": ["a", "b", "c"]}, "network"),
        (lambda state: state, {"classes": ["a", "b", "c"], "network": "fasterrcnn_resnet50_fpn"}, "network"),
        (lambda state: state, {"classes": ["a", "b"], "network": SMALL}, "4 class columns"),
        (lambda state: state, {"classes": ["a", "b", "c", "d"], "network": SMALL}, "column 0"),
        (
            lambda state: without("rpn.head.bbox_pred.bias", state),
            {"classes": ["a", "b", "c"], "network": SMALL},
            "rpn.head.bbox_pred.bias",
        ),
        (
            lambda state: {**state, "roi_heads.keypoint_predictor.kps_score_lowres.weight": torch.zeros(1)},
            {"classes": ["a", "b", "c"], "network": SMALL},
            "keypointrcnn",
        ),
        (
            lambda state: state,
            {"classes": ["a", "b", "c"], "network": SMALL, "frozen_norm_eps": 0.0},
            "frozen_norm_eps",
        ),
    ],
)
def test_what_does_not_fit_is_named(mobile: State, change: Any, options: Any, named: str) -> None:
    with pytest.raises(DetdistillError) as raised:
        import_torchvision_rcnn(change(mobile), **options)
    assert named in str(raised.value)


def test_frozen_batch_norms_of_mobilenet_need_no_question(mobile: State) -> None:
    frozen = {key: value for key, value in mobile.items() if not key.endswith("num_batches_tracked")}
    detector = import_torchvision_rcnn(frozen, network=SMALL, number_classes=True)
    assert detector.architecture.frozen_norm_eps == 1e-5
    assert detector.classes == ("class_1", "class_2", "class_3")
