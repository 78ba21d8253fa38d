"""A folder to give away: weights, ONNX, an example, and a card that says what the detector can and cannot do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import LISTED, DetdistillError
from detdistill.core.files import write_atomically
from detdistill.core.image_options import ImageOptions
from detdistill.core.images import read_image
from detdistill.core.texts import one_line, points
from detdistill.data.classes import with_classes
from detdistill.data.source import DatasetLike, opened
from detdistill.deploy.export import export
from detdistill.deploy.markdown import Markdown, code, finalized, front_matter, plain_name
from detdistill.detectors.base import Detector
from detdistill.detectors.description import Description, was_trained_on, write_description
from detdistill.detectors.predicting import USUAL_THRESHOLD
from detdistill.detectors.saving import WEIGHTS
from detdistill.detectors.storage import load_detector, read_description
from detdistill.evaluation.coco_metrics import CocoMetrics, CocoScores, metrics_and_results
from detdistill.evaluation.results import Results
from detdistill.evaluation.score import score
from detdistill.evaluation.voc_metrics import image_f1
from detdistill.report.drawing import draw_detections
from detdistill.report.image_saving import save_image

ONNX, CARD, EXAMPLE = "model.onnx", "README.md", "example.jpg"
SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl")
KEPT_PARTS = 2
"""Of a path in the provenance: `scenes/train.json` tells enough, and whose home it lay in is nobody's business."""
FEW = 20
"""Objects of a class below which its AP says little."""


def publish(
    folder: Path, to: Path, *, dataset: DatasetLike, name: str | None = None, license: str | None = None
) -> list[Path]:
    """Write a folder to share: weights, `model.json`, a verified ONNX file, an example image and a model card.

    Args:
        folder: of the run.
        to: new or empty.
        dataset: on which it is scored, which the ONNX file is verified on, and of which an image is shown; or where it
            is.
        name: of the detector; None for that of the folder `to`.
        license: of the weights, by its identifier such as `apache-2.0`; None leaves it open.

    Returns:
        The files, by name.

    Raises:
        DetdistillError: the folder is none, is not empty or cannot be written, the detector does not know its image
            size, or the exported file does not verify.
        DataError: the dataset cannot be opened, has other classes, or an image that cannot be read.
    """
    description = read_description(folder)
    if description.input.size is None:
        raise DetdistillError(
            f"{folder / 'model.json'} does not tell the size of images that the detector was made for: nothing can be "
            "scored, so there would be nothing to say about it"
        )
    if os.path.lexists(to) and not to.is_dir():
        raise DetdistillError(f"{to}: this is not a folder; give a new or an empty one")
    if to.exists() and any(to.iterdir()):
        raise DetdistillError(f"{to} is not empty: give a new folder, so that nothing is given away by mistake")
    options = ImageOptions(**asdict(description.input.size))
    truth = opened(dataset)
    known = with_classes(truth, description.classes)
    detector = load_detector(folder)
    scores, results = score(detector, known, options, metrics_and_results)
    try:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / WEIGHTS, to / WEIGHTS)
    except OSError as error:
        raise DetdistillError(f"{to} cannot be written: {error.strerror}") from error
    clean = replace(description, provenance=without_folders(description.provenance))
    write_description(to, clean)
    exported = export(to, to / ONNX, dataset=known)  # of the clean description: it goes into the file's metadata
    _write_example(detector, typical_image(known, results, detector.score_thresholds), to / EXAMPLE)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701 (Markdown: everything is escaped by `finalized`)
        finalize=finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    card = environment.get_template("model_card.md.jinja").render(
        front_matter=front_matter(_header(license, teacher="teacher" in clean.provenance)),
        name=plain_name(name or to.resolve().name),
        license=license,
        classes=[plain_name(each) for each in description.classes],
        about=_about(clean, sum(parameter.numel() for parameter in detector.parameters())),
        data=code(without_folders(known.source)),
        images=len(known.images),
        objects=len(known.images.labels),
        size=_size(options),
        scores={key: points(getattr(scores, key)) for key in SHOWN},
        per_class=[
            (plain_name(label), str(count), points(own.AP), points(own.AP50))
            for label, count, own in _classes(known, scores)
        ],
        made=made(clean.provenance),
        limits=limits(known, scores, trained_on=was_trained_on(description, truth)),
        onnx=f"end to end, for onnxruntime and others; checked against PyTorch on {exported.verification}",
    )
    write_atomically(to / CARD, card)
    return sorted(to.iterdir())


