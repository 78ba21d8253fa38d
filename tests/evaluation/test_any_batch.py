"""What is found in an image does not depend on the batch that it is in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.images import read_image
from detdistill.core.onnx_runtime import session
from detdistill.core.structures import Detections
from detdistill.data.loading import evaluation_loader
from detdistill.deploy.export import export
from detdistill.deploy.verify import is_excused, partners
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.choices import HeadName, TowerNorm
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.running import InferenceOptions
from detdistill.detectors.saving import save_detector
from detdistill.evaluation.predict import in_files, predict
from detdistill.evaluation.results import Results
from support.pairs import confident
from support.tiny_detector import tiny_detector

SIZES = ((96, 128), (128, 96), (60, 128), (96, 128), (128, 96))
IMAGES = ImageOptions(short_side=72, long_side=96)
CLASSES = ("a", "b")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    """Portrait and landscape images."""
    folder = tmp_path_factory.mktemp("mixed")
    random = np.random.default_rng(0)
    none, flags = np.zeros(0), np.zeros(0, dtype=bool)
    records = []
    for number, (height, width) in enumerate(SIZES):
        path = folder / f"{number}.png"
        coarse = random.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
        records.append(
            ImageRecord(
                number, path, path.name, width, height, none.reshape(0, 4), none.astype(int), none, flags, flags
            )
        )
    return DetectionDataset("mixed", CLASSES, (1, 2), ImageTable.of(records))


def detector_of(head: HeadName, norm: TowerNorm) -> DenseDetector:
    detector = confident(tiny_detector(head, CLASSES, towers=Towers(depth=1, norm=norm)))
    with torch.no_grad():  # statistics that are no identity
        for name, value in detector.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(1))
    return detector


def per_image(results: Results, count: int) -> list[Detections]:
    chosen = [results.image == index for index in range(count)]
    columns = torch.from_numpy(results.boxes), torch.from_numpy(results.scores), torch.from_numpy(results.labels)
    return [Detections(*(column[torch.from_numpy(own)] for column in columns)) for own in chosen]


def assert_same(found: list[Detections], expected: list[Detections], postprocessing: PostProcessing) -> None:
    """Equal but for rounding, which may move a detection across a threshold."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        pairs = partners(one, other)
        for own, rest, paired in ((one, other, {a for a, _ in pairs}), (other, one, {b for _, b in pairs})):
            alone = [place for place in range(len(own)) if place not in paired]
            assert all(is_excused(own, place, rest, postprocessing) for place in alone)
    assert min(map(len, expected)) > 1


@pytest.mark.parametrize("norm", get_args(TowerNorm))
@pytest.mark.parametrize("head", get_args(HeadName))
def test_detections_are_the_same_in_every_batch(mixed: DetectionDataset, head: HeadName, norm: TowerNorm) -> None:
    detector = detector_of(head, norm)
    count = len(mixed.images)
    singles = [replace(mixed, images=mixed.images[index : index + 1]) for index in range(count)]
    alone = [per_image(predict(detector, single, IMAGES), 1)[0] for single in singles]
    for batch_size in (2, 8):
        together = predict(detector, mixed, IMAGES, InferenceOptions(batch_size=batch_size))
        assert_same(per_image(together, count), alone, detector.postprocessing)
    detector.input = replace(detector.input, size=IMAGES)
    arrays = [read_image(image.path) for image in mixed.images]
    found = detector.predict(arrays, threshold=0.0, options=InferenceOptions(batch_size=3))
    assert_same(found, alone, detector.postprocessing)


def exported(detector: DenseDetector, folder: Path, canvas: tuple[int, int] | None) -> Path:
    save_detector(detector, folder / "run", image_size=ImageSize(IMAGES.short_side, IMAGES.long_side))
    export(folder / "run", folder / "model.onnx", size=canvas, images=2)
    return folder / "model.onnx"


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "canvas"), [("group", None), ("batch", (96, 128))])
@pytest.mark.parametrize("head", get_args(HeadName))
def test_an_onnx_file_finds_the_same_in_every_batch_as_predict_on_the_same_canvas(
    mixed: DetectionDataset, tmp_path: Path, head: HeadName, norm: TowerNorm, canvas: tuple[int, int] | None
) -> None:
    detector = detector_of(head, norm)
    options = replace(IMAGES, canvas=canvas)
    expected = per_image(predict(detector, mixed, options), len(mixed.images))
    runner = session(exported(detector, tmp_path, canvas))
    for batch_size in (1, 3):
        found: dict[int, Detections] = {}
        for batch in evaluation_loader(mixed, options, batch_size=batch_size):
            outputs = runner.run(None, {"images": batch.images.numpy(), "sizes": batch.targets.sizes.numpy()})
            read = [
                Detections(*(torch.from_numpy(each[number, :kept]) for each in outputs[:3]))
                for number, kept in enumerate(outputs[3])
            ]
            found |= dict(in_files(batch, read))
        assert_same([found[index] for index in range(len(mixed.images))], expected, detector.postprocessing)
