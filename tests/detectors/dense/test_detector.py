from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.output import DENSE, Output
from detdistill.core.structures import BACKGROUND, IGNORED, Targets
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.architecture import BiFeaturePyramid, Towers
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.detector import HEADS, DenseDetector
from support.tiny_detector import layers

CLASSES = ("cell", "platelet", "other")
FCOS_OPTIONS = {"center_sampling": True, "normalize_boxes": True, "centerness_on_box_tower": True, "giou": True}


def small(head: str, **changes: Any) -> DenseDetector:
    torch.manual_seed(0)
    return DenseDetector(layers(head, backbone_width=0.125, channels=32, **changes), CLASSES)  # type: ignore[arg-type]


BIFPN = BiFeaturePyramid(kind="bifpn", channels=32, repeats=2)
VARIANTS: list[tuple[HeadName, dict[str, Any]]] = [
    ("retinanet", {"extra_source": "input"}),
    ("fcos", {"extra_relu": True}),
    ("fcos", {"options": FCOS_OPTIONS}),
    ("atss", {}),
    ("gfl", {"backbone": "resnet50"}),
    ("gfl", {"strides": (4, 8, 16, 32), "extra_levels": 0, "towers": Towers(channels=16, depth=1, norm="batch")}),
    ("gflv2", {"options": {"reg_max": 8}}),
    ("vfnet", {}),
    ("vfnet", {"pyramid": BIFPN, "towers": Towers(depth=1, norm="level_batch", activation="silu")}),
    ("atss", {"pyramid": replace(BIFPN, fusion="sum", padding="same", bias=True, activation="relu6")}),
    ("efficientdet", {"pyramid": BIFPN}),
]


@pytest.fixture(params=VARIANTS, ids=[f"{head}-{'-'.join(changes)}" for head, changes in VARIANTS])
def detector(request: pytest.FixtureRequest) -> DenseDetector:
    head, changes = request.param
    return small(head, **changes)


def total(detector: DenseDetector, output: Output, targets: Targets) -> Tensor:
    terms = detector.loss(output, targets, detector.match(output, targets))
    return torch.stack(tuple(terms.values())).sum()


def targets_of(*boxes: list[float]) -> Targets:
    """One image per box of a canvas of 128x160."""
    labels = [torch.tensor([1]) for _ in boxes]
    return Targets.from_images([torch.tensor([box]) for box in boxes], labels, torch.tensor([[128, 160]] * len(boxes)))


def test_meets_the_contract(detector: DenseDetector) -> None:
    check_detector(detector)


def test_background_inside_ignored_boxes_has_no_gradient_and_the_rest_keeps_its_own(detector: DenseDetector) -> None:
    targets = targets_of([10.0, 12.0, 70.0, 90.0], [40.0, 4.0, 90.0, 60.0])
    region = torch.tensor([[60.0, 20, 160, 128]])
    ignoring = replace(targets, ignored=region, ignored_image=torch.tensor([1]))
    output = detector.train()(torch.randn(2, 3, 128, 160))
    gradients = []
    for each in (targets, ignoring):
        loss = total(detector, output, each)
        (gradient,) = torch.autograd.grad(loss, output.predictions.logits, retain_graph=True)
        gradients.append(gradient)
    plain, found = gradients
    matches = [detector.match(output, each)[DENSE].matched for each in (targets, ignoring)]
    ignored = (matches[0] == BACKGROUND) & (matches[1] == IGNORED)
    assert ignored[1].any()
    assert not ignored[0].any()
    assert not found[ignored].any()
    assert plain[ignored].any()
    assert torch.equal(found[~ignored], plain[~ignored])


def test_extreme_boxes_train(detector: DenseDetector) -> None:
    targets = targets_of([17.0, 23.0, 18.0, 24.0], [0.0, 0.0, 160.0, 128.0], [3.0, 5.0, 157.0, 7.0])
    loss = total(detector, detector(torch.randn(3, 3, 128, 160)), targets)
    assert loss.isfinite()
    torch.autograd.backward(loss)
    assert all(part.grad is not None and part.grad.isfinite().all() for part in detector.parameters())


