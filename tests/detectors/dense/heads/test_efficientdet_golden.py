"""EfficientDet's pyramid, head, targets, losses and detections against effdet's numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, Output, Predictions
from detdistill.core.structures import BACKGROUND, Detections, Targets, single_process
from detdistill.detectors.dense.bifpn import BiFpn
from detdistill.detectors.dense.heads.efficientdet_head import EfficientDetHead
from detdistill.detectors.importing.effdet_keys import effdet_name
from detdistill.detectors.postprocess import PostProcessing
from support.effdet_files import CLASSES, in_yx, maps_of, narrow

Arrays = dict[str, NDArray[Any]]
Golden = Callable[[str], Arrays]
FAR = 1e6
"""Pixels by which boxes are moved to see them without clipping."""

pytestmark = pytest.mark.golden


def close(name: str, found: Tensor, expected: NDArray[Any], tolerance: float = 1e-4) -> None:
    assert found.shape == expected.shape, name
    assert np.abs(found.detach().numpy() - expected).max() <= tolerance * np.abs(expected).max(), name


def levels_of(data: Arrays, name: str) -> list[Tensor]:
    count = sum(key.startswith(f"{name}_l") for key in data)
    return [torch.from_numpy(data[f"{name}_l{level}"]).double() for level in range(count)]


def head_of(data: Arrays, **options: Any) -> EfficientDetHead:
    classes, channels, scale = (int(data[f"cfg_{key}"]) for key in ("num_classes", "fpn_channels", "anchor_scale"))
    return EfficientDetHead(channels, classes, (8, 16, 32, 64, 128), anchor_scale=float(scale), **options)


def predictions_of(head: EfficientDetHead, classes: Sequence[Tensor], boxes: Sequence[Tensor]) -> Predictions:
    grid = head.grid(classes)
    return Predictions(Candidates(grid), grid.flatten(classes), in_yx(grid.flatten(boxes)), head.coder)


def targets_of(data: Arrays, *, empty: bool = False) -> Targets:
    images = range(0 if empty else 2)
    boxes = [in_yx(torch.from_numpy(data[f"gt_boxes_yxyx_img{image}"])) for image in images]
    labels = [torch.from_numpy(data[f"gt_labels_1based_img{image}"]) - 1 for image in images]
    if empty:
        boxes, labels = [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2
    return Targets.from_images(boxes, labels, torch.tensor([data["cfg_image_size"].tolist()] * 2))


@pytest.mark.parametrize("name", ["effdet_loss", "effdet_sum_same", "checkpoints/effdet_narrow"])
def test_anchors(name: str, golden2: Golden) -> None:
    data = golden2(name)
    found = in_yx(head_of(data).grid(levels_of(data, "class_out")).priors)
    np.testing.assert_allclose(found.numpy(), data["anchors_yxyx"], rtol=0, atol=1e-3)


def test_targets(golden2: Golden) -> None:
    data = golden2("effdet_loss")
    head, targets = head_of(data), targets_of(data)
    grid = head.grid(levels_of(data, "class_out"))
    assignment = head.assign(grid, targets)
    expected = torch.cat([level.flatten(1) for level in levels_of(data, "cls_targets")], dim=1)
    assert torch.equal(assignment.labels(targets).clamp(min=BACKGROUND), expected.long())
    assert (assignment.matched >= 0).sum(dim=1).tolist() == data["num_positives"].tolist()
    image, prior = assignment.positive
    assert torch.equal(torch.stack((image, prior), dim=1), torch.from_numpy(data["positive_index"]))
    goals = head.coder.encode(
        grid.priors[prior].double(), grid.prior_strides[prior], targets.boxes[assignment.positive_targets].double()
    )
    np.testing.assert_allclose(in_yx(goals).numpy(), data["positive_targets_tytxthtw"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("prefix", "options"), [("", {}), ("empty_", {}), ("smooth_", {"label_smoothing": 0.1, "gamma": 2.0, "delta": 0.2})]
)
def test_losses(prefix: str, options: dict[str, float], golden2: Golden) -> None:
    data = golden2("effdet_loss")
    head, targets = head_of(data, **options), targets_of(data, empty=prefix == "empty_")
    predictions = predictions_of(head, levels_of(data, "class_out"), levels_of(data, "box_out"))
    terms = head.loss(predictions, targets, head.assign(predictions.grid, targets), single_process)
    found = {"class_loss": terms["classification"], "box_loss": terms["box"] / 50, "loss": sum(terms.values())}
    for name, value in found.items():
        np.testing.assert_allclose(float(value), data[f"{prefix}{name}"], rtol=1e-5, atol=1e-9, err_msg=name)


def test_gradients(golden2: Golden) -> None:
    data = golden2("effdet_loss")
    head, targets = head_of(data), targets_of(data)
    classes, boxes = ([each.requires_grad_() for each in levels_of(data, f"{key}_out")] for key in ("class", "box"))
    predictions = predictions_of(head, classes, boxes)
    terms = head.loss(predictions, targets, head.assign(predictions.grid, targets), single_process)
    torch.autograd.backward(terms["classification"] + terms["box"])
    for name, maps in (("grad_class", classes), ("grad_box", boxes)):
        largest = max(np.abs(data[f"{name}_l{level}"]).max() for level in range(5))
        for level, each in enumerate(maps):
            assert each.grad is not None
            assert np.abs(each.grad.numpy() - data[f"{name}_l{level}"]).max() <= 2e-5 * largest, (name, level)


def test_sum_fusion_with_tensorflows_padding_and_biases(golden2: Golden) -> None:
    data = golden2("effdet_sum_same")
    detector = narrow(channels=10, fusion="sum", padding="same", bias=True, anchor_scale=3.0).double()
    state = {}
    for name, tensor in detector.state_dict().items():
        theirs = f"w_{effdet_name(name, 3, 5, level_first=False)}"
        if theirs in data:
            state[name] = torch.from_numpy(data[theirs]).to(tensor)
    for name in ("weight", "bias"):
        rows = state[f"head.box_predictor.{name}"]
        state[f"head.box_predictor.{name}"] = rows.reshape(-1, 4, *rows.shape[1:])[:, (1, 0, 3, 2)].flatten(0, 1)
    assert len(state) == sum(key.startswith("w_") for key in data)
    detector.load_state_dict(state, strict=False)
    backbone = levels_of(data, "backbone")
    with torch.no_grad():
        assert_pyramid(detector.pyramid, backbone, data)
        output: Output = detector.head(detector.pyramid(backbone))
    assert_maps(output, data)
    assert_detections(detector.postprocessing, output.predictions, data)


def assert_pyramid(pyramid: Any, backbone: Sequence[Tensor], data: Arrays) -> None:
    assert isinstance(pyramid, BiFpn)
    p6 = pyramid.halve(pyramid.coarsest(backbone[-1]))
    close("p6_in", p6, data["p6_in"])
    close("p7_in", pyramid.halve(p6), data["p7_in"])
    for level, found in enumerate(pyramid.cells[0]([*backbone, p6, pyramid.halve(p6)])):
        close(f"cell0_l{level}", found, data[f"cell0_l{level}"])


def assert_maps(output: Output, data: Arrays) -> None:
    for name, maps in maps_of(output).items():
        for level, found in enumerate(maps):
            close(f"{name}_l{level}", found, data[f"{name}_l{level}"])


def moved(predictions: Predictions) -> Predictions:
    """The same far from the image's borders, in float64."""
    grid = predictions.grid
    far = Grid(grid.sizes, grid.strides, tuple(each.double() + FAR for each in grid.base_anchors))
    return replace(predictions, candidates=Candidates(far))


