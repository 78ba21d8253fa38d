"""The installed torchvision is the reference: proposals, detections, and losses with the same samples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.structures import BACKGROUND, Targets
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.choices import RcnnName
from detdistill.detectors.two_stage.torchvision_rcnn import NETWORKS, TorchvisionRcnn
from detdistill.detectors.two_stage.two_stage_architecture import TorchvisionRcnnArchitecture

HEAVY = "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_fpn", "maskrcnn_resnet50_fpn_v2"
"""Their parts are also those of the others, but for the four convolutions of the second versions."""
TESTED = [pytest.param(name, marks=[pytest.mark.slow] if name in HEAVY else []) for name in get_args(RcnnName)]
CLASSES = "cat", "dog", "cow"
SIZES = (96, 128), (64, 128)


class Everything:
    """Both sides' sampler that takes all."""

    def __call__(self, matched: Any, generator: torch.Generator | None = None) -> Any:  # noqa: ARG002
        if isinstance(matched, Tensor):
            return matched >= BACKGROUND
        return [[label >= 1 for label in matched], [label == 0 for label in matched]]


def pair(name: RcnnName) -> tuple[Any, TorchvisionRcnn]:
    """torchvision's network with uneven random weights, and ours with the same."""
    torch.manual_seed(0)
    ours = TorchvisionRcnn(TorchvisionRcnnArchitecture(name), CLASSES)
    roi, head = ours.network.roi_heads, ours.network.rpn.head
    for module in ours.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0  # in evaluation mode, too, the signal keeps its size
    with torch.no_grad():
        ours.train().maps(batch()[0])
        maps = ours.eval().maps(batch()[0])
        logits, deltas = ours.proposed(maps)
        spread(head.cls_logits, torch.cat([level.flatten(2).mT.flatten(0, 1) for level in logits]), 1.0)
        spread(head.bbox_pred, torch.cat([level.flatten(2).mT.flatten(0, 1) for level in deltas]), 0.2)
        corners = torch.rand(40, 2, 2) * torch.tensor([128, 96])
        boxes = torch.cat((corners.amin(dim=1), corners.amax(dim=1)), dim=1)
        features = ours.regions.features(maps, boxes, torch.zeros(40, dtype=torch.int64))
        logits, deltas = roi.box_predictor(roi.box_head(features))
        spread(roi.box_predictor.cls_score, logits, 1.0)
        spread(roi.box_predictor.bbox_pred, deltas, 0.5)
    modes = replace(ours.proposing.training, kept=60), replace(ours.proposing.inference, kept=60)
    ours.proposing = replace(ours.proposing, training=modes[0], inference=modes[1])
    theirs: Any = NETWORKS[name](
        weights=None,
        weights_backbone=None,
        num_classes=len(CLASSES) + 1,
        min_size=96,
        max_size=128,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
    )
    theirs.load_state_dict(ours.network.state_dict())
    theirs.rpn._post_nms_top_n = {"training": 60, "testing": 60}
    return theirs.eval(), ours.eval()


def spread(layer: Any, values: Tensor, deviation: float) -> None:
    """Change a layer so that its outputs, now `(K, D)` values, have the mean 0 and differ by a standard deviation."""
    factor = deviation / values.std(dim=0).mean()
    layer.weight *= factor
    layer.bias -= factor * values.mean(dim=0)


def batch() -> tuple[Tensor, list[Tensor]]:
    """A batch of two images, and both without the padding."""
    generator = torch.Generator().manual_seed(1)
    images = torch.zeros(2, 3, 96, 128)
    parts = []
    for number, (height, width) in enumerate(SIZES):
        images[number, :, :height, :width] = torch.randn(3, height, width, generator=generator)
        parts.append(images[number, :, :height, :width])
    return images, parts


