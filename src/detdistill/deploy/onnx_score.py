"""How good an exported model is on a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.onnx_runtime import session
from detdistill.core.progress import track
from detdistill.core.structures import Detections
from detdistill.data.classes import with_classes
from detdistill.data.loading import evaluation_loader
from detdistill.deploy.onnx import Form
from detdistill.detectors.description import Description
from detdistill.detectors.postprocess import PostProcessing
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.predict import in_files
from detdistill.evaluation.results import Results

BATCH = 8


@dataclass(frozen=True)
class ScoreChange:
    """AP (COCO) of a detector in PyTorch and of what was exported, 0 to 1.

    Attributes:
        pytorch: the detector's.
        exported: the file's.
        images: both were scored on.
    """

    pytorch: float
    exported: float
    images: int

    def __str__(self) -> str:
        change = round(100 * (self.exported - self.pytorch), 1) + 0.0  # no -0.0
        return (
            f"AP {100 * self.exported:.1f} on {self.images} images, {change:+.1f} beside PyTorch's "
            f"{100 * self.pytorch:.1f}"
        )

    def check(self, file: Path, tolerated: float) -> None:
        """Raises `DetdistillError` if more AP was lost than `tolerated`, 0 to 1."""
        if self.pytorch - self.exported > tolerated:
            raise DetdistillError(
                f"{file} lost more than it may ({100 * tolerated:g} AP): {self}. Calibrate on more images like "
                "those, allow more with --ap-drop, or keep fp32"
            )


def score_onnx(
    file: Path,
    form: Form,
    dataset: DetectionDataset,
    images: ImageOptions,
    description: Description,
) -> float:
    """AP (COCO), 0 to 1, of an ONNX file.

    Args:
        file: as `export_onnx` writes it.
        form: of the file.
        dataset: the ground truth.
        images: the size to resize to, and the canvas of the file if it has a fixed one.
        description: of the detector: its classes, and how what is raw is selected.

    Raises:
        DetdistillError: the file cannot be run.
    """
    known = with_classes(dataset, description.classes)
    runner = session(file, torch.get_num_threads())
    loader = evaluation_loader(known, images, batch_size=BATCH)

    def found() -> Iterator[tuple[int, Detections]]:
        for batch in track(loader, f"batches of {BATCH} images"):
            outputs = runner.run(None, {"images": batch.images.numpy(), "sizes": batch.targets.sizes.numpy()})
            read = _selected(outputs, description.postprocessing) if form == "raw" else _counted(outputs)
            yield from in_files(batch, read)

    return average_precision(known, Results.from_detections(found()))


def average_precision(dataset: DetectionDataset, results: Results) -> float:
    """AP (COCO), 0 to 1.

    Raises:
        DetdistillError: there is nothing to find in the data set.
    """
    ap = coco_metrics(dataset, results).AP
    if ap is None:
        raise DetdistillError(f"{dataset.source} has no objects: nothing can be scored there")
    return ap


def _counted(outputs: list[Any]) -> list[Detections]:
    return [
        Detections(*(torch.from_numpy(each[number, :count]) for each in outputs[:3]))
        for number, count in enumerate(outputs[3].tolist())
    ]


def _selected(outputs: list[Any], postprocessing: PostProcessing) -> list[Detections]:
    """As `PostProcessing`, but for the limit of candidates of each level, which raw outputs do not tell apart."""
    scores, boxes = (torch.from_numpy(each) for each in outputs)
    return [_best(*pair, postprocessing) for pair in zip(scores, boxes, strict=True)]


def _best(scores: Tensor, boxes: Tensor, postprocessing: PostProcessing) -> Detections:
    prior, label = (scores > postprocessing.score_threshold).nonzero(as_tuple=True)
    group = torch.zeros_like(label) if postprocessing.class_agnostic else label
    kept = batched_nms(boxes[prior], scores[prior, label], group, postprocessing.iou_threshold)
    kept = kept[: postprocessing.max_detections]
    prior, label = prior[kept], label[kept]
    return Detections(boxes[prior], scores[prior, label], label)
