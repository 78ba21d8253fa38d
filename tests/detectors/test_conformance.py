from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detdistill.core.draws import Draws
from detdistill.core.errors import DetdistillError
from detdistill.core.output import Candidates, Features, Output, Predictions
from detdistill.core.structures import Assignment, Detections, Matches, ReduceSum, Targets
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.detector import DenseDetector
from support.term_cases import shares
from support.tiny_detector import layers
from support.two_stage import TwoStageDetector

Change = Callable[[DenseDetector], None]


@pytest.fixture
def detector() -> DenseDetector:
    """It meets the contract: see `test_the_module_is_left_as_it_was`."""
    torch.manual_seed(0)
    return DenseDetector(layers("atss", backbone_width=0.125, channels=16), ("a", "b"))


def altered_output(make: Callable[[Output], Output]) -> Change:
    def change(detector: DenseDetector) -> None:
        head = detector.head.forward
        detector.head.forward = lambda features: make(head(features))  # type: ignore[method-assign]

    return change


def altered_predictions(**changes: Callable[[Predictions], Any]) -> Change:
    def alter(output: Output) -> Output:
        predictions = output.predictions
        return output.with_predictions(
            replace(predictions, **{name: make(predictions) for name, make in changes.items()})
        )

    return altered_output(alter)


def altered_match(wrap: Callable[[Tensor], Tensor]) -> Change:
    def alter(matches: Matches) -> Matches:
        return {stage: Assignment(wrap(assignment.matched)) for stage, assignment in matches.items()}

    return altered_method("match", alter)


def wrong_strides(predictions: Predictions) -> Candidates:
    return Candidates(replace(predictions.grid, strides=((4, 4),) * predictions.grid.num_levels))


def altered_method(name: str, wrap: Callable[[Any], Any]) -> Change:
    def change(detector: DenseDetector) -> None:
        method = getattr(detector, name)
        setattr(detector, name, lambda *arguments: wrap(method(*arguments)))

    return change


def blind_to_ignored(detector: DenseDetector) -> None:
    match = detector.match
    nothing: dict[str, Any] = {"ignored": torch.zeros(0, 4), "ignored_image": torch.zeros(0, dtype=torch.int64)}
    detector.match = lambda output, targets: match(output, replace(targets, **nothing))  # type: ignore[method-assign]


def ignored_as_background(detector: DenseDetector) -> None:
    loss = detector.loss

    def changed(output: Output, targets: Targets, matches: Matches, *rest: Any) -> dict[str, Tensor]:
        clamped = {name: Assignment(found.matched.clamp(min=-1)) for name, found in matches.items()}
        return loss(output, targets, clamped, *rest)

    setattr(detector, "loss", changed)  # noqa: B010


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
        (mode_dependent, "returns dict in training but Output in inference"),
        (
            altered_output(lambda output: replace(output, features=Features(output.features.maps[:-1], ()))),
            "output.features: maps of",
        ),
        (
            altered_output(lambda output: replace(output, final="roi")),
            "'roi' is none of the stages dense",
        ),
        (altered_predictions(logits=lambda found: found.logits[..., :1]), "output.predictions: 1 classes"),
        (altered_predictions(logits=lambda found: found.logits[:, :5]), "'dense'.*logits: shape"),
        (altered_predictions(quality_logits=lambda found: found.logits), "quality_logits: shape"),
        (altered_predictions(logits=lambda found: found.logits * float("nan")), "outside of 0 to 1"),
        (altered_predictions(regression=lambda found: found.regression * float("inf")), "boxes.*not finite"),
        (altered_predictions(candidates=wrong_strides), "do not cover an image"),
        (altered_match(lambda matched: matched.float()), "must be .* torch.int64"),
        (altered_match(lambda matched: matched + 10), "there are 3 objects"),
        (altered_match(lambda matched: matched.flip(0)), "object of another image"),
        (altered_match(lambda matched: matched * 0 - 1), "no candidate is positive"),
        (altered_method("match", lambda _: {}), "the stages are dense"),
        (blind_to_ignored, "stage dense: .* ignored boxes learn their class"),
        (ignored_as_background, "stage dense: .* ignored boxes learn their class"),
        (altered_method("loss", lambda terms: {"box": terms["box"] / 0}), "not finite"),
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
    change(detector)
    with pytest.raises(DetdistillError, match=f"(?s)DenseDetector does not meet the detector contract.*{message}"):
        check_detector(detector)


def test_every_breach_is_listed(detector: DenseDetector) -> None:
    no_classes(detector)
    unused_parameter(detector)
    with pytest.raises(DetdistillError, match=r"(?s)names must differ.*gives no gradient"):
        check_detector(detector)


def test_a_module_that_is_no_detector_is_told_so() -> None:
    with pytest.raises(DetdistillError, match="Conv2d is no Detector"):
        check_detector(nn.Conv2d(3, 3, 1))  # type: ignore[arg-type]


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


class TestStagesWithoutAGrid:
    """Proposals of each image's own, drawn in training, behind a dense stage."""

    def detector(self) -> TwoStageDetector:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return TwoStageDetector(("cat", "dog"))

    def test_two_stages_meet_the_contract(self) -> None:
        check_detector(self.detector())

    def test_a_second_stage_that_learns_from_ignored_boxes_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("support.two_stage.ignore_background", lambda assignment, *_: assignment)
        with pytest.raises(DetdistillError, match=r"stage roi: .* inside ignored boxes learn"):
            check_detector(self.detector())

    def test_an_image_draws_the_same_wherever_it_stands(self) -> None:
        detector = self.detector()
        images = torch.randn(2, 3, 64, 96)
        boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.tensor([[20.0, 10.0, 70.0, 50.0]])]
        labels = [torch.tensor([0]), torch.tensor([1])]
        targets = replace(
            Targets.from_images(boxes, labels, torch.tensor([[64, 96]] * 2)), draws=Draws(0, 3, ("a", "b"))
        )
        whole = detector(images, targets).predictions.candidates.boxes
        again = detector(images, targets).predictions.candidates.boxes
        alone = detector(images[1:], targets.of_images(1, 2)).predictions.candidates.boxes
        other = detector(images, replace(targets, draws=Draws(0, 4, ("a", "b")))).predictions.candidates.boxes
        assert torch.equal(whole, again)
        torch.testing.assert_close(whole[1:], alone)
        assert not torch.equal(whole, other)

    def test_its_loss_is_the_sum_of_its_images(self) -> None:
        detector = self.detector()
        images = torch.randn(2, 3, 64, 96)
        boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.zeros(0, 4)]
        labels = [torch.tensor([0]), torch.zeros(0, dtype=torch.int64)]
        targets = replace(
            Targets.from_images(boxes, labels, torch.tensor([[64, 96]] * 2)), draws=Draws(0, 3, ("a", "b"))
        )

        def loss(position: int, reduce_sum: ReduceSum) -> dict[str, Tensor]:
            own = targets.of_images(position, position + 1)
            output = detector(images[position : position + 1], own)
            return detector.loss(output, own, detector.match(output, own), reduce_sum)

        output = detector(images, targets)
        together = detector.loss(output, targets, detector.match(output, targets))
        parts = shares(loss, 2)
        for name, value in together.items():
            torch.testing.assert_close(parts[0][name] + parts[1][name], value, rtol=1e-4, atol=1e-6)
