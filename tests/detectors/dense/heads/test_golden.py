"""Every head against the reference implementations: targets, loss terms, gradients, detections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, Predictions, joint_logit
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Targets, single_process
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.heads.atss_head import AtssHead
from detdistill.detectors.dense.heads.dense_head import DenseHead
from detdistill.detectors.dense.heads.fcos_head import FcosHead
from detdistill.detectors.dense.heads.gfl_head import GflHead
from detdistill.detectors.dense.heads.gflv2_head import Gflv2Head
from detdistill.detectors.dense.heads.retinanet_head import RetinaNetHead
from detdistill.detectors.dense.heads.vfnet_head import VfnetHead, VfnetPredictions
from detdistill.detectors.postprocess import PostProcessing

Arrays = dict[str, NDArray[Any]]
Maps = dict[str, list[Tensor]]
CHANNELS = 8
TOWERS = Towers(depth=0)
VFNET_GROUPS = 4


@dataclass(frozen=True)
class Case:
    """One golden file, the head that must reproduce it, and which of our loss terms is which of its."""

    build: Callable[[int, Sequence[int]], DenseHead]
    branches: tuple[str, ...]
    terms: dict[str, str]


CENTERNESS_TERMS = {"classification": "loss_cls", "box": "loss_bbox", "centerness": "loss_centerness"}
GFL_TERMS = {"classification": "loss_cls", "box": "loss_bbox", "distribution": "loss_dfl"}
CASES = {
    "head_retina": Case(
        lambda classes, strides: RetinaNetHead(CHANNELS, classes, strides, TOWERS),
        ("cls_score", "bbox_pred"),
        {"classification": "loss_cls", "box": "loss_bbox"},
    ),
    "head_fcos": Case(
        lambda classes, strides: FcosHead(CHANNELS, classes, strides, TOWERS),
        ("cls_score", "bbox_pred", "centerness"),
        CENTERNESS_TERMS,
    ),
    "head_fcosplus": Case(
        lambda classes, strides: FcosHead(
            CHANNELS, classes, strides, TOWERS, center_sampling=True, normalize_boxes=True, giou=True
        ),
        ("cls_score", "bbox_pred", "centerness"),
        CENTERNESS_TERMS,
    ),
    "head_atss": Case(
        lambda classes, strides: AtssHead(CHANNELS, classes, strides, TOWERS),
        ("cls_score", "bbox_pred", "centerness"),
        CENTERNESS_TERMS,
    ),
    "head_gfl": Case(
        lambda classes, strides: GflHead(CHANNELS, classes, strides, TOWERS), ("cls_score", "bbox_pred"), GFL_TERMS
    ),
    "head_gflv2": Case(
        lambda classes, strides: Gflv2Head(CHANNELS, classes, strides, TOWERS), ("cls_logit", "bbox_pred"), GFL_TERMS
    ),
    "head_vfnet": Case(
        lambda classes, strides: VfnetHead(CHANNELS, classes, strides, TOWERS),
        ("cls_score", "bbox_pred", "bbox_pred_refine"),
        {"classification": "loss_cls", "initial_box": "loss_bbox", "box": "loss_bbox_rf"},
    ),
}


def load_quality(head: DenseHead, data: Arrays) -> None:
    if isinstance(head, Gflv2Head):
        names = {"0.weight": "conf_w1", "0.bias": "conf_b1", "2.weight": "conf_w2", "2.bias": "conf_b2"}
        head.quality.layers.load_state_dict({ours: torch.from_numpy(data[theirs]) for ours, theirs in names.items()})


def head_of(case: Case, data: Arrays) -> DenseHead:
    head = case.build(int(data["num_classes"]), [int(stride) for stride in data["strides"]])
    load_quality(head, data)
    return head


def grid_of(head: DenseHead, data: Arrays) -> Grid:
    return head.layout.grid([(int(h), int(w)) for h, w in data["feat_sizes"]], torch.device("cpu"))


def raw_maps(case: Case, data: Arrays) -> Maps:
    levels = range(len(data["strides"]))
    return {
        branch: [torch.from_numpy(data[f"{branch}_l{level}"]).requires_grad_() for level in levels]
        for branch in case.branches
    }


def output_of(head: DenseHead, grid: Grid, maps: Maps) -> Predictions:
    """What the head's forward makes of its raw branches."""
    flat = {branch: grid.flatten(levels) for branch, levels in maps.items()}
    if isinstance(head, Gflv2Head):
        pairs = zip(maps["cls_logit"], maps["bbox_pred"], strict=True)
        joint = [joint_logit(at_least_float32(logits), head.quality(boxes)) for logits, boxes in pairs]
        return Predictions(Candidates(grid), grid.flatten(joint), flat["bbox_pred"], head.coder)
    if isinstance(head, VfnetHead):
        return VfnetPredictions(
            Candidates(grid),
            flat["cls_score"],
            flat["bbox_pred_refine"],
            head.coder,
            initial_distances=flat["bbox_pred"],
        )
    quality = flat["centerness"].squeeze(-1) if "centerness" in flat else None
    return Predictions(Candidates(grid), flat["cls_score"], flat["bbox_pred"], head.coder, quality)


