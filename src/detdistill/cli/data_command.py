"""`detdistill data …`: look at a data set, split one, make one."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from detdistill.cli.source import DATA, Source

if TYPE_CHECKING:
    from detdistill.core.annotations import DetectionDataset
    from detdistill.core.errors import Problem
    from detdistill.core.image_options import ImageOptions
    from detdistill.data.checking import Checks
    from detdistill.data.inspection import Inspection

BAR = 40
HELD_OUT = frozenset({"val", "valid", "validation", "minival", "test", "testing"})


@dataclass(frozen=True)
class Inspect(Source):
    """Count, check and draw a dataset: classes, box sizes, every problem, and a contact sheet.

    Exits with 1 if a problem must be fixed before a detector can be trained on the data.
    """

    path: Annotated[Path, Parameter(help=DATA)]
    _: KW_ONLY
    sheet: Annotated[
        Path | None,
        Parameter(
            help="Contact sheet to write, a .jpg or .png file. With several parts, the part's name is added to the "
            "file's. Default: contact_sheet.jpg, or contact_sheet.png if most images are PNG or GIF files."
        ),
    ] = None
    short_side: Annotated[
        int | None,
        Parameter(help="Short side of resized images in pixels, for the check of object sizes. Default: 800."),
    ] = None
    long_side: Annotated[
        int | None, Parameter(help="Largest long side of resized images in pixels, for the same check. Default: 1333.")
    ] = None
    recipe: Annotated[Path | None, Parameter(help="Recipe (YAML) whose image size and data options are checked.")] = (
        None
    )

    def run(self) -> None:
        """Print what was found and draw the sheets."""
        from detdistill.core.errors import DataError
        from detdistill.data.checking import usability_problems
        from detdistill.data.contact_sheet import default_file
        from detdistill.data.opening import find_splits
        from detdistill.report.image_saving import check_image_ending

        if self.sheet is not None:
            check_image_ending(self.sheet)
        checks = self._checks()
        if self.split is None:
            splits = find_splits(self.path, annotations=self.annotations)
            names: list[str | None] = list(dict.fromkeys(split.name for split in splits))
        else:
            names = [self.split]
        fatal = 0
        training_classes: dict[str, tuple[str, ...]] = {}
        for name in names:
            try:
                dataset, found = self._opened(name, checks)
            except DataError as error:
                print(error.summary if error.problems else error)
                fatal += _print_problems(error.problems) or 1
            else:
                sheet = self.sheet or default_file(dataset)
                if len(names) > 1:
                    sheet = sheet.with_stem(f"{sheet.stem}_{str(name).replace('/', '_')}")
                held_out, year = _is_held_out(name), str(name).rpartition("/")[0]
                if not held_out:
                    training_classes.setdefault(year, dataset.classes)
                found += usability_problems(dataset, checks, held_out=held_out, classes=training_classes.get(year))
                fatal += _inspect(dataset, f"{self.path.resolve().name} {name or ''}".strip(), sheet, found)
            print()
        if fatal:
            raise DataError(
                f"{self.path}: {fatal} of the problems above must be fixed before a detector can be trained on the data"
            )

    def _opened(self, split: str | None, checks: Checks) -> tuple[DetectionDataset, list[Problem]]:
        """One part and its problems; faults of the image files alone do not keep it from being counted and drawn."""
        from detdistill.core.errors import DataError

        part = replace(self, split=split, accept_left_out=True, rescale=checks.rescale)
        try:
            dataset = part.opened(self.path)
        except DataError as everything:
            try:
                dataset = replace(part, rescale=False).opened(self.path, check_images=False)
            except DataError:
                raise everything from None
            return dataset, list(everything.problems)
        return dataset, list(dataset.problems)

    def _checks(self) -> Checks:
        """What the options and the recipe ask for.

        Raises:
            DetdistillError: the recipe cannot be read, or an image size is out of range.
        """
        from detdistill.core.image_options import ImageOptions
        from detdistill.data.checking import Checks
        from detdistill.training.recipe_file import read_values, recipe_of

        if self.recipe is None:
            images = self._sized(ImageOptions())
            return Checks(images, accept_left_out=self.accept_left_out, rescale=self.rescale)
        values = read_values(self.recipe)
        if "data" not in values and "data.path" not in values:
            values["data"] = {"path": str(self.path)}
        recipe = recipe_of(values, str(self.recipe))
        return Checks(
            self._sized(recipe.images),
            recipe.data.difficult,
            self.accept_left_out or recipe.data.accept_left_out,
            self.rescale or recipe.data.rescale,
        )

    def _sized(self, images: ImageOptions) -> ImageOptions:
        """The image size with the sides that were given; the other side follows where it has to."""
        if self.short_side is None and self.long_side is None:
            return images
        short = (
            min(images.short_side, self.long_side or images.long_side) if self.short_side is None else self.short_side
        )
        long = max(images.long_side, short) if self.long_side is None else self.long_side
        return replace(images, short_side=short, long_side=long, letterbox=None)


@dataclass(frozen=True)
class Split(Source):
    """Split a dataset into train, val and test, with near-duplicates in one part.

    The same seed gives the same split. Writes train.json, val.json and test.json (COCO) and a link to the image
    folder. `detdistill data convert` with --val and --test makes the same split and writes any format with the images.
    """

    path: Annotated[Path, Parameter(help=DATA)]
    _: KW_ONLY
    val: Annotated[float, Parameter(help="Share of the images for val, 0 to below 1.")] = 0.2
    test: Annotated[float, Parameter(help="Share of the images for test, 0 to below 1; 0 makes no such part.")] = 0.0
    seed: Annotated[int, Parameter(help="Random seed of the split.")] = 0
    out: Annotated[Path | None, Parameter(help="Output folder. Default: PATH with _split added to its name.")] = None

    def run(self) -> None:
        """Splits, writes and reports."""
        from detdistill.cli.convert_command import print_parts, print_repairs, print_split
        from detdistill.core.files import check_new
        from detdistill.data.splitting import split_dataset
        from detdistill.data.writing.coco_writer import write_coco_beside

        path = self.path.resolve()
        out = self.out or path.with_name(f"{path.stem if path.is_file() else path.name}_split")
        check_new(out)
        dataset = self.opened(self.path)
        divided = split_dataset(dataset, val=self.val, test=self.test, seed=self.seed)
        write_coco_beside(divided.parts, out)
        print_repairs(dataset, self.path)
        print_split(divided)
        print_parts({f"{out / name}.json": part for name, part in divided.parts.items()}, len(dataset.images))


@dataclass(frozen=True)
class Scenes:
    """Make the data set that comes with the toolkit: handwritten digits on photographs, as a COCO folder."""

    out: Annotated[Path, Parameter(help="Output folder.")]
    _: KW_ONLY
    seed: Annotated[int, Parameter(help="Random seed of the images.")] = 0
    train: Annotated[int, Parameter(help="Number of training images.")] = 2000
    val: Annotated[int, Parameter(help="Number of validation images.")] = 500
    test: Annotated[int, Parameter(help="Number of test images.")] = 500
    size: Annotated[int, Parameter(help="Side of an image in pixels.")] = 128

    def run(self) -> None:
        """Writes the folder."""
        from detdistill.data.scenes import write_scenes

        write_scenes(self.out, seed=self.seed, train=self.train, val=self.val, test=self.test, size=self.size)
        print(f"{self.out}: {self.train} training, {self.val} validation and {self.test} test pictures")


def _is_held_out(split: str | None) -> bool:
    """Whether a part is for validation or test by its name."""
    return not HELD_OUT.isdisjoint(re.split(r"[^a-z]+", str(split).lower()))


def _inspect(dataset: DetectionDataset, title: str, sheet: Path, found: Sequence[Problem]) -> int:
    """Report on one split; return how many kinds of its problems are fatal."""
    from detdistill.data.contact_sheet import contact_sheet
    from detdistill.data.inspection import inspect_dataset, undecodable_images
    from detdistill.report.image_saving import save_image

    print(f"{title} ({dataset.source})")
    numbers = inspect_dataset(dataset)
    _print_numbers(numbers)
    # An image that cannot be opened, or has another size, was found before and cannot be decoded either.
    known = {problem.where for problem in found if problem.fatal}
    problems = [*found, *(problem for problem in undecodable_images(dataset) if problem.where not in known)]
    print("\nproblems:" if problems else "\nno problems")
    fatal = _print_problems(problems)
    save_image(contact_sheet(dataset, f"{title}: {_summary(numbers)}"), sheet)
    print(f"contact sheet: {sheet}")
    return fatal


def _print_problems(problems: Sequence[Problem]) -> int:
    """List all kinds of problems, the fatal ones first; return how many kinds are fatal."""
    from detdistill.core.errors import grouped

    fatal = grouped(problem for problem in problems if problem.fatal)
    for line in fatal:
        print(f"  must be fixed: {line}")
    for outcome in ("left out", "changed", "noted"):
        for line in grouped(problem for problem in problems if not problem.fatal and problem.outcome == outcome):
            print(f"  {outcome}: {line}")
    return len(fatal)


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def _summary(numbers: Inspection) -> str:
    objects = sum(row.objects for row in numbers.classes)
    classes = _count(len(numbers.classes), "class", "classes")
    return f"{_count(numbers.images, 'image')}, {_count(objects, 'object')} of {classes}"


def _print_numbers(numbers: Inspection) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.data.inspection import SIDE_EDGES

    objects = sum(row.objects for row in numbers.classes)
    smallest, median, largest = (f"{width}x{height}" for width, height in numbers.image_sizes)
    print(_summary(numbers))
    print(f"{objects / numbers.images:.1f} objects an image, {numbers.most_objects} at most", end="")
    print(f"; {_count(numbers.without_objects, 'image')} without" if numbers.without_objects else "")
    same = smallest == largest
    print(f"all images are {smallest}\n" if same else f"image sizes {smallest} to {largest}, median {median}\n")
    flags = [flag for flag in ("difficult", "crowd") if any(getattr(row, flag) for row in numbers.classes)]
    columns = ("objects", "images", "small", "medium", "large", *flags)
    print_table(
        ("class", "id", *columns),
        [
            (row.name, str(row.category_id), *(str(getattr(row, column)) for column in columns))
            for row in numbers.classes
        ],
    )
    if flags:
        meant = {"difficult": "difficult objects (unless data.difficult is true)", "crowd": "crowd regions"}
        print(f"\ntraining ignores background inside {' and '.join(meant[flag] for flag in flags)}")
    print("\nsmall, medium and large as COCO counts: annotated area below 32², below 96², from 96² pixels on")
    print("\n√(width·height) of box, in pixels")
    # Bins beyond the largest object say nothing.
    used = max((number for number, count in enumerate(numbers.box_sides) if count), default=-1) + 1
    bounds = [*(f"{low} to {high}" for low, high in pairwise(SIDE_EDGES)), f"from {SIDE_EDGES[-1]}"]
    most = max(numbers.box_sides)
    for bound, count in zip(bounds[:used], numbers.box_sides[:used], strict=True):
        print(f"{bound:>10} {count:>{len(str(most))}} {'█' * math.ceil(BAR * count / most)}".rstrip())
