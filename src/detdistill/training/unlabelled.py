"""Images without annotations beside the training set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.distributed import note
from detdistill.core.errors import DataError, counted
from detdistill.core.packed_texts import PackedTexts
from detdistill.data.checking import reading_note
from detdistill.data.near_duplicates import near_copies
from detdistill.data.plain_images import plain_images
from detdistill.data.source import DatasetSource
from detdistill.data.splits import is_held_out
from detdistill.data.stored_images import file_digest
from detdistill.training.recipe import Data, Recipe


def with_unlabelled(recipe: Recipe, dataset: DetectionDataset, validation: DetectionDataset | None) -> DetectionDataset:
    """Return the training set with the unlabelled images of a recipe behind its own, or as it is if there are none.

    Left out, with a note each, are images that cannot be opened, those of the training set itself, and near-duplicates
    of validation and test images.

    Args:
        recipe: Of the run.
        dataset: The annotated images.
        validation: The validation set, if there is one.

    Raises:
        DataError: There is no image, or none is left.
    """
    settings = None if recipe.distill is None else recipe.distill.unlabelled
    if settings is None:
        return dataset
    try:
        found = plain_images(settings.sources)
    except DataError as error:
        raise DataError(f"distill.unlabelled.images: {error.summary}", error.problems) from error
    text = reading_note(found, settings.sources[0])
    if text is not None:
        note(text)
    kept = ~same_files(found.images.paths, dataset.images.paths)
    left_out = [(int((~kept).sum()), "are images of the training set")]
    if settings.check_copies:
        held_out = held_out_images(recipe.data, dataset, validation)
        copies = near_copies(found.images.paths, held_out)
        unreadable = np.zeros_like(kept)
        unreadable[list(copies.unreadable)] = True
        near = copies.of >= 0
        left_out += [
            (int((kept & near).sum()), f"are near-duplicates of {len(held_out):,} validation or test images"),
            (int((kept & unreadable).sum()), "cannot be decoded"),
        ]
        kept &= ~near & ~unreadable
    reasons = [f"{count:,} {reason}" for count, reason in left_out if count]
    if not kept.any():
        raise DataError(
            f"distill.unlabelled.images {found.source}: no image is left of {counted(len(kept), 'image')}: "
            f"{', '.join(reasons)}; name other images"
        )
    if reasons:
        note(f"unlabelled images left out, of {len(kept):,}: {', '.join(reasons)}")
    images = found.images.take(np.flatnonzero(kept))
    return replace(dataset, images=ImageTable.joined([dataset.images, images]), num_labelled=len(dataset.images))


def same_files(paths: Sequence[str], others: Sequence[str]) -> NDArray[np.bool_]:
    """Return which files are, by their places or their contents, among others: a mask `(n,)`."""
    by_size = defaultdict[int, list[str]](list)
    for other in others:
        by_size[_size(other)].append(other)
    digests: dict[str, int | None] = {}

    def digest(path: str) -> int | None:
        if path not in digests:
            digests[path] = file_digest(Path(path))
        return digests[path]

    return np.fromiter(
        (any(digest(path) == digest(other) for other in by_size.get(_size(path), ())) for path in paths),
        np.bool_,
        len(paths),
    )


def held_out_images(data: Data, dataset: DetectionDataset, validation: DetectionDataset | None) -> PackedTexts:
    """Return the image files that a student of this data may be scored on: those of validation and test parts.

    Args:
        data: What the recipe says of the dataset.
        dataset: The training set, whose own images are not among them.
        validation: The validation set, if there is one.
    """
    sets = [] if validation is None else [validation]
    source = DatasetSource(Path(data.path).expanduser(), follow_links=data.follow_links, accept_left_out=True)
    try:
        parts = source.parts()
    except DataError:
        parts = {}  # the recipe names the annotation files of each part
    for name, part in parts.items():
        if is_held_out(name):
            try:
                sets.append(part.open(check_images=False))
            except DataError as error:
                note(f"near-duplicates of {name} are not looked for: {error.summary}")
    own = set(dataset.images.paths)
    return PackedTexts.of(dict.fromkeys(path for each in sets for path in each.images.paths if path not in own))


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1
