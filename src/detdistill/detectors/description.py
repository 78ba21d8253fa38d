"""`model.json`: everything about a saved detector but its weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, field
from pathlib import Path
from typing import Any

from detdistill.core.annotations import DetectionDataset
from detdistill.core.bounds import Count, Probability
from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically
from detdistill.core.input_spec import InputSpec
from detdistill.core.settings import settings
from detdistill.detectors.postprocess import PostProcessing

FORMAT = 5
"""Format 2 added `image_size.canvas` and `postprocessing.class_agnostic`; format 3 has `input` instead of
`normalization` and `image_size`; format 4 has `architecture.kind` instead of `head`, `architecture.pyramid` instead of
`channels`, `extra_levels`, `extra_source` and `extra_relu`, and torchvision's `name` instead of `network`; format 5
added `postprocessing.candidates_per_image`. Older ones are still read."""
FILE_NAME = "model.json"


@settings
class Description:
    """The contents of `model.json`."""

    _: KW_ONLY
    format: Count = FORMAT
    """Format of the file; a reader refuses what is newer than itself."""
    kind: str
    """Kind of the detector, a name of the catalog, or `own` for a class of somebody's own."""
    architecture: Any
    """Everything that decides the layers, but the classes; of the kind's `architecture_type`, or the name of that
    class."""
    classes: tuple[str, ...]
    """Class names; label c is `classes[c]`."""
    input: InputSpec
    """What images the detector reads."""
    postprocessing: PostProcessing
    """How detections are read off an output."""
    weights_sha256: str
    """SHA-256 of `model.safetensors`, in hexadecimal."""
    score_thresholds: Mapping[str, Probability] | None = None
    """By class name, the score from which on a detection is shown; None if none were chosen."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from: versions of the libraries, hashes, anything else."""


def write_description(folder: Path, description: Description) -> None:
    """Writes `model.json`, whole or not at all.

    Raises:
        DetdistillError: a threshold is for no class, the provenance is not JSON, or the file cannot be written.
    """
    path = folder / FILE_NAME
    check_names(path, description)
    try:
        text = json.dumps(dataclasses.asdict(description), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DetdistillError(f"{path} cannot be written, a value is not JSON: {error}") from error
    write_atomically(path, text + "\n")


def was_trained_on(description: Description, dataset: DetectionDataset) -> bool:
    """Whether a detector has learned from exactly these annotated images: what it scores on them says little."""
    data = description.provenance.get("data")
    return isinstance(data, Mapping) and data.get("annotations_sha256") == dataset.fingerprint


def check_names(path: Path, description: Description) -> None:
    """Raises `DetdistillError` for classes that are no names, or thresholds for none of them."""
    classes = description.classes
    if not classes or len(set(classes)) < len(classes):
        raise DetdistillError(f"{path}: classes must be names that differ, at least one; found {list(classes)}")
    unknown = sorted(set(description.score_thresholds or ()) - set(classes))
    if unknown:
        raise DetdistillError(
            f"{path}: score thresholds for {', '.join(unknown)}, which are not among the classes {', '.join(classes)}"
        )