def assert_detections(settings: PostProcessing, predictions: Predictions, data: Arrays) -> None:
    settings = replace(settings, candidates_per_image=int(data["cfg_max_detection_points"]))
    count = len(predictions.logits)
    everywhere = torch.full((count, 2), 2 * FAR, dtype=torch.float64)
    for found, expected in zip(settings(moved(predictions), everywhere), data["detections"], strict=True):
        assert_rows(replace(found, boxes=found.boxes - FAR), expected)
    scale = torch.from_numpy(data["img_scale"])[:count]
    sizes = torch.from_numpy(data["img_size_wh"])[:count].flip(-1) / scale[:, None]
    for found, factor, rows in zip(settings(predictions, sizes), scale, data["detections_scaled"], strict=True):
        # effdet keeps boxes that clipping leaves without area.
        expected = rows[(rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])]
        assert len(found) >= len(expected)
        first = slice(0, len(expected))
        assert_rows(Detections(found.boxes[first] * factor, found.scores[first], found.labels[first]), expected)


def assert_rows(found: Detections, expected: NDArray[Any]) -> None:
    assert len(found) == (expected[:, 5] > 0).sum() > 0
    expected = expected[: len(found)]
    np.testing.assert_allclose(found.scores.numpy(), expected[:, 4], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.labels.numpy() + 1, expected[:, 5])
    np.testing.assert_allclose(found.boxes.numpy(), expected[:, :4], rtol=0, atol=1e-2)


def test_the_classes_are_as_many_as_the_file_has(golden2: Golden) -> None:
    assert int(golden2("effdet_loss")["cfg_num_classes"]) == len(CLASSES)
