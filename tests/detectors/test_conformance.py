from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import Assignment, DenseOutput, Detections
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.detector import DenseDetector

Change = Callable[[DenseDetector], None]


@pytest.fixture
def detector() -> DenseDetector:
    torch.manual_seed(0)
    return DenseDetector(Architecture(head="atss", backbone_width=0.125, channels=16), ("a", "b"))


def altered_output(**changes: Callable[[DenseOutput], Any]) -> Change:
    def change(detector: DenseDetector) -> None:
        head = detector.head.forward

        def forward(features: tuple[Tensor, ...]) -> DenseOutput:
            output = head(features)
            return replace(output, **{name: make(output) for name, make in changes.items()})

        detector.head.forward = forward  # type: ignore[method-assign]

    return change


def altered_method(name: str, wrap: Callable[[Any], Any]) -> Change:
    def change(detector: DenseDetector) -> None:
        method = getattr(detector, name)
        setattr(detector, name, lambda *arguments: wrap(method(*arguments)))

    return change


def no_classes(detector: DenseDetector) -> None:
    detector.classes = ("a", "a")


def unused_parameter(detector: DenseDetector) -> None:
    detector.unused = nn.Parameter(torch.zeros(1))


def mode_dependent(detector: DenseDetector) -> None:
    head = detector.head.forward

    def forward(features: tuple[Tensor, ...]) -> Any:
        return {"loss": 0} if detector.training else head(features)

    detector.head.forward = forward  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_classes, "classes: names must differ"),
        (unused_parameter, "without objects: gives no gradient to unused"),
        (mode_dependent, "returns dict in training but DenseOutput in inference"),
        (altered_output(features=lambda output: output.features[:-1]), "output.features: maps of"),
        (altered_output(class_logits=lambda output: output.class_logits[..., :1]), "output.class_logits: shape"),
        (altered_output(quality_logits=lambda output: output.class_logits), "output.quality_logits: shape"),
        (altered_output(class_logits=lambda output: output.class_logits * float("nan")), "outside of 0 to 1"),
        (altered_output(regression=lambda output: output.regression * float("inf")), "boxes.*not finite"),
        (
            altered_output(grid=lambda output: replace(output.grid, strides=((4, 4),) * output.grid.num_levels)),
            "do not cover an image",
        ),
        (altered_method("assign", lambda found: Assignment(found.matched.float())), "must be .* torch.int64"),
        (altered_method("assign", lambda found: Assignment(found.matched + 10)), "there are 3 objects"),
        (altered_method("assign", lambda found: Assignment(found.matched.flip(0))), "object of another image"),
        (altered_method("assign", lambda found: Assignment(found.matched * 0 - 1)), "no candidate is positive"),
        (altered_method("detection_loss", lambda terms: {"box": terms["box"] / 0}), "not finite"),
        (altered_method("detect", lambda found: found[:1]), "1 results for 2 images"),
        (
            altered_method("detect", lambda found: [replace(one, boxes=one.boxes + 500) for one in found]),
            "reach out of the image",
        ),
        (
            altered_method("detect", lambda found: [replace(one, labels=one.labels + 1) for one in found]),
            "labels outside of 0 to 1",
        ),
        (
            altered_method(
                "detect", lambda found: [Detections(one.boxes, one.scores.flip(0), one.labels) for one in found]
            ),
            "not ordered best first",
        ),
    ],
)
def test_each_breach_is_named(detector: DenseDetector, change: Change, message: str) -> None:
    check_detector(detector)
    change(detector)
    with pytest.raises(DetdistillError, match=f"(?s)DenseDetector does not meet the detector contract.*{message}"):
        check_detector(detector)


def test_every_breach_is_listed(detector: DenseDetector) -> None:
    no_classes(detector)
    unused_parameter(detector)
    with pytest.raises(DetdistillError, match=r"(?s)names must differ.*gives no gradient"):
        check_detector(detector)


def test_a_module_that_is_no_detector_is_told_so() -> None:
    with pytest.raises(DetdistillError, match=r"AttributeError in attribute check: .*classes"):
        check_detector(nn.Conv2d(3, 3, 1))


def test_the_module_is_left_as_it_was(detector: DenseDetector) -> None:
    detector.train()
    detector.backbone.eval()
    parameter = next(detector.parameters())
    parameter.grad = torch.ones_like(parameter)
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    before = torch.get_rng_state()
    check_detector(detector)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in detector.state_dict().items())
    assert detector.training
    assert not detector.backbone.training
    assert torch.equal(parameter.grad, torch.ones_like(parameter))
    assert detector.head.get_parameter("class_predictor.bias").grad is None
