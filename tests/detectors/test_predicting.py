from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import detdistill
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.images import read_image
from detdistill.core.structures import Detections
from detdistill.data.opening import open_dataset
from detdistill.detectors.predicting import above, detect_in_images
from detdistill.detectors.running import InferenceOptions
from detdistill.detectors.saving import save_detector
from detdistill.evaluation.predict import predict
from support.pairs import confident
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_same_as_in_a_data_set(tmp_path: Path, batch_size: int) -> None:
    dataset = open_dataset(write_boxes(tmp_path), "val")
    detector = confident(tiny_detector("gfl", dataset.classes)).train()
    images = ImageOptions(short_side=48, long_side=64)
    options = InferenceOptions(batch_size=batch_size)
    expected = predict(detector, dataset, images, options)
    pictures = [read_image(record.path) for record in dataset.images]
    found = list(detect_in_images(detector, pictures, images, options))
    assert sum(map(len, found)) == len(expected) > 0
    assert torch.cat([one.scores for one in found]).tolist() == pytest.approx(expected.scores.tolist())
    assert torch.cat([one.boxes for one in found]).numpy() == pytest.approx(expected.boxes, abs=1e-3)
    assert detector.training


def state_of(detector: nn.Module) -> list[bytes | bool]:
    """Weights, statistics and modes, bit for bit."""
    values = [value.numpy().tobytes() for value in detector.state_dict().values()]
    return [*values, *(part.training for part in detector.modules())]


@pytest.mark.parametrize("mode", ["evaluation", "training", "one part in training"])
def test_a_detector_predicts_the_same_in_every_mode_and_from_several_threads(mode: str) -> None:
    """With batch norms, whose statistics a pass in training mode would change, and canvases of several sizes."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (side, 32, 3), dtype=np.uint8) for side in (32, 64, 96)]
    detector, size = confident(tiny_detector()), ImageOptions(short_side=32, long_side=96)
    expected = [detector.predict(image, size=size, threshold=0.1) for image in images]
    assert sum(map(len, expected)) > 0
    if mode != "evaluation":
        (detector if mode == "training" else detector.backbone).train()
    before = state_of(detector)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda image: detector.predict(image, size=size, threshold=0.1), images * 3))
    assert state_of(detector) == before
    for one, other in zip(expected * 3, found, strict=True):
        torch.testing.assert_close(one.scores, other.scores)
        torch.testing.assert_close(one.boxes, other.boxes)


def test_pictures_of_different_sizes_in_one_batch_are_as_alone() -> None:
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((40, 90), (64, 64), (90, 30))]
    detector, images = confident(tiny_detector()), ImageOptions(letterbox=64)  # one canvas for all
    together = list(detect_in_images(detector, pictures, images, InferenceOptions(batch_size=3)))
    for picture, one in zip(pictures, together, strict=True):
        (alone,) = detect_in_images(detector, [picture], images)
        assert len(alone) == len(one)
        torch.testing.assert_close(alone.scores, one.scores, rtol=1e-4, atol=1e-5)
        assert (one.boxes[:, 2] <= picture.shape[1]).all()
        assert (one.boxes[:, 3] <= picture.shape[0]).all()


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"an array \(height, width, 3\) of uint8"):
        list(detect_in_images(tiny_detector(), [np.zeros(shape, dtype=np.uint8)], ImageOptions()))


def test_each_class_has_its_threshold() -> None:
    found = Detections(torch.zeros(3, 4), torch.tensor([0.5, 0.4, 0.4]), torch.tensor([0, 0, 1]))
    kept = above(found, ("cat", "dog"), {"cat": 0.45}, 0.3)
    assert kept.labels.tolist() == [0, 1]
    assert kept.scores.tolist() == pytest.approx([0.5, 0.4])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose detector is sure of what it finds, with a threshold for one of its classes."""
    dataset = open_dataset(write_boxes(tmp_path / "data"), "val")
    detector = confident(tiny_detector("gfl", dataset.classes))
    size = ImageSize(short_side=48, long_side=64)
    save_detector(detector, tmp_path / "run", image_size=size, thresholds={dataset.classes[1]: 0.95})
    return tmp_path


def test_a_loaded_detector_predicts_files_and_arrays_alike(run: Path) -> None:
    detector = detdistill.load(run / "run")
    files = sorted((run / "data").rglob("*.png"))[:3]
    found = detector.predict([files[0], str(files[1]), read_image(files[2])])
    assert len(found) == 3
    alone = detector.predict(files[0])
    assert isinstance(alone, Detections)
    torch.testing.assert_close(alone.boxes, found[0].boxes, rtol=0, atol=1e-2)
    again = detector.predict(files, options=InferenceOptions(batch_size=1))
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=1e-2)
        assert one.labels.tolist() == other.labels.tolist()
        assert all(score >= (0.95 if label == 1 else 0.3) for score, label in zip(one.scores, one.labels, strict=True))
    assert sum(map(len, detector.predict(files, threshold=0.0))) > sum(map(len, found)) > 0


def test_what_cannot_be_predicted_is_told(run: Path) -> None:
    detector = detdistill.load(run / "run")
    with pytest.raises(DetdistillError, match=r"photo\.png: there is no such image file"):
        detector.predict("photo.png")
    with pytest.raises(DetdistillError, match=r"between 0 and 1, not 1.5"):
        detector.predict([], threshold=1.5)
    with pytest.raises(DetdistillError, match=r"give it with size=ImageSize\(short_side=…"):
        tiny_detector().predict([np.zeros((8, 8, 3), dtype=np.uint8)])
    assert detector.predict([]) == []
