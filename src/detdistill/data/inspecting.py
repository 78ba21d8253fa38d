"""The parts of a dataset: counts, problems and contact sheets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.data.checking import Checks, usability_problems
from detdistill.data.comparing import ComparedImages, Comparison, compare_images, read_others, read_pictures
from detdistill.data.contact_sheet import contact_sheet, default_file
from detdistill.data.inspection import Inspection, inspect_dataset, undecodable_images
from detdistill.data.source import DatasetSource, check_dataset_outputs, source_of
from detdistill.data.splits import is_held_out
from detdistill.report.image_saving import check_image_ending, save_image


@dataclass(frozen=True, eq=False)
class InspectedPart:
    """What is in a part of a dataset.

    Attributes:
        title: Names of the dataset and the part; of a part that cannot be read, why.
        problems: Everything that is wrong or worth knowing; fatal ones must be fixed before training.
        dataset: The part; None if it cannot be read, or has no annotations.
        numbers: Its images and objects in numbers; None without `dataset`.
        sheet: The contact sheet that was drawn; None without `dataset`.
        comparisons: Its near-duplicates in each of the other sets of images; empty if it cannot be read.
    """

    title: str
    problems: tuple[Problem, ...]
    dataset: DetectionDataset | None = None
    numbers: Inspection | None = None
    sheet: Path | None = None
    comparisons: tuple[Comparison, ...] = ()


def inspect_parts(
    dataset: DatasetSource | str | PathLike[str],
    checks: Checks | None = None,
    *,
    sheet: str | PathLike[str] | None = None,
    against: Sequence[str | PathLike[str]] = (),
) -> Iterator[InspectedPart]:
    """Count, check and draw a dataset, one part after the other. Every image is decoded.

    Args:
        dataset: Where the dataset is; all its parts are inspected, or the named one.
        checks: What training would ask for; None for the defaults.
        sheet: Contact sheet to write, `.jpg` or `.png`; of several parts, each one's name is added to the file's. None
            for `contact_sheet.jpg`, or `contact_sheet.png` if most images are PNG or GIF files.
        against: Other images, in which near-duplicates of each part's images are searched: see `read_others`. With
            them, `dataset` may be a folder or a pattern of images without annotations, which are only compared.

    Yields:
        Each part, its contact sheet written.

    Raises:
        DetdistillError: The ending of `sheet` is no image's, or it cannot be written or would replace an input.
        DataError: Nothing is recognised as an annotated dataset, or there is nothing to compare it with.
    """
    source, checks = source_of(dataset), checks or Checks()
    if sheet is not None:
        check_image_ending(Path(sheet))
    try:
        names: list[str | None] = [source.split] if source.split is not None else [*source.split_names()]
    except DataError:
        pictures = read_pictures(source.path) if against and source.annotations is None else None
        if pictures is None:
            raise
        compared = [compare_images(pictures, read_others(other, source)) for other in against]
        yield InspectedPart(pictures.title, (), comparisons=tuple(compared))
        return
    others = [read_others(other, source) for other in against]
    training_classes: dict[str, tuple[str, ...]] = {}
    for name in names:
        part = replace(source, split=name)
        try:
            read, problems = _opened(part, checks)
        except DataError as error:
            yield InspectedPart(error.summary if error.problems else str(error), error.problems)
            continue
        file = Path(sheet) if sheet is not None else default_file(read)
        if len(names) > 1:
            file = file.with_stem(f"{file.stem}_{str(name).replace('/', '_')}")
        check_dataset_outputs({file: "--sheet"}, part, read)
        held_out, year = name is not None and is_held_out(name), str(name).rpartition("/")[0]
        if not held_out:
            training_classes.setdefault(year, read.classes)
        problems += usability_problems(read, checks, held_out=held_out, classes=training_classes.get(year))
        # An image that cannot be opened, or has another size, was found before and cannot be decoded either.
        known = {problem.where for problem in problems if problem.fatal}
        problems += [problem for problem in undecodable_images(read) if problem.where not in known]
        title = f"{Path(source.path).resolve().name} {name or ''}".strip()
        numbers = inspect_dataset(read)
        save_image(contact_sheet(read, f"{title}: {numbers}"), file)
        comparisons: list[Comparison] = []
        if others:
            images = ComparedImages.read(title, read.images.file_names, read.images.paths)
            comparisons += [compare_images(images, each) for each in others]
        yield InspectedPart(title, tuple(problems), read, numbers, file, tuple(comparisons))


def _opened(part: DatasetSource, checks: Checks) -> tuple[DetectionDataset, list[Problem]]:
    """One part and its problems; faults of the image files alone do not keep it from being counted and drawn."""
    part = replace(part, accept_left_out=True, rescale=checks.rescale)
    try:
        dataset = part.open()
    except DataError as everything:
        try:
            dataset = replace(part, rescale=False).open(check_images=False)
        except DataError:
            raise everything from None
        return dataset, list(everything.problems)
    return dataset, list(dataset.problems)