def targets_of(data: Arrays, empty: Sequence[int] = ()) -> Targets:
    sizes = torch.from_numpy(data["img_hw"])
    boxes, labels = [], []
    for image in range(len(sizes)):
        count = 0 if image in empty else len(data[f"gt_boxes_img{image}"])
        boxes.append(torch.from_numpy(data[f"gt_boxes_img{image}"])[:count])
        labels.append(torch.from_numpy(data[f"gt_labels_img{image}"])[:count])
    return Targets.from_images(boxes, labels, sizes)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, golden: Callable[[str], Arrays]) -> tuple[Case, Arrays]:
    return CASES[request.param], golden(request.param)


@pytest.mark.golden
def test_targets(case: tuple[Case, Arrays]) -> None:
    kind, data = case
    head = head_of(kind, data)
    targets = targets_of(data)
    labels = head.assign(grid_of(head, data), targets).labels(targets)
    expected = torch.from_numpy(data["target_labels"])
    background = expected == int(data["num_classes"])
    assert torch.equal(labels >= 0, ~background)
    assert torch.equal(labels[~background], expected[~background])
    if "target_label_weights" in data:
        assert torch.equal(labels == -2, torch.from_numpy(data["target_label_weights"]) == 0)


@pytest.mark.golden
@pytest.mark.parametrize(("prefix", "empty"), [("", ()), ("img1empty_", (1,)), ("allempty_", (0, 1))])
def test_loss_terms(case: tuple[Case, Arrays], prefix: str, empty: tuple[int, ...]) -> None:
    kind, data = case
    if f"{prefix}loss_cls_total" not in data:
        pytest.skip("the peer gives no such case")
    head = head_of(kind, data)
    grid, targets = grid_of(head, data), targets_of(data, empty)
    terms = head.loss(output_of(head, grid, raw_maps(kind, data)), targets, head.assign(grid, targets), single_process)
    assert set(terms) == set(kind.terms)
    for ours, theirs in kind.terms.items():
        np.testing.assert_allclose(
            terms[ours].item(), data[f"{prefix}{theirs}_total"], rtol=1e-5, atol=1e-6, err_msg=f"{prefix}{theirs}"
        )


@pytest.mark.golden
def test_gradients(case: tuple[Case, Arrays]) -> None:
    kind, data = case
    head = head_of(kind, data)
    grid, targets, maps = grid_of(head, data), targets_of(data), raw_maps(kind, data)
    terms = head.loss(output_of(head, grid, maps), targets, head.assign(grid, targets), single_process)
    torch.autograd.backward(torch.stack(tuple(terms.values())).sum())
    compared = {f"grad_{branch}_l{level}": map.grad for branch in maps for level, map in enumerate(maps[branch])}
    if isinstance(head, Gflv2Head):
        names = ("conf_w1", "conf_b1", "conf_w2", "conf_b2")
        weights = zip(names, head.quality.layers.parameters(), strict=True)
        compared |= {f"grad_{name}": weight.grad for name, weight in weights}
    for name, gradient in compared.items():
        assert gradient is not None, name
        expected = data[name]
        error = np.abs(gradient.numpy() - expected).max()
        assert error <= 2e-5 * np.abs(expected).max(), name


