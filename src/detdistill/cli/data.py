"""`detdistill data …`: look at a data set, split one, make one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from detdistill.cli.parser import Argument, Option
from detdistill.cli.source import DATA, Source

if TYPE_CHECKING:
    from detdistill.annotations import DetectionDataset
    from detdistill.data.inspection import Inspection
    from detdistill.errors import Problem

BAR = 40


@dataclass(frozen=True)
class Inspect(Source):
    """Count, check and draw a data set: classes, box sizes, every problem, and a contact sheet.

    Exits with 1 if a problem must be mended before the data can be used.
    """

    path: Annotated[Path, Argument(DATA)]
    sheet: Annotated[
        Path | None,
        Option(
            "Contact sheet to write, a .jpg or .png file. With several parts, the part's name is added to the file's. "
            "Default: contact_sheet.jpg, or contact_sheet.png if most images are PNG or GIF files."
        ),
    ] = None

    def run(self) -> None:
        """Prints what was found and draws the sheets."""
        from detdistill.data.contact_sheet import default_file
        from detdistill.data.opening import find_splits
        from detdistill.errors import DataError
        from detdistill.image_saving import check_image_ending

        if self.sheet is not None:
            check_image_ending(self.sheet)
        if self.split is None:
            found = find_splits(self.path, annotations=self.annotations)
            names: list[str | None] = list(dict.fromkeys(split.name for split in found))
        else:
            names = [self.split]
        fatal = 0
        for name in names:
            try:
                dataset = self._opened(name)
            except DataError as error:
                print(str(error).partition("\n")[0] if error.problems else error)
                fatal += _print_problems(error.problems) or 1
            else:
                sheet = self.sheet or default_file(dataset)
                if len(names) > 1:
                    sheet = sheet.with_stem(f"{sheet.stem}_{str(name).replace('/', '_')}")
                fatal += _inspect(dataset, f"{self.path.resolve().name} {name or ''}".strip(), sheet)
            print()
        if fatal:
            raise DataError(f"{self.path}: {fatal} of the problems above must be mended before the data can be used")

    def _opened(self, split: str | None) -> DetectionDataset:
        """One part; missing image files alone do not keep it from being counted and drawn."""
        from detdistill.errors import DataError

        part = replace(self, split=split)
        try:
            return part.opened(self.path)
        except DataError as everything:
            try:
                return part.opened(self.path, check_images=False)
            except DataError:
                raise everything from None


@dataclass(frozen=True)
class Split(Source):
    """Split a dataset into train, val and test, with near-duplicates in one part.

    The same seed gives the same split. Writes train.json, val.json and test.json (COCO) and a link to the image
    folder. `detdistill data convert` with --val and --test makes the same split and writes any format with the images.
    """

    path: Annotated[Path, Argument(DATA)]
    val: Annotated[float, Option("Share of the images for val, 0 to below 1.")] = 0.2
    test: Annotated[float, Option("Share of the images for test, 0 to below 1; 0 makes no such part.")] = 0.0
    seed: Annotated[int, Option("Random seed of the split.")] = 0
    out: Annotated[Path | None, Option("folder to make; PATH with _split added to its name if left out")] = None

    def run(self) -> None:
        """Splits, writes and reports."""
        from detdistill.cli.convert import print_parts, print_repairs, print_split
        from detdistill.data.splitting import split_dataset
        from detdistill.data.writing.coco import write_coco_beside
        from detdistill.files import check_new

        path = self.path.resolve()
        out = self.out or path.with_name(f"{path.stem if path.is_file() else path.name}_split")
        check_new(out)
        dataset = self.opened(self.path)
        divided = split_dataset(dataset, val=self.val, test=self.test, seed=self.seed)
        write_coco_beside(divided.parts, out)
        print_repairs(dataset)
        print_split(divided)
        print_parts({f"{out / name}.json": part for name, part in divided.parts.items()}, len(dataset.images))


@dataclass(frozen=True)
class Scenes:
    """Make the data set that comes with the toolkit: handwritten digits on photographs, as a COCO folder."""

    out: Annotated[Path, Argument("folder to make")]
    seed: Annotated[int, Option("another seed, other pictures")] = 0
    train: Annotated[int, Option("number of training pictures")] = 2000
    val: Annotated[int, Option("number of validation pictures")] = 500
    test: Annotated[int, Option("number of test pictures")] = 500
    size: Annotated[int, Option("side of a picture in pixels")] = 128

    def run(self) -> None:
        """Writes the folder."""
        from detdistill.data.scenes import write_scenes

        write_scenes(self.out, seed=self.seed, train=self.train, val=self.val, test=self.test, size=self.size)
        print(f"{self.out}: {self.train} training, {self.val} validation and {self.test} test pictures")


def _inspect(dataset: DetectionDataset, title: str, sheet: Path) -> int:
    """Reports on one split; returns how many of its problems are fatal."""
    from detdistill.data.contact_sheet import contact_sheet
    from detdistill.data.inspection import inspect_dataset, undecodable_images
    from detdistill.image_saving import save_image

    print(f"{title} ({dataset.source})")
    numbers = inspect_dataset(dataset)
    _print_numbers(numbers)
    problems = (*dataset.problems, *undecodable_images(dataset))
    print(f"\n{_count(len(problems), 'problem')}:" if problems else "\nno problems")
    fatal = _print_problems(problems)
    save_image(contact_sheet(dataset, f"{title}: {_summary(numbers)}"), sheet)
    print(f"contact sheet: {sheet}")
    return fatal


def _print_problems(problems: Sequence[Problem]) -> int:
    """Lists all of them; returns how many are fatal."""
    for problem in problems:
        print(f"  {'must be mended: ' * problem.fatal}{problem}")
    return sum(problem.fatal for problem in problems)


def _count(number: int, noun: str, nouns: str | None = None) -> str:
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"


def _summary(numbers: Inspection) -> str:
    objects = sum(row.objects for row in numbers.classes)
    classes = _count(len(numbers.classes), "class", "classes")
    return f"{_count(numbers.images, 'image')}, {_count(objects, 'object')} of {classes}"


def _print_numbers(numbers: Inspection) -> None:
    from detdistill.cli.table import print_table
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
    print("\nsmall, medium and large as COCO counts: annotated area below 32², below 96², from 96² pixels on")
    print("\n√(width·height) of box, in pixels")
    # Bins beyond the largest object say nothing.
    used = max((number for number, count in enumerate(numbers.box_sides) if count), default=-1) + 1
    bounds = [*(f"{low} to {high}" for low, high in pairwise(SIDE_EDGES)), f"from {SIDE_EDGES[-1]}"]
    most = max(numbers.box_sides)
    for bound, count in zip(bounds[:used], numbers.box_sides[:used], strict=True):
        print(f"{bound:>10} {count:>{len(str(most))}} {'█' * math.ceil(BAR * count / most)}".rstrip())
