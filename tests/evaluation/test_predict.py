from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.image_options import ImageOptions
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import Normalization
from detdistill.core.output import Candidates, Output, Predictions
from detdistill.core.structures import Detections, Matches, ReduceSum, Targets, single_process
from detdistill.data.opening import open_dataset
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.running import InferenceOptions
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.predict import predict
from detdistill.evaluation.results import Results
from detdistill.evaluation.score import score
from support.processes import run_two
from support.tiny_detector import tiny_detector

SMALL = ImageOptions(short_side=96, long_side=160)


def lively(classes: tuple[str, ...]) -> DenseDetector:
    """A detector of random weights that finds something everywhere."""
    detector = tiny_detector("retinanet", classes)
    detector.postprocessing = PostProcessing(score_threshold=0.0, candidates_per_level=40, max_detections=20)
    return detector


class Reader(Detector):
    """A detector that reads the objects off the images: every pure red, green or blue rectangle is one."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(classes, InputSpec(Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))))
        self.empty = nn.Parameter(torch.zeros(0))
        self.modes: list[bool] = []

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:  # noqa: ARG002 (the contract's)
        self.modes.append(self.training)
        none = images.new_zeros(len(images), 0, 1)
        grid = Grid((), (), tuple(images.new_zeros(0, 1, 4)))
        return Output.dense((images,), Predictions(Candidates(grid), none, none, DistanceCoder("pixel")))

    def match(self, output: Output, targets: Targets) -> Matches:
        raise NotImplementedError

    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        raise NotImplementedError

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        images = zip(output.features.maps[0], sizes.tolist(), strict=True)
        return [self.read(image[:, :height, :width]) for image, (height, width) in images]

    def read(self, image: Tensor) -> Detections:
        boxes, labels = [], []
        for label in range(3):
            rows, columns = (image[label] > 200).nonzero(as_tuple=True)
            if len(rows):
                boxes.append(torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float())
                labels.append(label)
        return Detections(torch.stack(boxes), torch.full((len(boxes),), 0.9), torch.tensor(labels))


def rectangles(folder: Path) -> DetectionDataset:
    """Images of different sizes with one rectangle of each colour on black; multiples of 8 survive the resizing."""
    images = []
    for index, (height, width) in enumerate(((192, 320), (320, 192), (192, 256), (96, 96), (64, 96))):
        picture: NDArray[np.uint8] = np.zeros((height, width, 3), dtype=np.uint8)
        boxes = np.array([[8.0, 8, 32, 40], [40, 0, 72, 56], [48, 56, 88, 64]])
        for label, (left, top, right, bottom) in enumerate(boxes.astype(int)):
            picture[top:bottom, left:right, label] = 255
        path = folder / f"{index}.png"
        Image.fromarray(picture).save(path)
        none = np.zeros(3, dtype=bool)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        record = ImageRecord(index, path, path.name, width, height, boxes, np.arange(3), areas, none, none)
        images.append(record)
    return DetectionDataset("rectangles", ("red", "green", "blue"), (1, 2, 3), ImageTable.of(images))


def assert_same(first: Results, second: Results, tolerance: float) -> None:
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)
    assert first.scores == pytest.approx(second.scores, abs=tolerance)
    assert first.boxes == pytest.approx(second.boxes, abs=tolerance)


@pytest.mark.parametrize("options", [ImageOptions(short_side=96, long_side=160), ImageOptions(letterbox=96)])
def test_boxes_come_back_in_pixels_of_the_files(options: ImageOptions, tmp_path: Path) -> None:
    """Half-size images: a box is read to within a pixel there, two pixels here."""
    truth = rectangles(tmp_path)
    results = predict(Reader(truth.classes), truth, options, InferenceOptions(batch_size=3))
    assert np.array_equal(results.image, np.repeat(np.arange(5), 3))
    assert np.array_equal(results.labels, np.tile(np.arange(3), 5))
    assert results.boxes == pytest.approx(np.concatenate([image.boxes for image in truth.images]), abs=4.5)


def test_a_detector_that_finds_everything_scores_one(tmp_path: Path) -> None:
    truth = rectangles(tmp_path)
    full_size = ImageOptions(short_side=1, long_side=1)
    sizes = [replace(truth, images=ImageTable.of([image])) for image in truth.images]
    for one in sizes:
        (image,) = one.images
        options = replace(full_size, short_side=min(image.width, image.height), long_side=1000)
        metrics = score(Reader(truth.classes), one, options, coco_metrics)
        assert metrics.AP == metrics.AR100 == 1


def test_classes_go_by_name(tmp_path: Path) -> None:
    truth = rectangles(tmp_path)
    renamed = replace(
        truth,
        classes=("green", "red", "blue"),
        images=ImageTable.of(replace(image, labels=np.array([1, 0, 2])) for image in truth.images[:1]),
    )
    options = ImageOptions(short_side=192, long_side=320)
    assert score(Reader(truth.classes), renamed, options, coco_metrics).AP == 1
    with pytest.raises(DetdistillError, match="has the classes green, red, blue and the detector red, green, blue"):
        predict(Reader(truth.classes), renamed, options)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_workers_change_nothing(workers: int, photographs: Path) -> None:
    """Every photograph of this set has the same size."""
    dataset = open_dataset(photographs / "bccd", "val")
    dataset = replace(dataset, images=dataset.images[:9])
    detector = lively(dataset.classes)
    one = predict(detector, dataset, SMALL, InferenceOptions(batch_size=1))
    four = predict(detector, dataset, SMALL, InferenceOptions(batch_size=4, workers=workers))
    assert len(one) == 9 * 20
    assert_same(one, four, 1e-3)


def test_precision_and_memory_format_change_little(photographs: Path) -> None:
    dataset = open_dataset(photographs / "bccd", "val")
    dataset = replace(dataset, images=dataset.images[:2])
    detector = lively(dataset.classes)
    plain = predict(detector, dataset, SMALL)
    assert_same(plain, predict(detector, dataset, SMALL, InferenceOptions(channels_last=True)), 1e-3)
    rounded = predict(detector, dataset, SMALL, InferenceOptions(bf16=True))
    assert rounded.scores == pytest.approx(plain.scores, rel=0.05)
    assert not np.array_equal(rounded.scores, plain.scores)


def test_the_detector_is_left_as_it_was(tmp_path: Path) -> None:
    detector = Reader(("red", "green", "blue")).train()
    detector.add_module("frozen", nn.BatchNorm2d(1).eval())
    predict(detector, rectangles(tmp_path), SMALL)
    assert set(detector.modes) == {False}
    assert detector.training
    assert not detector.get_submodule("frozen").training


def test_an_empty_data_set_has_no_detections() -> None:
    nothing = DetectionDataset("nothing", ("a",), (1,), ImageTable.of([]))
    assert len(predict(tiny_detector(classes=("a",)), nothing, SMALL)) == 0


def test_senseless_options_are_refused() -> None:
    with pytest.raises(DetdistillError, match="not 0 and 1"):
        InferenceOptions(batch_size=0, workers=1)


def test_progress_is_plain_lines_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("detdistill.core.progress.PATIENCE", 0.0)
    options = InferenceOptions(batch_size=2)
    predict(Reader(("red", "green", "blue")), rectangles(tmp_path), ImageOptions(letterbox=96), options)
    assert capsys.readouterr().err.splitlines()[-1] == "batches of 2 images: 3 of 3"


def score_share(rank: int, truth: DetectionDataset, store: Path, outcome: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    (outcome / f"{rank}.txt").write_text(repr(score(Reader(truth.classes), truth, SMALL, coco_metrics)))
    dist.destroy_process_group()


def test_two_processes_score_as_one(tmp_path: Path) -> None:
    truth = rectangles(tmp_path)
    alone = repr(score(Reader(truth.classes), truth, SMALL, coco_metrics))
    assert run_two(score_share, truth, tmp_path / "store", tmp_path) == [0, 0]
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [alone, alone]