def typical_image(dataset: DetectionDataset, results: Results, thresholds: Mapping[str, float]) -> ImageRecord:
    """Return the image in which a user sees the median result: by F1 of what is shown, among images with objects.

    Args:
        dataset: the ground truth, at least one image.
        results: the detections, of all scores.
        thresholds: by class name, the score from which on a detection is shown; of other classes `predict`'s.
    """
    least = np.array([thresholds.get(name, USUAL_THRESHOLD) for name in dataset.classes])
    shown = results.scores >= least[results.labels]
    found = results.take(np.flatnonzero(shown))
    f1 = image_f1(dataset, found)
    ranked = sorted(
        np.flatnonzero((dataset.images.counts > 0) & ~np.isnan(f1)).tolist(),
        key=lambda index: (f1[index], dataset.images.file_names[index]),
    )
    return dataset.images[ranked[len(ranked) // 2] if ranked else 0]


def _write_example(detector: Detector, record: ImageRecord, file: Path) -> None:
    (found,) = detector.predict([record.path])
    save_image(draw_detections(read_image(record.path), found, detector.classes), file)


def without_folders(value: Any) -> Any:
    """A copy of a JSON value in which paths are cut to their last two parts."""
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(each) for each in value]
    return str(PurePath(*PurePath(value).parts[-KEPT_PARTS:])) if isinstance(value, str) and "/" in value else value


def _header(license: str | None, *, teacher: bool) -> dict[str, Any]:
    """The keys by which model hubs sort cards."""
    return {
        "library_name": "detdistill",
        "pipeline_tag": "object-detection",
        **({"license": one_line(license)} if license else {}),
        "tags": ["object-detection", "onnx", *(["knowledge-distillation"] if teacher else [])],
    }


def made(provenance: Mapping[str, Any]) -> list[Markdown]:
    """How a detector came about, in sentences; of what is not known there is none.

    Args:
        provenance: of a description, which may hold anything.
    """
    said = []
    if "imported_from" in provenance:
        said.append(f"Taken over from {code(provenance['imported_from'])}.")
    data = _group(provenance, "data")
    if "source" in data:
        said.append(f"Trained on {code(data['source'])}{_hash(data.get('annotations_sha256'))}.")
    teacher = _group(provenance, "teacher")
    several = teacher.get("teachers")
    teachers = several if isinstance(several, list) else [teacher]
    known = [each for each in teachers if isinstance(each, Mapping) and "source" in each]
    names = [code(each["source"]) + _hash(each.get("sha256")) for each in known]
    if names:
        weights = _group(provenance, "weights").items()
        terms = [f"{plain_name(term)} (weight {plain_name(_rounded(weight))})" for term, weight in weights]
        terms = terms or [plain_name(term) for term in _group(provenance, "terms")]
        said.append(f"Taught by {', '.join(names[:LISTED])}: {', '.join(terms[:LISTED])}.")
    if "seed" in provenance and "epoch" in provenance:
        seed, epoch = plain_name(provenance["seed"]), plain_name(provenance["epoch"])
        said.append(f"Seed {seed}, the weights of epoch {epoch}.")
    return [Markdown(sentence) for sentence in said]


def _group(provenance: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = provenance.get(key)
    return value if isinstance(value, Mapping) else {}


def _hash(sha256: object) -> str:
    return f" (SHA-256 {code(f'{sha256[:12]}…')})" if isinstance(sha256, str) and sha256 else ""


def _rounded(weight: object) -> str:
    return f"{weight:.3g}" if isinstance(weight, int | float) else str(weight)


def limits(dataset: DetectionDataset, scores: CocoMetrics, *, trained_on: bool) -> list[Markdown]:
    """What the scores say that the detector cannot do, and what they cannot say."""
    said = ["The scores are of images like those of the data above; of others they say nothing."]
    if trained_on:
        said = ["**The scores are of the very images that it was trained on.** On any others it will do worse."]
    rows = _classes(dataset, scores)
    unseen = [plain_name(label) for label, count, _ in rows if count == 0]
    rare = [f"{plain_name(label)} ({count})" for label, count, _ in rows if 0 < count < FEW]
    if unseen:
        said.append(f"Not scored, for want of objects: {', '.join(unseen)}.")
    if rare:
        said.append(f"Scored on few objects: {', '.join(rare)}.")
    measured = {label: own.AP for label, _, own in rows if own.AP is not None}
    if len(measured) > 1:
        worst = min(measured, key=lambda label: measured[label])
        said.append(f"Weakest class: {plain_name(worst)}, {points(measured[worst])} AP.")
    sizes = {
        "small (below 32 x 32 px)": scores.APs,
        "medium (to 96 x 96 px)": scores.APm,
        "large (from 96 x 96 px on)": scores.APl,
    }
    absent = [size for size, ap in sizes.items() if ap is None]
    if absent:
        said.append(f"There were no objects to score that are {' or '.join(absent)}.")
    return [Markdown(sentence) for sentence in said]


def _classes(dataset: DetectionDataset, scores: CocoMetrics) -> list[tuple[str, int, CocoScores]]:
    counts = np.bincount(dataset.images.labels, minlength=len(dataset.classes)).tolist()
    return [(name, count, scores.per_class[name]) for name, count in zip(dataset.classes, counts, strict=True)]


def _about(description: Description, parameters: int) -> str:
    layers = description.architecture
    name, backbone = getattr(layers, "name", layers), getattr(layers, "backbone", None)
    kind = name if backbone is None else f"{name} on {backbone}"
    return f"An object detector, {kind}, {parameters / 1e6:.2f} million parameters."


def _size(options: ImageOptions) -> str:
    if options.letterbox:
        return f"fit a square of {options.letterbox} px"
    return f"a shorter side of {options.short_side} px, the longer one at most {options.long_side} px"
