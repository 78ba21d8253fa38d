"""What a run starts with: the annotated images, and a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import note
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import EFFICIENTNET_LITE, Normalization
from detdistill.data.assembly import raise_fatal
from detdistill.data.checking import reading_note, training_problems, validation_problems
from detdistill.data.classes import with_classes
from detdistill.data.loading import Batch, training_loader
from detdistill.data.opening import open_part
from detdistill.data.teacher_inputs import NOTHING, TeacherInputs
from detdistill.detectors.base import Detector
from detdistill.detectors.catalog import build_detector
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.backbone_weights import BackboneMismatchError, HasBackbone, load_backbone_weights
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.dense.efficientnet_lite import efficientnet_lite0_file
from detdistill.detectors.dense.initialization import initialize_from
from detdistill.detectors.two_stage.two_stage_architecture import TwoStageArchitecture
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector
from detdistill.training.recipe import Data, DetectorSettings, Recipe

FIRST_BATCHES = 8
"""Batches among which `first_batch` looks for one with objects."""


def has_masks(recipe: Recipe, own: Detector | None = None) -> bool:
    """Return whether the detector of a run has masks, so that its datasets are read with masks.

    Args:
        recipe: Of the run.
        own: A detector that is trained instead of the recipe's.
    """
    if own is not None:
        return own.has_masks
    return isinstance(recipe.detector, TwoStageArchitecture) and recipe.detector.has_masks


def open_training_data(
    data: Data, images: ImageOptions, *, use_cache: bool = True, masks: bool = False
) -> tuple[DetectionDataset, DetectionDataset | None]:
    """Open the training set, and the validation set with the classes of the training set.

    Args:
        data: What the recipe says of the dataset.
        images: The detector's image size.
        use_cache: As in `open_dataset`. A run that is resumed reads the files.
        masks: Read the objects' masks, too, for a detector that has masks.

    Raises:
        DataError: one of them cannot be read or holds no object, too many objects are lost, or the validation set has
            a class of its own.
    """
    dataset = _open(data, data.train, data.train_images, use_cache=use_cache, masks=masks)
    found = training_problems(dataset, images, difficult=data.difficult, accept_left_out=data.accept_left_out)
    raise_fatal(dataset.source, found)
    for problem in found:
        note(str(problem))
    if data.val is None:
        return dataset, None
    validation = _open(data, data.val, data.val_images, use_cache=use_cache, masks=masks)
    raise_fatal(validation.source, validation_problems(validation, dataset.classes))
    return dataset, with_classes(validation, dataset.classes)


def open_data_part(
    data: Data, part: str | None, images: str | None, *, use_cache: bool = True, masks: bool = False
) -> DetectionDataset:
    """Open a part of a recipe's dataset.

    Args:
        data: What the recipe says of the dataset.
        part: Name of a split, or annotation file or folder.
        images: Image folder of the part, if it is not recognised.
        use_cache: As in `open_dataset`.
        masks: As in `open_dataset`.

    Raises:
        DataError: As in `open_dataset`.
    """
    return open_part(
        data.path,
        part,
        images=images,
        follow_links=data.follow_links,
        accept_left_out=data.accept_left_out,
        rescale=data.rescale,
        use_cache=use_cache,
        masks=masks,
    )


def _open(data: Data, part: str | None, images: str | None, *, use_cache: bool, masks: bool) -> DetectionDataset:
    dataset = open_data_part(data, part, images, use_cache=use_cache, masks=masks)
    text = reading_note(dataset, data.path)
    if text is not None:
        note(text)
    return dataset


def first_batch(recipe: Recipe, dataset: DetectionDataset, batch_size: int, teacher: TeacherInputs = NOTHING) -> Batch:
    """Return the first batch with an object, or one without if the first few have none.

    Args:
        recipe: Of the run.
        dataset: The training set.
        batch_size: Largest number of images.
        teacher: What the teacher gets of the images.
    """
    batch: Batch
    loader = training_loader(
        dataset,
        recipe.images,
        batch_size=batch_size,
        seed=recipe.seed,
        difficult=recipe.data.difficult,
        teacher=teacher,
        unlabelled_share=recipe.unlabelled_share,
    )
    for batch in islice(loader, FIRST_BATCHES):
        if len(batch.targets.labels):
            break
    return batch


def starting_detector(recipe: Recipe, classes: Sequence[str], own: Detector | None = None) -> Detector:
    """The detector that is trained, with the weights that it starts from.

    Args:
        recipe: of the run.
        classes: of the dataset.
        own: a detector that is trained instead of the recipe's, with the weights that it has.

    Raises:
        DetdistillError: an architecture that cannot be built, weights that cannot be read or do not fit, or an own
            detector that does not meet the contract or has other classes.
    """
    if own is not None:
        return _checked(own, recipe, classes)
    spec = InputSpec(size=recipe.images.size)
    if recipe.start.backbone is None:
        detector = build_detector(recipe.detector, classes, spec)
    else:
        detector = _with_backbone(recipe.detector, classes, spec, recipe.start.backbone)
    if recipe.start.source is not None:
        try:
            note(f"start.from: {initialize_from(detector, Path(recipe.start.source).expanduser())}")
        except DetdistillError as error:
            raise DetdistillError(f"start.from {recipe.start.source}: {error}") from error
    return detector


def _with_backbone(architecture: DetectorSettings, classes: Sequence[str], spec: InputSpec, source: str) -> Detector:
    """A detector with ImageNet weights in its backbone; `source` is the value of `start.backbone`."""
    pretrained = source == "timm"
    detector: DenseDetector | TwoStageDetector
    if isinstance(architecture, Architecture):
        detector = DenseDetector(architecture, classes, input=spec, pretrained_backbone=pretrained)
    elif isinstance(architecture, TwoStageArchitecture):
        detector = TwoStageDetector(architecture, classes, input=spec, pretrained_backbone=pretrained)
    else:
        raise DetdistillError(
            f"start.backbone {source}: a detector of the kind {architecture.kind} takes no weights for its backbone "
            "alone; expected null. To start from published weights, import them (`detdistill import`) and set "
            "start.from to the folder"
        )
    if source == "lite0":
        detector.input = replace(detector.input, normalization=EFFICIENTNET_LITE)
        _start_backbone(detector, source, efficientnet_lite0_file())
        return detector
    detector.input = replace(detector.input, normalization=_timm_normalization(detector))
    if source != "timm":
        file = Path(source).expanduser()
        if not file.exists():
            raise DetdistillError(
                f"start.backbone {source}: no such file; expected a file of weights, `timm` or `lite0`, or null "
                "for random weights"
            )
        _start_backbone(detector, source, file)
    return detector


def _checked(own: Detector, recipe: Recipe, classes: Sequence[str]) -> Detector:
    check_detector(own)
    if own.classes != tuple(classes):
        raise DetdistillError(
            f"the detector has the classes {', '.join(own.classes)}, the dataset {', '.join(classes)}; build the "
            "detector with the classes of the dataset, in their order"
        )
    if recipe.start.backbone is not None or recipe.start.source is not None:
        raise DetdistillError(
            "start.backbone and start.from are for the recipe's own detector; load the weights into the given detector "
            "before, and leave them out"
        )
    own.input = replace(own.input, size=recipe.images.size)
    return own


def _start_backbone(detector: HasBackbone, source: str, file: Path) -> None:
    """Fills the backbone and reports it; `source` is the value of `start.backbone`."""
    try:
        note(f"start.backbone: {load_backbone_weights(detector, file)}")
    except BackboneMismatchError as error:
        raise DetdistillError(
            f"start.backbone {source}: {error}. Give the weights of {detector.architecture.backbone}, set "
            "detector.backbone to the network of the file, or set start.backbone null to start from random weights"
        ) from error
    except DetdistillError as error:
        raise DetdistillError(f"start.backbone {source}: {error}") from error


def _timm_normalization(detector: HasBackbone) -> Normalization:
    """That of timm's weights for this backbone."""
    known: Any = detector.backbone.network.pretrained_cfg
    (red, green, blue), deviations = ([255 * value for value in known[key]] for key in ("mean", "std"))
    return Normalization((red, green, blue), (deviations[0], deviations[1], deviations[2]))
