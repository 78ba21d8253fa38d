"""EfficientDet beside effdet itself, where it is installed: network, anchors, targets, losses, detections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from detdistill.core.structures import BACKGROUND, Targets, single_process
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.importing.effdet import import_effdet
from detdistill.detectors.importing.effdet_settings import EffdetSettings
from support.effdet_files import CLASSES, effdet_state, in_yx, maps_of, saved

effdet = pytest.importorskip("effdet", reason="effdet is not installed (extra dev)", exc_type=ImportError)
anchors, bench, config = (pytest.importorskip(f"effdet.{name}") for name in ("anchors", "bench", "config"))
losses = pytest.importorskip("effdet.loss")

SIZE = (96, 160)
"""Of the images: not a multiple of the coarsest stride."""
MODELS: dict[str, dict[str, Any]] = {
    "fast": {"model": "efficientdet_d0"},
    "same_sum": {"model": "tf_efficientdet_d0", "fpn_name": "bifpn_sum", "anchor_scale": 3.0},
}


def configured(model: str, **changes: Any) -> Any:
    found = config.get_efficientdet_config(model)
    values = {"fpn_channels": 24, "fpn_cell_repeats": 2, "box_class_repeats": 2, "num_classes": len(CLASSES)} | changes
    values |= {"image_size": SIZE, "backbone_name": "lcnet_035", "backbone_args": {}, "max_detection_points": 300}
    for key, value in values.items():
        found[key] = value
    return found


def shaken(network: Any) -> Any:
    """A network whose statistics and fusion weights are as training leaves them, whose predictions differ."""
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.8, 1.25)
        elif name.endswith(("running_mean", "edge_weights", "bn.bias")):
            tensor.add_(0.3 * torch.randn_like(tensor))
        elif name == "class_net.predict.conv_pw.bias":
            tensor.add_(2)
    return network.eval()


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, DenseDetector]:
    """effdet's network, and ours with its weights."""
    settings = configured(**MODELS[request.param])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = shaken(effdet.EfficientDet(settings, pretrained_backbone=False))
    file = saved(tmp_path_factory.mktemp("effdet"), theirs.state_dict())
    known = EffdetSettings(
        backbone="lcnet_035",
        anchor_scale=float(settings.anchor_scale),
        activation="silu",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    return theirs, import_effdet(file, settings=known, classes=CLASSES).detector


def outputs_of(theirs: Any, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    classes, boxes = theirs(images)
    return classes, boxes


def images_of(count: int) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def test_the_network(pair: tuple[Any, DenseDetector]) -> None:
    theirs, detector = pair
    with torch.no_grad():
        found = maps_of(detector(images_of(2)))
        expected = dict(zip(("class_out", "box_out"), outputs_of(theirs, images_of(2)), strict=True))
    for name, maps in expected.items():
        for own, other in zip(found[name], maps, strict=True):
            torch.testing.assert_close(own, other, rtol=0, atol=1e-4 * float(other.abs().max()))


def drawn_boxes(seed: int) -> Tensor:
    """`(4, 4)` boxes large enough that no two anchors of one size hold one."""
    random = torch.Generator().manual_seed(seed)
    sides = 40 + 50 * torch.rand(4, 2, generator=random)
    corners = torch.rand(4, 2, generator=random) * (torch.tensor([SIZE[1], SIZE[0]]) - sides)
    return torch.cat((corners, corners + sides), dim=1)


def test_anchors_targets_and_losses(pair: tuple[Any, DenseDetector]) -> None:
    theirs, detector = pair
    grid_of_theirs = anchors.Anchors.from_config(theirs.config)
    boxes = [drawn_boxes(seed) for seed in (0, 1)]
    labels = [torch.tensor([0, 4, 2, 2]), torch.tensor([1, 3, 0, 4])]
    targets = Targets.from_images(boxes, labels, torch.tensor([SIZE] * 2))
    images = images_of(2)
    output = detector(images)
    grid = output.predictions.grid
    torch.testing.assert_close(in_yx(grid.priors), grid_of_theirs.boxes, rtol=0, atol=1e-3)

    labeler = anchors.AnchorLabeler(grid_of_theirs, len(CLASSES), match_threshold=0.5)
    classes, deltas, count = labeler.batch_label_anchors([in_yx(each) for each in boxes], [each + 1 for each in labels])
    matches = detector.match(output, targets)
    own = matches["dense"].labels(targets).clamp(min=BACKGROUND)
    assert torch.equal(own, torch.cat([level.flatten(1) for level in classes], dim=1))

    raw = outputs_of(theirs, images)
    expected = losses.DetectionLoss(theirs.config)(*raw, classes, deltas, count)
    terms = detector.loss(output, targets, matches, single_process)
    found = (terms["classification"] + terms["box"], terms["classification"], terms["box"] / 50)
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-4, atol=1e-6)


def test_detections(pair: tuple[Any, DenseDetector]) -> None:
    theirs, detector = pair
    images, sizes = images_of(2), torch.tensor([[90, 150], [64, 100]])
    info = {"img_scale": torch.ones(2), "img_size": sizes.flip(-1).float()}
    limit = theirs.config.max_detection_points
    detector.postprocessing = type(detector.postprocessing)(0.0, 0.5, limit, candidates_per_image=limit)
    with torch.no_grad():
        expected = bench.DetBenchPredict(theirs)(images, info)
        detections = detector.detect(detector(images), sizes)
    for found, rows in zip(detections, expected.numpy(), strict=True):
        # effdet keeps boxes that clipping leaves without area, and fills up with zeros.
        rows = rows[(rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])]
        assert len(found) >= len(rows) > 20
        np.testing.assert_allclose(found.scores.numpy()[: len(rows)], rows[:, 4], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found.labels.numpy()[: len(rows)] + 1, rows[:, 5])
        np.testing.assert_allclose(found.boxes.numpy()[: len(rows)], rows[:, :4], rtol=0, atol=1e-2)


@pytest.mark.parametrize(("preset", "model"), [("d0", "efficientdet_d0"), ("lite0", "tf_efficientdet_lite0")])
def test_presets_have_its_layers(preset: Any, model: str) -> None:
    with torch.device("meta"):
        theirs = effdet.EfficientDet(config.get_efficientdet_config(model), pretrained_backbone=False)
        ours = DenseDetector(Architecture("efficientdet", preset=preset), [str(label) for label in range(90)])
    expected = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert {name: tuple(tensor.shape) for name, tensor in effdet_state(ours).items()} == expected


def test_a_file_of_its_bench_is_recognised(pair: tuple[Any, DenseDetector], tmp_path: Path) -> None:
    theirs, detector = pair
    known = EffdetSettings(
        backbone="lcnet_035", anchor_scale=4.0, activation="silu", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
    file = saved(tmp_path, {"epoch": 3, "state_dict": bench.DetBenchTrain(theirs).state_dict()})
    found = import_effdet(file, settings=known, classes=CLASSES).detector.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in detector.state_dict().items())
