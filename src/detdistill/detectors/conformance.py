"""Does a detector meet the contract? For people who bring their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.errors import DetdistillError, listed
from detdistill.core.grid import Grid
from detdistill.core.modules import untouched
from detdistill.core.output import Output, Predictions
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.detectors.base import Detector
from detdistill.detectors.ignoring import ignore_background

DRAWS = Draws(seed=0, step=0, images=(0, 1))


def check_detector(detector: Detector, size: tuple[int, int] = (128, 160)) -> None:
    """Tests a module against the `Detector` contract, on random images; the module is left as it was.

    Checked are: the attributes `classes` and `input`; one `Output` type in training and in inference; for each stage,
    shapes that agree with its candidates and, where it has a grid, with the feature maps; scores between 0 and 1 and
    finite boxes, the same for all candidates as for chosen ones; matches within each candidate's own image; a finite
    loss that reaches every trainable parameter, with objects and without any; no gradient for the class logits of
    background inside ignored boxes; detections of known classes inside the images, best first.

    Args:
        detector: the module.
        size: height and width of the images to try, in pixels; a multiple of `input.multiple`.

    Raises:
        DetdistillError: what does not hold, all of it.
    """
    if not isinstance(detector, Detector):
        raise DetdistillError(
            f"{type(detector).__name__} is no Detector: subclass detdistill.detectors.base.Detector, and implement "
            "forward, match, loss and detect"
        )
    failures: list[str] = []
    with untouched(detector):
        for check in CHECKS:
            try:
                failures.extend(check(detector, size))
            except Exception as error:  # whatever a stranger's module raises is a finding, and the other checks go on
                failures.append(f"{type(error).__name__} in {check.__name__[1:-9]} check: {error}")
    if failures:
        raise DetdistillError(f"{type(detector).__name__} does not meet the detector contract:{listed(failures)}")


def _images(detector: Detector, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two random images and their true sizes, where the detector is; the second one is padded."""
    device = next((parameter.device for parameter in detector.parameters()), torch.device("cpu"))
    sizes = torch.tensor([size, (size[0] * 3 // 4, size[1] * 3 // 4)], device=device)
    return torch.randn(2, 3, *size).to(device), sizes


def _attribute_failures(detector: Detector, size: tuple[int, int]) -> Iterator[str]:
    classes = detector.classes
    if not isinstance(classes, tuple) or not classes or not all(isinstance(name, str) for name in classes):
        yield f"classes: must be a tuple of names, not empty; found {classes!r}"
    elif len(set(classes)) < len(classes):
        yield f"classes: names must differ; found {classes}"
    images, sizes = _images(detector, size)
    normalized = detector.input.normalization(images, sizes)
    if normalized.shape != images.shape:
        yield f"input.normalization: makes {tuple(normalized.shape)} of images {tuple(images.shape)}"


def _output_failures(detector: Detector, size: tuple[int, int]) -> Iterator[str]:
    images, _ = _images(detector, size)
    with torch.no_grad():
        trained = detector.train()(images)
        output = detector.eval()(images)
    if type(trained) is not type(output):
        yield f"forward: returns {type(trained).__name__} in training but {type(output).__name__} in inference"
    if not isinstance(output, Output):
        yield f"forward: must return an Output, not {type(output).__name__}"
        return
    if output.final not in output.stages:
        yield f"output.final: {output.final!r} is none of the stages {', '.join(output.stages) or '(none)'}"
        return
    for name, predictions in output.stages.items():
        yield from _stage_failures(f"output.stages[{name!r}]", output, predictions, len(images), size)
    if output.predictions.num_classes != len(detector.classes):
        yield f"output.predictions: {output.predictions.num_classes} classes; the detector has {len(detector.classes)}"


def _stage_failures(
    name: str, output: Output, predictions: Predictions, batch: int, size: tuple[int, int]
) -> Iterator[str]:
    shape_failures = list(_shape_failures(name, predictions, batch))
    if predictions.candidates.grid is not None:
        shape_failures += _grid_failures(name, output, predictions.candidates.grid, size)
    if shape_failures:
        yield from shape_failures
        return
    scores, boxes = predictions.scores(), predictions.boxes()
    if not ((scores >= 0) & (scores <= 1)).all():
        yield f"{name}.scores(): outside of 0 to 1, or not a number"
    if not boxes.isfinite().all():
        yield f"{name}.boxes(): not finite"
    chosen = torch.arange(0, predictions.candidates.count, 7, device=boxes.device)
    image, label = torch.ones_like(chosen), torch.full_like(chosen, predictions.num_classes - 1)
    if not torch.allclose(predictions.boxes((image, chosen)), boxes[1, chosen], atol=1e-3):
        yield f"{name}.boxes(index): differs from the same boxes of boxes()"
    if not torch.allclose(predictions.scores((image, chosen, label)), scores[1, chosen, -1], atol=1e-5):
        yield f"{name}.scores(index): differs from the same scores of scores()"


def _grid_failures(name: str, output: Output, grid: Grid, size: tuple[int, int]) -> Iterator[str]:
    maps = tuple(tuple(level.shape[-2:]) for level in output.features.maps)
    if maps != grid.sizes:
        yield f"output.features: maps of {maps} on a grid of {grid.sizes}"
    for (rows, columns), (step_y, step_x) in zip(grid.sizes, grid.strides, strict=True):
        if abs(rows * step_y - size[0]) >= step_y or abs(columns * step_x - size[1]) >= step_x:
            yield f"{name}.grid: {rows}x{columns} cells of {step_y}x{step_x} pixels do not cover an image of {size}"


def _shape_failures(name: str, predictions: Predictions, batch: int) -> Iterator[str]:
    count = predictions.candidates.count
    expected = {
        "logits": (batch, count, predictions.logits.shape[-1]),
        "regression": (batch, count, predictions.regression.shape[-1]),
        "quality_logits": (batch, count),
    }
    for field, shape in expected.items():
        tensor = getattr(predictions, field)
        if tensor is not None and tensor.shape != shape:
            yield f"{name}.{field}: shape {tuple(tensor.shape)}; the candidates ask for {shape}"


def _objects(detector: Detector, sizes: Tensor) -> Targets:
    """Two large objects in the first image and a small one in the second."""
    height, width = sizes[0].tolist()
    large = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9]]) * torch.tensor([width, height, width, height])
    small = torch.tensor([[4.0, 4.0, 36.0, 30.0]])
    labels = [torch.tensor([0, len(detector.classes) - 1]), torch.tensor([0])]
    targets = Targets.from_images([large, small], labels, sizes.cpu())
    return replace(targets, draws=DRAWS).to(sizes.device)