def test_autocast_loses_little(detector: DenseDetector) -> None:
    images, targets = torch.randn(2, 3, 128, 160), targets_of([10.0, 12.0, 70.0, 90.0], [40.0, 4.0, 90.0, 60.0])
    detector.eval()
    with torch.no_grad():
        expected = total(detector, detector(images), targets)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = total(detector, detector(images), targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("size", [(128, 128), (32, 32), (96, 480)])
def test_one_small_image(detector: DenseDetector, size: tuple[int, int]) -> None:
    """A level of a single cell leaves a group of channels one value each: it must neither fail nor vanish."""
    with torch.no_grad():
        (found,) = detector.eval().detect(detector(torch.randn(1, 3, *size)), torch.tensor([size]))
    assert found.boxes.isfinite().all()


def test_padding_in_the_batch_changes_no_size(detector: DenseDetector) -> None:
    """The true size is what clips detections, whatever the canvas."""
    detector.postprocessing = detector.postprocessing.__class__(score_threshold=0.0)
    with torch.no_grad():
        output = detector.eval()(torch.randn(1, 3, 128, 160))
        (found,) = detector.detect(output, torch.tensor([[70, 90]]))
    assert len(found) > 0
    assert found.boxes[:, 2].max() <= 90
    assert found.boxes[:, 3].max() <= 70


def test_grids_are_cached_per_size(detector: DenseDetector) -> None:
    images = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        first, second, other = (
            detector(images).predictions.grid,
            detector(images).predictions.grid,
            detector(images[..., :128]).predictions.grid,
        )
    assert first is second
    assert first is not other


@pytest.mark.parametrize("head", HEADS)
def test_loss_of_two_processes_adds_up_to_the_joined_batch(head: str) -> None:
    """Each term is a share of the whole: with global counts, the shares of two half batches add up."""
    detector = small(head).eval()
    images = torch.randn(2, 3, 128, 160)
    boxes = [
        torch.tensor([[10.0, 12.0, 70.0, 90.0], [80.0, 30.0, 120.0, 100.0]]),
        torch.tensor([[40.0, 4.0, 90.0, 60.0]]),
    ]
    labels = [torch.tensor([0, 2]), torch.tensor([1])]
    sizes = torch.tensor([[128, 160]] * 2)
    with torch.no_grad():
        joined = Targets.from_images(boxes, labels, sizes)
        output = detector(images)
        counts: list[Tensor] = []

        def record(value: Tensor) -> Tensor:
            counts.append(value)
            return value

        expected = detector.loss(output, joined, detector.match(output, joined), record)
        (global_count,) = counts
        shares = []
        for index in range(2):
            part = Targets.from_images(boxes[index : index + 1], labels[index : index + 1], sizes[:1])
            output = detector(images[index : index + 1])
            matches = detector.match(output, part)
            shares.append(detector.loss(output, part, matches, lambda _: global_count))
    for name, value in expected.items():
        torch.testing.assert_close(shares[0][name] + shares[1][name], value, rtol=1e-4, atol=1e-5)


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(DetdistillError, match=r"20 tower channels do not divide into 3 groups: .* a multiple of 8"):
        small("atss", towers=Towers(channels=20))


def test_unknown_head_and_option_name_what_there_is() -> None:
    with pytest.raises(DetdistillError, match=r"kind must be one of retinanet, .*not 'yolo'"):
        small("yolo")
    with pytest.raises(DetdistillError, match=r"atss has no option reg_max; it has: anchor_scale"):
        small("atss", options={"reg_max": 8})
    with pytest.raises(DetdistillError, match=r"gfl has no option max.*reg_max"):
        small("gfl", options={"max": 8})


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("gfl", {"reg_max": 0}, "reg_max must be at least 1, not 0"),
        ("gflv2", {"reg_max": 2}, "reg_max must be at least 3 for GFLv2, not 2"),
        ("gfl", {"reg_max": 16.0}, "option reg_max of head gfl must be of type int, such as 16, not 16.0"),
        ("fcos", {"giou": 1}, "option giou of head fcos must be of type bool, such as False, not 1"),
        ("retinanet", {"anchor_scales": 4.0}, r"must be of type tuple, such as \(4.0, .*, not 4.0"),
        ("retinanet", {"anchor_ratios": ("a",)}, r"options.anchor_ratios\[0\] must be a number, not 'a'"),
        ("retinanet", {"anchor_scales": ()}, "at least one scale"),
        ("atss", {"anchor_scale": -8}, r"all above 0; given are scales \(-8,\)"),
        ("efficientdet", {"anchor_scale": 0.0}, "scale 0: .*scale above 0"),
        ("efficientdet", {"delta": 0.0}, "delta 0, "),
        ("efficientdet", {"label_smoothing": 1.5}, "label_smoothing 1.5, .*label_smoothing of 0 to 1"),
    ],
)
def test_options_that_cannot_be_are_refused(head: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DetdistillError, match=message):
        small(head, options=options)