@pytest.mark.parametrize("name", TESTED)
def test_proposals_and_detections_equal_torchvisions(name: RcnnName) -> None:
    theirs, ours = pair(name)
    images, _ = batch()
    sizes = torch.tensor(SIZES)
    with torch.no_grad():
        output = ours(images, Targets.without_objects(sizes))
        listed = ImageList(images, list(SIZES))
        features = theirs.backbone(images)
        proposals, _ = theirs.rpn(listed, features)
        expected, _ = theirs.roi_heads(features, proposals, listed.image_sizes)
        detections = ours.detect(output, sizes)
    candidates = output.predictions.candidates
    assert candidates.valid is not None
    for number, boxes in enumerate(proposals):
        torch.testing.assert_close(candidates.boxes[number, candidates.valid[number]], boxes, atol=1e-2, rtol=0)
    assert sum(map(len, detections)) > 20
    for own, other in zip(detections, expected, strict=True):
        torch.testing.assert_close(own.scores, other["scores"], atol=1e-5, rtol=0)
        torch.testing.assert_close(own.boxes, other["boxes"], atol=1e-2, rtol=0)
        assert torch.equal(own.labels + 1, other["labels"])
        assert (own.mask_probabilities is not None) == ("masks" in other) == ("mask" in name)
        if own.mask_probabilities is not None:
            torch.testing.assert_close(own.mask_probabilities, other["masks"][:, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", TESTED)
def test_losses_of_the_same_samples_equal_torchvisions(name: RcnnName) -> None:
    theirs, ours = pair(name)
    images, _ = batch()
    boxes = [torch.tensor([[8.0, 8, 60, 50], [50, 30, 90, 90]]), torch.tensor([[20.0, 10, 84, 60]])]
    labels = [torch.tensor([0, 2]), torch.tensor([1])]
    for side in (theirs, ours):
        side.train()
        for module in side.modules():
            if "Norm" in type(module).__name__:
                module.eval()
    theirs.rpn.fg_bg_sampler = theirs.roi_heads.fg_bg_sampler = Everything()
    ours.anchor_sampler = ours.region_sampler = Everything()
    listed = ImageList(images, list(SIZES))
    their_targets: list[dict[str, Tensor]] = []
    planes = []
    for own, label, (height, width) in zip(boxes, labels, SIZES, strict=True):
        bitmaps = torch.zeros(len(own), height, width, dtype=torch.uint8)
        for bitmap, (x1, y1, x2, y2) in zip(bitmaps, own.long().tolist(), strict=True):
            bitmap[y1 + 3 : y2, x1 : x2 - 9] = 1
        their_targets.append({"boxes": own, "labels": label + 1, "masks": bitmaps})
        planes.append(InstanceMasks.of_bitmaps(bitmaps))
    features = theirs.backbone(images)
    proposals, first = theirs.rpn(listed, features, their_targets)
    _, second = theirs.roi_heads(features, proposals, listed.image_sizes, their_targets)
    targets = Targets.from_images(boxes, labels, torch.tensor(SIZES))
    targets = replace(targets, masks=InstanceMasks.joined(planes, SIZES[0]))
    output = ours(images, targets)
    losses = ours.loss(output, targets, ours.match(output, targets))
    for mine, other in (
        ("proposal_object", first["loss_objectness"]),
        ("proposal_box", first["loss_rpn_box_reg"]),
        ("classification", second["loss_classifier"]),
        ("box", second["loss_box_reg"]),
        *([("mask", second["loss_mask"])] if ours.has_masks else []),
    ):
        torch.testing.assert_close(losses[mine], other, rtol=1e-5, atol=1e-7)


def test_meets_the_contract() -> None:
    check_detector(TorchvisionRcnn(TorchvisionRcnnArchitecture("fasterrcnn_mobilenet_v3_large_320_fpn"), CLASSES))


def test_empty_columns_count_as_background() -> None:
    """The scores are those of a softmax over all columns."""
    torch.manual_seed(0)
    name: RcnnName = "fasterrcnn_mobilenet_v3_large_320_fpn"
    whole = TorchvisionRcnn(TorchvisionRcnnArchitecture(name), ["cat", "N/A", "cow"]).eval()
    pruned = TorchvisionRcnn(TorchvisionRcnnArchitecture(name, empty_columns=(2,)), ["cat", "cow"]).eval()
    pruned.load_state_dict(whole.state_dict())
    features = torch.randn(5, 256, 7, 7)
    with torch.no_grad():
        (logits, deltas), (fewer, kept) = whole.read_regions(0, features), pruned.read_regions(0, features)
    torch.testing.assert_close(fewer.softmax(dim=1)[:, :2], logits.softmax(dim=1)[:, [0, 2]])
    assert torch.equal(kept, deltas.view(-1, 3, 4)[:, [0, 2]].flatten(1))
