"""Does a detector meet the contract? For people who bring their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError, listed
from detdistill.core.modules import untouched
from detdistill.core.structures import Assignment, DenseOutput, Targets


def check_detector(detector: nn.Module, size: tuple[int, int] = (128, 160)) -> None:
    """Tests a module against the `Detector` contract, on random images; the module is left as it was.

    Checked are: the attributes `classes` and `normalization`; one `DenseOutput` type in training and in inference;
    shapes, levels and strides that agree with the grid; scores between 0 and 1 and finite boxes, the same for all
    candidates as for chosen ones; an assignment within each candidate's own image; a finite loss that reaches every
    trainable parameter, with objects and without any; detections of known classes inside the images, best first.

    Args:
        detector: the module.
        size: height and width of the images to try, in pixels; a multiple of the coarsest stride.

    Raises:
        DetdistillError: what does not hold, all of it.
    """
    failures: list[str] = []
    with untouched(detector):
        for check in (_attribute_failures, _output_failures, _learning_failures, _detection_failures):
            try:
                failures.extend(check(detector, size))
            except Exception as error:  # whatever a stranger's module raises is a finding, and the other checks go on
                failures.append(f"{type(error).__name__} in {check.__name__[1:-9]} check: {error}")
    if failures:
        raise DetdistillError(f"{type(detector).__name__} does not meet the detector contract:{listed(failures)}")


def _images(detector: nn.Module, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two random images and their true sizes, where the detector is; the second one is padded."""
    device = next((parameter.device for parameter in detector.parameters()), torch.device("cpu"))
    sizes = torch.tensor([size, (size[0] * 3 // 4, size[1] * 3 // 4)], device=device)
    return torch.randn(2, 3, *size).to(device), sizes


def _attribute_failures(detector: Any, size: tuple[int, int]) -> Iterator[str]:
    classes = detector.classes
    if not isinstance(classes, tuple) or not classes or not all(isinstance(name, str) for name in classes):
        yield f"classes: must be a tuple of names, not empty; found {classes!r}"
    elif len(set(classes)) < len(classes):
        yield f"classes: names must differ; found {classes}"
    images, sizes = _images(detector, size)
    normalized = detector.normalization(images, sizes)
    if normalized.shape != images.shape:
        yield f"normalization: makes {tuple(normalized.shape)} of images {tuple(images.shape)}"


def _output_failures(detector: Any, size: tuple[int, int]) -> Iterator[str]:
    images, _ = _images(detector, size)
    with torch.no_grad():
        trained = detector.train()(images)
        output = detector.eval()(images)
    if type(trained) is not type(output):
        yield f"forward: returns {type(trained).__name__} in training but {type(output).__name__} in inference"
    if not isinstance(output, DenseOutput):
        yield f"forward: must return a DenseOutput, not {type(output).__name__}"
        return
    shape_failures = list(_shape_failures(output, len(images), len(detector.classes), size))
    if shape_failures:
        yield from shape_failures
        return
    scores, boxes = output.scores(), output.boxes()
    if not ((scores >= 0) & (scores <= 1)).all():
        yield "output.scores(): outside of 0 to 1, or not a number"
    if not boxes.isfinite().all():
        yield "output.boxes(): not finite"
    prior = torch.arange(0, output.grid.num_priors, 7, device=boxes.device)
    image, label = torch.ones_like(prior), torch.full_like(prior, len(detector.classes) - 1)
    if not torch.allclose(output.boxes((image, prior)), boxes[1, prior], atol=1e-3):
        yield "output.boxes(index): differs from the same boxes of output.boxes()"
    if not torch.allclose(output.scores((image, prior, label)), scores[1, prior, -1], atol=1e-5):
        yield "output.scores(index): differs from the same scores of output.scores()"


def _shape_failures(output: DenseOutput, batch: int, num_classes: int, size: tuple[int, int]) -> Iterator[str]:
    grid = output.grid
    maps = tuple(tuple(level.shape[-2:]) for level in output.features)
    if maps != grid.sizes:
        yield f"output.features: maps of {maps} on a grid of {grid.sizes}"
    for (rows, columns), (step_y, step_x) in zip(grid.sizes, grid.strides, strict=True):
        if abs(rows * step_y - size[0]) >= step_y or abs(columns * step_x - size[1]) >= step_x:
            yield f"output.grid: {rows}x{columns} cells of {step_y}x{step_x} pixels do not cover an image of {size}"
    expected = {
        "class_logits": (batch, grid.num_priors, num_classes),
        "regression": (batch, grid.num_priors, output.regression.shape[-1]),
        "quality_logits": (batch, grid.num_priors),
    }
    for name, shape in expected.items():
        tensor = getattr(output, name)
        if tensor is not None and tensor.shape != shape:
            yield f"output.{name}: shape {tuple(tensor.shape)}; the grid and the classes ask for {shape}"


def _learning_failures(detector: Any, size: tuple[int, int]) -> Iterator[str]:
    images, sizes = _images(detector, size)
    height, width = size
    large = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.4, 0.3, 0.9, 0.9]]) * torch.tensor([width, height, width, height])
    small = torch.tensor([[4.0, 4.0, 36.0, 30.0]])
    labels = [torch.tensor([0, len(detector.classes) - 1]), torch.tensor([0])]
    nothing = ([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    batches = {
        "with objects": Targets.from_images([large, small], labels, sizes.cpu()).to(images.device),
        "without objects": Targets.from_images(*nothing, sizes.cpu()).to(images.device),
    }
    for name, targets in batches.items():
        detector.train().zero_grad()
        output = detector(images)
        assignment = detector.assign(output.grid, targets)
        failure = _assignment_failure(assignment, output, targets)
        if failure:
            yield f"assign, {name}: {failure}"
            continue
        terms = detector.detection_loss(output, targets, assignment)
        total = torch.stack(tuple(terms.values())).sum()
        if not total.isfinite():
            yield f"detection_loss, {name}: not finite: {terms}"
            continue
        torch.autograd.backward(total)
        trained = [(key, parameter) for key, parameter in detector.named_parameters() if parameter.requires_grad]
        unreached = [key for key, parameter in trained if parameter.grad is None]
        if unreached:
            yield f"detection_loss, {name}: gives no gradient to {', '.join(unreached)}"


def _assignment_failure(assignment: Assignment, output: DenseOutput, targets: Targets) -> str | None:
    matched, shape = assignment.matched, output.class_logits.shape[:2]
    if matched.shape != shape or matched.dtype != torch.int64:
        return f"matched is {tuple(matched.shape)} {matched.dtype}; must be {tuple(shape)} torch.int64"
    if matched.min() < -2 or matched.max() >= len(targets.boxes):
        return f"matched runs from {matched.min()} to {matched.max()}; there are {len(targets.boxes)} objects"
    if not torch.equal(targets.image[assignment.positive_targets], assignment.positive[0]):
        return "a candidate is matched to an object of another image"
    if len(targets.boxes) and not (matched >= 0).any():
        return f"no candidate is positive for any of {len(targets.boxes)} objects"
    return None


def _detection_failures(detector: Any, size: tuple[int, int]) -> Iterator[str]:
    images, sizes = _images(detector, size)
    with torch.no_grad():
        output = detector.eval()(images)
        # A head that starts at low scores would detect nothing, and nothing would be checked.
        output = replace(output, class_logits=4 * torch.randn_like(output.class_logits))
        detections = detector.detect(output, sizes)
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
