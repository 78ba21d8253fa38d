"""Two-stage checkpoints of mmdetection: the whole way from image to detections, and the losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import Golden
from detdistill.core.errors import DetdistillError
from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.mask_pasting import paste_masks
from detdistill.core.structures import BACKGROUND, Detections, Targets
from detdistill.detectors.importing.mmdet import import_mmdet
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from detdistill.detectors.two_stage.region_predictions import RegionPredictions
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector
from support.golden_regions import Arrays, levels, objects, per_image, tensor

THREE = "roi1", "roi2", "roi3"
CHECKPOINTS = {
    "faster_rcnn_r18": ("roi",),
    "mask_rcnn_r50": ("roi",),
    "cascade_rcnn_r18": THREE,
    "cascade_mask_rcnn_r18": THREE,
}


def imported(folder: Path, name: str) -> TwoStageDetector:
    detector = import_mmdet(folder / "checkpoints" / f"{name}.pth").detector
    assert isinstance(detector, TwoStageDetector)
    return detector.double()


def close(found: Tensor, expected: Tensor) -> None:
    """Within 1e-4 of a tensor's largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def all_of(matched: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG001 (a sampler's)
    return matched >= BACKGROUND


@pytest.mark.golden
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_from_image_to_detections(golden2: Golden, golden2_folder: Path, name: str) -> None:
    vectors, detector = golden2(f"checkpoints/{name}"), imported(golden2_folder, name)
    sizes = torch.from_numpy(vectors["img_hw"])
    with torch.no_grad():
        output = detector(tensor(vectors["image"]), Targets.without_objects(sizes))
        detections = detector.detect(output, sizes)
    for own, other in zip(output.features.maps, levels(vectors, "feature"), strict=True):
        close(own, other)
    grid = output.stages["rpn"].grid
    close(output.stages["rpn"].logits, grid.flatten(levels(vectors, "rpn_cls")))
    close(output.stages["rpn"].regression, grid.flatten(levels(vectors, "rpn_reg")))
    first = output.stages[CHECKPOINTS[name][0]].candidates
    assert first.valid is not None
    for number, boxes in enumerate(per_image(vectors, "proposals")):
        torch.testing.assert_close(first.boxes[number, first.valid[number]].double(), boxes, atol=1e-2, rtol=0)
    if len(CHECKPOINTS[name]) == 1:
        close(output.predictions.logits[first.valid], tensor(vectors["roi_cls"]))
        close(output.predictions.regression[first.valid], tensor(vectors["roi_reg"]))
    else:
        raw = torch.stack([tensor(vectors[f"stage{stage}_cls"]) for stage in range(3)])
        close(output.predictions.logits[first.valid], raw.mean(dim=0))
        for stage, stage_name in enumerate(CHECKPOINTS[name]):
            found = output.stages[stage_name]
            close(found.regression[first.valid], tensor(vectors[f"stage{stage}_reg"]))
            rois = tensor(vectors[f"stage{stage}_rois"])[:, 1:]
            torch.testing.assert_close(found.candidates.boxes[first.valid].double(), rois, atol=1e-2, rtol=0)
    parts = [per_image(vectors, f"det_{part}") for part in ("boxes", "scores", "labels")]
    for own_found, boxes, scores, labels in zip(detections, *parts, strict=True):
        torch.testing.assert_close(own_found.scores.double(), scores, atol=1e-4, rtol=0)
        torch.testing.assert_close(own_found.boxes.double(), boxes, atol=1e-2, rtol=0)
        assert torch.equal(own_found.labels, labels)
    assert detector.has_masks == ("mask" in name)
    if detector.has_masks:
        check_masks(vectors, detections, sizes)


def check_masks(vectors: Arrays, detections: list[Detections], sizes: Tensor) -> None:
    """Of each detection's class, and pasted into the image."""
    stages = [key for key in ("", "_stage0", "_stage1", "_stage2") if f"det_mask_logits{key}" in vectors]
    raw = torch.stack([tensor(vectors[f"det_mask_logits{key}"]).sigmoid() for key in stages]).mean(dim=0)
    probabilities = [each.mask_probabilities for each in detections if each.mask_probabilities is not None]
    torch.testing.assert_close(torch.cat(probabilities), raw, atol=1e-4, rtol=0)
    for number, (found, cells, (height, width)) in enumerate(
        zip(detections, probabilities, sizes.tolist(), strict=True)
    ):
        shape = vectors[f"det_masks_img{number}_shape"]
        pasted = paste_masks(cells, found.boxes, (height, width)).bitmaps()
        packed = vectors[f"det_masks_img{number}_packed"]
        bits = np.unpackbits(packed, axis=1)[:, : shape[1] * shape[2]].reshape(shape)
        differing = (pasted.numpy() != bits).sum(axis=(1, 2))
        assert differing.max() <= 2  # pixels at the edge of a mask


