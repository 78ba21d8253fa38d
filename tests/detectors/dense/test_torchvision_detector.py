"""torchvision's detectors behind our contract, beside torchvision's own models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.models.detection import fcos_resnet50_fpn, retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2
from torchvision.ops import box_iou

from detdistill.core.grid import Grid
from detdistill.core.output import DENSE, Candidates, Output
from detdistill.core.structures import BACKGROUND, IGNORED, Detections, Matches, Targets, single_process
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.choices import NetworkName
from detdistill.detectors.dense.torchvision_detector import GeometricMeanPredictions, TorchvisionDetector

Arrays = dict[str, NDArray[Any]]
MODELS = {
    "retinanet_resnet50_fpn": retinanet_resnet50_fpn,
    "retinanet_resnet50_fpn_v2": retinanet_resnet50_fpn_v2,
    "fcos_resnet50_fpn": fcos_resnet50_fpn,
}
GOLDEN: dict[str, NetworkName] = {"tv_retinanet": "retinanet_resnet50_fpn", "tv_fcos": "fcos_resnet50_fpn"}
TERMS = {"classification": "classification", "box": "bbox_regression", "centerness": "bbox_ctrness"}
CLASSES = ("a", "b", "c", "d", "e")
RAW: tuple[str, ...] = ("cls_logits", "bbox_regression", "bbox_ctrness")
SIZES = ((96, 127), (128, 160))


@pytest.fixture(scope="module", params=get_args(NetworkName))
def pair(request: pytest.FixtureRequest) -> tuple[TorchvisionDetector, Any]:
    """A detector of ours and torchvision's own model of the same random weights, with scores of every height."""
    torch.manual_seed(0)
    model = MODELS[request.param](weights=None, weights_backbone=None, num_classes=len(CLASSES))
    model.transform.resize = lambda image, target: (image, target)
    with torch.no_grad():
        model.head.classification_head.cls_logits.weight.normal_(std=0.05)
        model.head.classification_head.cls_logits.bias.fill_(-1.5)
        model.head.regression_head.bbox_reg.weight.normal_(std=0.03)
    detector = TorchvisionDetector.from_architecture(TorchvisionArchitecture(request.param), CLASSES)
    detector.network.load_state_dict(model.state_dict())
    return detector.eval(), model.eval()


def photographs_of(folder: Any) -> list[Tensor]:
    """Two real photographs of different sizes, `(3, H, W)` uint8."""
    files = sorted((folder / "coco256").rglob("*.jpg"))[:2]
    images = [Image.open(file).convert("RGB").resize(size[::-1]) for file, size in zip(files, SIZES, strict=True)]
    return [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]