def _learning_failures(detector: Detector, size: tuple[int, int]) -> Iterator[str]:
    images, sizes = _images(detector, size)
    nothing = Targets.from_images([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2, sizes.cpu())
    batches = {
        "with objects": _objects(detector, sizes),
        "without objects": replace(nothing, draws=DRAWS).to(images.device),
    }
    for name, targets in batches.items():
        detector.train().zero_grad()
        output = detector(images, targets)
        matches = detector.match(output, targets)
        if matches.keys() != output.stages.keys():
            yield f"match, {name}: matches {', '.join(matches)}; the stages are {', '.join(output.stages)}"
            continue
        failures = [
            f"match, {name}, stage {stage}: {failure}"
            for stage, predictions in output.stages.items()
            if (failure := _assignment_failure(matches[stage], predictions, targets))
        ]
        if failures:
            yield from failures
            continue
        terms = detector.loss(output, targets, matches)
        total = torch.stack(tuple(terms.values())).sum()
        if not total.isfinite():
            yield f"loss, {name}: not finite: {terms}"
            continue
        torch.autograd.backward(total)
        trained = [(key, parameter) for key, parameter in detector.named_parameters() if parameter.requires_grad]
        unreached = [key for key, parameter in trained if parameter.grad is None]
        if unreached:
            yield f"loss, {name}: gives no gradient to {', '.join(unreached)}"


def _ignoring_failures(detector: Detector, size: tuple[int, int]) -> Iterator[str]:
    """Cover the first image with one ignored box, and see which of its background candidates learn all the same."""
    images, sizes = _images(detector, size)
    objects = _objects(detector, sizes)
    everything = torch.tensor([[0, 0, size[1], size[0]]], dtype=torch.float32, device=images.device)
    targets = replace(objects, ignored=everything, ignored_image=torch.zeros_like(objects.image[:1]))
    output = detector.train()(images, targets)
    stages = {name: found for name, found in output.stages.items() if found.logits.requires_grad}
    plain = detector.match(output, objects)
    terms = detector.loss(output, targets, detector.match(output, targets))
    total = torch.stack(tuple(terms.values())).sum()
    if not stages or not total.requires_grad:
        return
    gradients = torch.autograd.grad(total, [found.logits for found in stages.values()], allow_unused=True)
    for (name, predictions), gradient in zip(stages.items(), gradients, strict=True):
        if gradient is None or plain[name].matched.shape != gradient.shape[:2]:
            continue
        expected = ignore_background(plain[name], predictions.candidates, targets).matched == IGNORED
        trained = expected & (plain[name].matched == BACKGROUND) & (gradient != 0).any(dim=-1)
        if trained.any():
            yield (
                f"loss, stage {name}: {int(trained.sum())} background candidates inside ignored boxes learn their "
                "class; match must make them IGNORED (see ignore_background), and the loss must leave IGNORED out"
            )


def _assignment_failure(assignment: Assignment, predictions: Predictions, targets: Targets) -> str | None:
    matched, shape = assignment.matched, predictions.logits.shape[:2]
    if matched.shape != shape or matched.dtype != torch.int64:
        return f"matched is {tuple(matched.shape)} {matched.dtype}; must be {tuple(shape)} torch.int64"
    if matched.min() < -2 or matched.max() >= len(targets.boxes):
        return f"matched runs from {matched.min()} to {matched.max()}; there are {len(targets.boxes)} objects"
    if not torch.equal(targets.image[assignment.positive_targets], assignment.positive[0]):
        return "a candidate is matched to an object of another image"
    if len(targets.boxes) and not (matched >= 0).any():
        return f"no candidate is positive for any of {len(targets.boxes)} objects"
    return None


def _detection_failures(detector: Detector, size: tuple[int, int]) -> Iterator[str]:
    images, sizes = _images(detector, size)
    with torch.no_grad():
        output = detector.eval()(images)
        # A head that starts at low scores would detect nothing, and nothing would be checked.
        random = replace(output.predictions, logits=4 * torch.randn_like(output.predictions.logits))
        detections = detector.detect(output.with_predictions(random), sizes)
    if len(detections) != len(images):
        yield f"detect: {len(detections)} results for {len(images)} images"
        return
    for found, image_size in zip(detections, sizes, strict=True):
        corners = found.boxes.reshape(-1, 2, 2)
        if (corners < 0).any() or (corners > image_size.flip(0)).any():
            yield f"detect: boxes reach out of the image of {tuple(image_size.tolist())}"
        if (corners[:, 1] <= corners[:, 0]).any():
            yield "detect: boxes without area"
        if (found.labels < 0).any() or (found.labels >= len(detector.classes)).any():
            yield f"detect: labels outside of 0 to {len(detector.classes) - 1}"
        if (found.scores.diff() > 0).any():
            yield "detect: not ordered best first"


CHECKS = (_attribute_failures, _output_failures, _learning_failures, _ignoring_failures, _detection_failures)