@pytest.mark.golden
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_losses_where_everything_is_sampled(golden2: Golden, golden2_folder: Path, name: str) -> None:
    vectors, detector = golden2(f"checkpoints/{name}"), imported(golden2_folder, name)
    detector.train()
    detector.backbone.eval()
    detector.anchor_sampler = detector.region_sampler = all_of
    few = replace(detector.proposing.training, per_level=300, kept=100)
    detector.proposing = replace(detector.proposing, training=few)
    targets = objects(vectors)
    if detector.has_masks:
        height, width = vectors["image"].shape[2:]
        packed = np.concatenate([vectors[f"gt_masks_img{number}_packed"] for number in (0, 1)])
        bits = np.unpackbits(packed, axis=1)[:, : height * width].reshape(-1, height, width)
        targets = replace(targets, masks=InstanceMasks.of_bitmaps(torch.from_numpy(bits)))
    output = detector(tensor(vectors["image"]), targets)
    losses = detector.loss(output, targets, detector.match(output, targets))
    expected = {"proposal_object": "loss_rpn_cls", "proposal_box": "loss_rpn_bbox"}
    for number, stage in enumerate(CHECKPOINTS[name]):
        suffix = stage.removeprefix("roi")
        prefix = f"s{number}_" if suffix else ""
        expected |= {f"classification{suffix}": f"{prefix}loss_cls", f"box{suffix}": f"{prefix}loss_bbox"}
        if detector.has_masks:
            expected[f"mask{suffix}"] = f"{prefix}loss_mask"
    for ours, theirs in expected.items():
        torch.testing.assert_close(losses[ours], tensor(vectors[f"train_{theirs}"]).squeeze(), rtol=1e-5, atol=0)
    torch.autograd.backward(torch.stack(tuple(losses.values())).sum())
    head = "roi_head.bbox_head.0" if len(CHECKPOINTS[name]) > 1 else "roi_head.bbox_head"
    own_head = detector.region_heads[0]
    pairs = {
        f"{head}.fc_cls.weight": own_head.get_parameter("class_predictor.weight"),
        f"{head}.fc_reg.weight": own_head.get_parameter("box_predictor.weight"),
        "rpn_head.rpn_reg.weight": detector.proposal_head.box_predictor.weight,
    }
    checked = 0
    for theirs, parameter in pairs.items():
        if f"train_grad_{theirs}" not in vectors:
            continue
        other = tensor(vectors[f"train_grad_{theirs}"])
        assert parameter.grad is not None
        assert (parameter.grad - other).abs().max() <= 2e-5 * other.abs().max(), theirs
        checked += 1
    assert checked >= 2


Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, out: Path, change: Change) -> Path:
    """A checkpoint with a change."""
    content = torch.load(folder / "checkpoints" / "faster_rcnn_r18.pth", weights_only=True)
    change(content)
    torch.save(content, out)
    return out


def _without_config(content: dict[str, Any]) -> None:
    del content["meta"]["cfg"]


def _without_a_layer(content: dict[str, Any]) -> None:
    del content["state_dict"]["roi_head.bbox_head.fc_reg.weight"]


def _old(content: dict[str, Any]) -> None:
    content["meta"]["mmdet_version"] = "1.2.0"


def _other_align(content: dict[str, Any]) -> None:
    content["meta"]["cfg"] = content["meta"]["cfg"].replace("type='RoIAlign'", "type='RoIPool'")


def _more_scales(content: dict[str, Any]) -> None:
    content["meta"]["cfg"] = content["meta"]["cfg"].replace(
        "scales=[\n                8,", "scales=[\n                8, 16,"
    )


@pytest.mark.golden
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_without_config, "meta.cfg"),
        (_without_a_layer, "roi_head.bbox_head.fc_reg.weight"),
        (_old, "1.2.0"),
        (_other_align, "roi_layer.type"),
        (_more_scales, "rpn_head.rpn_cls.weight"),
    ],
)
def test_what_cannot_be_imported_is_named(golden2_folder: Path, tmp_path: Path, change: Change, named: str) -> None:
    path = changed(golden2_folder, tmp_path / "changed.pth", change)
    with pytest.raises(DetdistillError) as raised:
        import_mmdet(path)
    assert named in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.golden
def test_settings_are_those_of_the_configuration(golden2_folder: Path) -> None:
    with pytest.raises(DetdistillError, match="iou_threshold"):
        import_mmdet(golden2_folder / "checkpoints" / "faster_rcnn_r18.pth", settings=MmdetSettings(iou_threshold=0.4))


@pytest.mark.golden
def test_an_imported_detector_reads_given_proposals(golden2: Golden, golden2_folder: Path) -> None:
    """As a teacher does for a student."""
    vectors = golden2("checkpoints/faster_rcnn_r18")
    detector = imported(golden2_folder, "faster_rcnn_r18")
    with torch.no_grad():
        output = detector(tensor(vectors["image"]), Targets.without_objects(torch.from_numpy(vectors["img_hw"])))
        own = output.predictions.candidates
        assert own.valid is not None
        again = detector.read_proposals(0, output.features.maps, own.boxes, own.valid)
    assert isinstance(again, RegionPredictions)
    torch.testing.assert_close(again.logits, output.predictions.logits)