@pytest.mark.golden
@pytest.mark.parametrize(("prefix", "candidates"), [("", None), ("pre40_", 40)])
def test_detections(case: tuple[Case, Arrays], prefix: str, candidates: int | None) -> None:
    kind, data = case
    head = head_of(kind, data)
    settings = head.postprocessing
    if "nms_iou_thr" in data:
        settings = PostProcessing(
            score_threshold=float(data["score_thr"]),
            iou_threshold=float(data["nms_iou_thr"]),
            candidates_per_level=int(data["nms_pre"]),
            max_detections=int(data["max_per_img"]),
        )
    settings = replace(settings, candidates_per_level=candidates or settings.candidates_per_level)
    with torch.no_grad():
        output = output_of(head, grid_of(head, data), raw_maps(kind, data))
        detections = settings(output, torch.from_numpy(data["img_hw"]))
    for image, found in enumerate(detections):
        np.testing.assert_array_equal(found.labels.numpy(), data[f"{prefix}det_labels_img{image}"])
        np.testing.assert_allclose(found.boxes.numpy(), data[f"{prefix}det_boxes_img{image}"], rtol=0, atol=1e-2)
        np.testing.assert_allclose(found.scores.numpy(), data[f"{prefix}det_scores_img{image}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_postprocessing_is_that_of_mmdetections_configurations(name: str) -> None:
    overlap = 0.5 if name in ("head_retina", "head_fcos") else 0.6
    assert CASES[name].build(4, (8, 16)).postprocessing == PostProcessing(0.05, overlap, 1000, 100)


@pytest.mark.golden
def test_vfnet_level(golden: Callable[[str], Arrays]) -> None:
    """The star-shaped convolutions and the refinement of one level, forward and backward."""
    data = golden("vfnet_forward")
    stride = int(data["stride"])
    channels = data["x"].shape[1]
    head = VfnetHead(channels, data["cls_score"].shape[1], [stride], Towers(depth=0, groups=VFNET_GROUPS))
    names = {
        "initial_block.conv.weight": "vfnet_reg_conv_conv_weight",
        "initial_block.norm.weight": "vfnet_reg_conv_gn_weight",
        "initial_block.norm.bias": "vfnet_reg_conv_gn_bias",
        "initial_predictor.weight": "vfnet_reg_weight",
        "initial_predictor.bias": "vfnet_reg_bias",
        "initial_scales.0.scale": "scales_0_scale",
        "refined_conv.weight": "vfnet_reg_refine_dconv_weight",
        "refined_predictor.weight": "vfnet_reg_refine_weight",
        "refined_predictor.bias": "vfnet_reg_refine_bias",
        "refined_scales.0.scale": "scales_refine_0_scale",
        "class_conv.weight": "vfnet_cls_dconv_weight",
        "class_predictor.weight": "vfnet_cls_weight",
        "class_predictor.bias": "vfnet_cls_bias",
    }
    head.load_state_dict({ours: torch.from_numpy(data[f"w_{theirs}"]) for ours, theirs in names.items()})
    x = torch.from_numpy(data["x"]).requires_grad_()
    outputs = dict(zip(("cls_score", "bbox_pred", "bbox_pred_refine"), head.level(x, x, 0), strict=True))
    loss = x.new_zeros(())
    for name, value in outputs.items():
        scale = 1 if name == "cls_score" else 64
        np.testing.assert_allclose(value.detach().numpy(), data[name], rtol=1e-5, atol=1e-3 if scale > 1 else 1e-5)
        loss = loss + (value * torch.from_numpy(data[f"gradw_{name}"])).sum() / scale
    torch.autograd.backward(loss)
    gradients = {
        "grad_x": x.grad,
        "grad_vfnet_reg_weight": head.initial_predictor.weight.grad,
        "grad_vfnet_reg_refine_dconv_weight": head.refined_conv.weight.grad,
        "grad_vfnet_cls_dconv_weight": head.class_conv.weight.grad,
    }
    for name, gradient in gradients.items():
        assert gradient is not None
        assert np.abs(gradient.numpy() - data[name]).max() <= 2e-5 * np.abs(data[name]).max(), name