def canvas_of(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """A batch `(N, 3, H, W)` padded to multiples of 32 as torchvision's, and the images' sizes `(N, 2)`."""
    sizes = torch.tensor([image.shape[1:] for image in images])
    height, width = (int(-(-side // 32) * 32) for side in sizes.amax(dim=0))
    batch = torch.zeros(len(images), 3, height, width, dtype=torch.uint8)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch, sizes


def random_targets(sizes: Tensor, counts: Sequence[int]) -> Targets:
    generator = torch.Generator().manual_seed(0)
    boxes, labels = [], []
    for (height, width), count in zip(sizes.tolist(), counts, strict=True):
        corners = torch.rand(count, 2, 2, generator=generator) * torch.tensor([width, height])
        boxes.append(torch.cat((corners.amin(dim=1), corners.amax(dim=1) + 1), dim=1))
        labels.append(torch.randint(len(CLASSES), (count,), generator=generator))
    return Targets.from_images(boxes, labels, sizes)


def as_lists(targets: Targets) -> list[dict[str, Tensor]]:
    own = [targets.image == image for image in range(targets.num_images)]
    return [{"boxes": targets.boxes[mine], "labels": targets.labels[mine]} for mine in own]


def assert_found(ours: Detections, theirs: dict[str, Tensor], *, pixels: float, score: float) -> None:
    """Every detection of torchvision's with an area is ours too; ours beyond those are its next best."""
    real = (theirs["boxes"][:, 2:] > theirs["boxes"][:, :2]).all(dim=1)
    boxes, scores, labels = (theirs[key][real] for key in ("boxes", "scores", "labels"))
    assert len(ours) >= len(boxes)
    assert len(ours) == len(boxes) or len(boxes) < len(real)
    distance = (boxes[:, None] - ours.boxes).abs().amax(dim=-1)
    same = (distance < pixels) & ((scores[:, None] - ours.scores).abs() < score) & (labels[:, None] == ours.labels)
    assert same.any(dim=1).all()
    assert same[:, : len(boxes)].any(dim=0).all()


def test_raw_outputs_and_priors_are_torchvisions(pair: tuple[TorchvisionDetector, Any]) -> None:
    detector, model = pair
    listed, _ = model.transform([torch.rand(3, *size) for size in SIZES])
    with torch.no_grad():
        output = detector(listed.tensors)
        features = list(model.backbone(listed.tensors).values())
        raw = model.head(features)
    assert torch.equal(output.predictions.class_logits, raw["cls_logits"])
    assert torch.equal(output.predictions.regression, raw["bbox_regression"])
    if output.predictions.quality_logits is not None:
        assert torch.equal(output.predictions.quality_logits, raw["bbox_ctrness"].squeeze(-1))
    assert all(torch.equal(mine, other) for mine, other in zip(output.features.maps, features, strict=True))
    assert torch.equal(output.predictions.grid.priors, model.anchor_generator(listed, features)[0])


def test_detections_on_photographs(pair: tuple[TorchvisionDetector, Any], photographs: Any) -> None:
    detector, model = pair
    images = photographs_of(photographs)
    with torch.no_grad():
        theirs = model([image / 255 for image in images])
        batch, sizes = canvas_of(images)
        ours = detector.detect(detector(detector.input.normalization(batch, sizes)), sizes)
    for mine, other in zip(ours, theirs, strict=True):
        assert len(other["scores"]) > 10
        assert_found(mine, other, pixels=0.1, score=1e-3)


@pytest.mark.parametrize("counts", [(4, 3), (3, 0), (0, 0)])
def test_loss_is_torchvisions(pair: tuple[TorchvisionDetector, Any], counts: tuple[int, int]) -> None:
    detector, model = pair
    images = [torch.rand(3, *size) for size in SIZES]
    sizes = torch.tensor(SIZES)
    targets = random_targets(sizes, counts)
    listed, _ = model.transform(images)
    with torch.no_grad():
        output = detector(listed.tensors)
        ours = detector.loss(output, targets, detector.match(output, targets))
    model.train()
    for layer in model.modules():
        layer.training = not isinstance(layer, torch.nn.BatchNorm2d)
    with torch.no_grad():
        theirs = model(images, as_lists(targets))
    model.eval()
    assert {TERMS[name] for name in ours} == set(theirs)
    for name, term in ours.items():
        torch.testing.assert_close(term, theirs[TERMS[name]], rtol=1e-5, atol=1e-6)


def test_background_inside_ignored_boxes_has_no_gradient_and_the_rest_keeps_its_own(
    pair: tuple[TorchvisionDetector, Any],
) -> None:
    detector, _ = pair
    targets = random_targets(torch.tensor([SIZES[1]] * 2), (2, 1))
    ignoring = replace(targets, ignored=torch.tensor([[0.0, 0, 160, 128]]), ignored_image=torch.tensor([1]))
    output = detector(torch.randn(2, 3, *SIZES[1]))
    gradients, matches = [], []
    for each in (targets, ignoring):
        found = detector.match(output, each)
        loss = detector.loss(output, each, found)["classification"]
        gradients.append(torch.autograd.grad(loss, output.predictions.logits, retain_graph=True)[0])
        matches.append(found[DENSE].matched)
    ignored = (matches[0] == BACKGROUND) & (matches[1] == IGNORED)
    assert ignored[1].any()
    assert not gradients[1][ignored].any()
    assert gradients[0][ignored].all()
    # Not to the bit: other candidates are left out, so vectors of the processor hold others.
    torch.testing.assert_close(gradients[0][~ignored], gradients[1][~ignored], rtol=1e-5, atol=1e-12)


def test_processes_add_up_to_the_joined_batch(pair: tuple[TorchvisionDetector, Any]) -> None:
    detector, _ = pair
    sizes = torch.tensor([SIZES[1]] * 3)
    targets = random_targets(sizes, (5, 0, 2))
    images = torch.randn(3, 3, *SIZES[1])

    def part(start: int, stop: int) -> tuple[Output, Targets, Matches]:
        own = targets.of_images(start, stop)
        output = detector(images[start:stop])
        return output, own, detector.match(output, own)

    with torch.no_grad():
        whole, first, second = part(0, 3), part(0, 1), part(1, 3)
        joined = detector.loss(*whole, single_process)
        normalizer = {len(each[2][DENSE].matched): detector._normalizers(each[2][DENSE])[1] for each in (first, second)}
        total = sum(normalizer.values())
        parts = [detector.loss(*each, lambda _: torch.as_tensor(total)) for each in (first, second)]
    for name, term in joined.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], term, rtol=1e-4, atol=1e-6)


def matched_by_torchvision(model: Any, grid: Grid, targets: Targets) -> Tensor:
    """`(N, P)` what torchvision's loss matches, with indices into the whole batch's objects."""
    priors, listed = grid.priors.double(), as_lists(targets)
    recorded: list[Tensor] = []
    original = model.head.compute_loss
    model.head.compute_loss = lambda *arguments: recorded.extend(arguments[-1])
    try:
        if hasattr(model, "proposal_matcher"):
            model.compute_loss(listed, {}, [priors] * len(listed))
        else:
            model.compute_loss(listed, {}, [priors] * len(listed), list(grid.level_lengths))
    finally:
        model.head.compute_loss = original
    first = torch.tensor([int((targets.image < image).sum()) for image in range(targets.num_images)])
    matched = torch.stack(recorded)
    return torch.where(matched >= 0, matched + first[:, None], matched)


@pytest.fixture(scope="module", params=["retinanet_resnet50_fpn", "fcos_resnet50_fpn"])
def assigning(request: pytest.FixtureRequest) -> tuple[TorchvisionDetector, Any, Grid]:
    detector = TorchvisionDetector.from_architecture(TorchvisionArchitecture(request.param), CLASSES)
    model = MODELS[request.param](weights=None, weights_backbone=None, num_classes=len(CLASSES))
    return detector, model, detector.grid((128, 160), ((16, 20), (8, 10), (4, 5), (2, 3), (1, 2)), torch.device("cpu"))


@settings(max_examples=100)
@given(data=st.data())
def test_assignment_is_torchvisions(assigning: tuple[TorchvisionDetector, Any, Grid], data: st.DataObject) -> None:
    """On whole pixels: sides on a range's bound and ties are common there."""
    detector, model, grid = assigning
    corner = st.tuples(st.integers(0, 100), st.integers(0, 90), st.integers(1, 160), st.integers(1, 128))
    listed = data.draw(st.lists(st.lists(corner, max_size=5, unique=True), min_size=1, max_size=2))
    boxes = [torch.tensor(each, dtype=torch.float64).reshape(-1, 4) for each in listed]
    boxes = [torch.cat((each[:, :2], each[:, :2] + each[:, 2:]), dim=1) for each in boxes]
    labels = [torch.zeros(len(each), dtype=torch.int64) for each in boxes]
    targets = Targets.from_images(boxes, labels, torch.tensor([[128, 160]] * len(boxes)))
    ours, theirs = detector.assign(grid, targets).matched, matched_by_torchvision(model, grid, targets)
    different = (ours != theirs).nonzero().tolist()
    # Where two objects claim a prior equally, torchvision takes either.
    for image, prior in different:
        mine, other = int(ours[image, prior]), int(theirs[image, prior])
        assert mine >= 0
        assert other >= 0
        pair = targets.boxes[[mine, other]]
        overlap = box_iou(pair, grid.priors[prior : prior + 1].double())
        area = (pair[:, 2:] - pair[:, :2]).prod(dim=1)
        value = overlap[:, 0] if hasattr(model, "proposal_matcher") else area
        torch.testing.assert_close(value[0], value[1], rtol=1e-12, atol=0)


def test_a_side_on_a_bound_belongs_to_neither_level() -> None:
    """Here the farthest side of the middle point is 64 pixels away, where level 0 ends and level 1 begins."""
    detector = TorchvisionDetector.from_architecture(TorchvisionArchitecture("fcos_resnet50_fpn"), CLASSES)
    grid = detector.grid((128, 160), ((16, 20), (8, 10), (4, 5), (2, 3), (1, 2)), torch.device("cpu"))
    box = torch.tensor([[16.0, 16.0, 144.0, 112.0]])
    targets = Targets.from_images([box], [torch.zeros(1, dtype=torch.int64)], torch.tensor([[128, 160]]))
    middle = ((grid.centers == torch.tensor([80.0, 64.0])).all(dim=1)).nonzero().flatten()
    assert len(middle) > 1
    matched = detector.assign(grid, targets).matched
    assert (matched[0, middle] == -1).all()
    assert torch.equal(matched, matched_by_torchvision(detector.network, grid, targets))


@given(st.floats(-60, 60), st.floats(-60, 60))
def test_geometric_mean(class_logit: float, quality_logit: float) -> None:
    logits = torch.tensor([[[class_logit]]], dtype=torch.float64)
    quality = torch.tensor([[quality_logit]], dtype=torch.float64)
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.zeros(1, 1, 4)))
    detector_output = GeometricMeanPredictions(Candidates(grid), logits, torch.zeros(1, 1, 4), None, quality)  # type: ignore[arg-type]
    expected = (logits.sigmoid() * quality[..., None].sigmoid()).sqrt()
    torch.testing.assert_close(detector_output.scores(), expected)
    torch.testing.assert_close(detector_output.log_odds().sigmoid(), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", get_args(NetworkName))
def test_meets_the_contract(name: NetworkName) -> None:
    torch.manual_seed(0)
    check_detector(TorchvisionDetector.from_architecture(TorchvisionArchitecture(name), CLASSES), (64, 96))


def output_of(detector: TorchvisionDetector, data: Arrays) -> tuple[Output, dict[str, Tensor]]:
    height, width = data["image_hw"].max(axis=0).tolist()
    sizes = [(rows, columns) for rows, columns in data["feat_sizes"].tolist()]
    raw = {name: torch.from_numpy(data[name]).requires_grad_() for name in RAW if name in data}
    quality = raw["bbox_ctrness"].squeeze(-1) if "bbox_ctrness" in raw else None
    grid = detector.grid((height, width), sizes, torch.device("cpu"))
    predictions = detector.predictions_type(
        Candidates(grid), raw["cls_logits"], raw["bbox_regression"], detector.coder, quality
    )
    return Output.dense((), predictions), raw


def targets_of(data: Arrays) -> Targets:
    images = range(len(data["image_hw"]))
    boxes = [torch.from_numpy(data[f"gt_boxes_img{image}"]) for image in images]
    labels = [torch.from_numpy(data[f"gt_labels_img{image}"]) for image in images]
    return Targets.from_images(boxes, labels, torch.from_numpy(data["image_hw"]))


@pytest.fixture(params=GOLDEN)
def vectors(request: pytest.FixtureRequest, golden: Callable[[str], Arrays]) -> tuple[TorchvisionDetector, Arrays]:
    data = golden(request.param)
    classes = [str(column) for column in range(data["cls_logits"].shape[-1])]
    return TorchvisionDetector.from_architecture(TorchvisionArchitecture(GOLDEN[request.param]), classes), data


@pytest.mark.golden
def test_golden_priors_and_assignment(vectors: tuple[TorchvisionDetector, Arrays]) -> None:
    detector, data = vectors
    output, _ = output_of(detector, data)
    np.testing.assert_allclose(output.predictions.grid.priors.numpy(), data["anchors"], atol=1e-3, rtol=0)
    targets = targets_of(data)
    matched = detector.assign(output.predictions.grid, targets).matched
    first = [int((targets.image < image).sum()) for image in range(targets.num_images)]
    per_image = torch.where(matched >= 0, matched - torch.tensor(first)[:, None], matched)
    assert torch.equal(per_image, torch.from_numpy(data["matched_idxs"]))


@pytest.mark.golden
def test_golden_losses_and_gradients(vectors: tuple[TorchvisionDetector, Arrays]) -> None:
    detector, data = vectors
    output, raw = output_of(detector, data)
    targets = targets_of(data)
    terms = detector.loss(output, targets, detector.match(output, targets))
    assert {f"loss_{TERMS[name]}" for name in terms} == {name for name in data if name.startswith("loss_")}
    for name, term in terms.items():
        np.testing.assert_allclose(term.item(), data[f"loss_{TERMS[name]}"], rtol=1e-5, atol=1e-6)
    torch.autograd.backward(torch.stack(tuple(terms.values())).sum())
    for name, tensor in raw.items():
        assert tensor.grad is not None
        expected = data[f"grad_{name}"]
        assert np.abs(tensor.grad.numpy() - expected).max() < 2e-5 * np.abs(expected).max(), name


@pytest.mark.golden
def test_golden_detections(vectors: tuple[TorchvisionDetector, Arrays]) -> None:
    detector, data = vectors
    settings_of_theirs = ("score_thresh", "nms_thresh", "topk_candidates", "detections_per_img")
    ours = detector.postprocessing
    values = (ours.score_threshold, ours.iou_threshold, ours.candidates_per_level, ours.max_detections)
    assert values == tuple(data[name].item() for name in settings_of_theirs)
    output, _ = output_of(detector, data)
    with torch.no_grad():
        found = detector.detect(output, torch.from_numpy(data["image_hw"]))
    for image, detections in enumerate(found):
        theirs = {name: torch.from_numpy(data[f"det_{name}_img{image}"]) for name in ("boxes", "scores", "labels")}
        assert_found(detections, theirs, pixels=1e-2, score=1e-5)
