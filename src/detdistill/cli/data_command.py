"""`detdistill data …`: look at a data set, split one, make one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from detdistill.cli.source import DATA, Source
from detdistill.core.console import print_out

if TYPE_CHECKING:
    from detdistill.core.errors import Problem
    from detdistill.core.image_options import ImageOptions
    from detdistill.data.checking import Checks
    from detdistill.data.comparing import Comparison
    from detdistill.data.inspection import Inspection

BAR = 40
LISTED_PAIRS = 10


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
    masks: Annotated[bool, Parameter(help="Read, check and draw the objects' masks, too.")] = False
    recipe: Annotated[Path | None, Parameter(help="Recipe (YAML) whose image size and data options are checked.")] = (
        None
    )
    against: Annotated[
        list[str] | None,
        Parameter(
            help="Other images, in which near-duplicates are searched: a part of the dataset, such as val, another "
            "dataset, an annotation file, a list of images, or a folder or pattern of images without annotations. May "
            "be given several times. With it, PATH may be a folder or pattern of images without annotations.",
        ),
    ] = None

    def run(self) -> None:
        """Print what was found and draw the sheets."""
        from detdistill.core.errors import DataError
        from detdistill.data.inspecting import inspect_parts

        fatal = 0
        source, against = replace(self.source(self.path), masks=self.masks), self.against or ()
        for part in inspect_parts(source, self._checks(), sheet=self.sheet, against=against):
            if part.comparisons and part.dataset is None:
                print_out(f"{part.title}: no annotations are recognised, the images are only compared")
            elif part.dataset is None or part.numbers is None:
                print_out(part.title)
                fatal += _print_problems(part.problems) or 1
            else:
                print_out(f"{part.title} ({part.dataset.source})")
                _print_numbers(part.numbers)
                print_out("\nproblems:" if part.problems else "\nno problems")
                fatal += _print_problems(part.problems)
                print_out(f"contact sheet: {part.sheet}")
            for comparison in part.comparisons:
                _print_comparison(comparison)
            print_out()
        if fatal:
            raise DataError(
                f"{self.path}: {fatal} of the problems above must be fixed before a detector can be trained on the data"
            )

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
    masks: Annotated[bool, Parameter(help="Keep the objects' masks, too.")] = False
    out: Annotated[Path | None, Parameter(help="Output folder. Default: PATH with _split added to its name.")] = None

    def run(self) -> None:
        """Splits, writes and reports."""
        from detdistill.cli.convert_command import print_parts, print_repairs, print_split
        from detdistill.data.writing.converting import write_split

        source = replace(self.source(self.path), masks=self.masks)
        written = write_split(source, self.out, val=self.val, test=self.test, seed=self.seed)
        print_repairs(written.source, self.path)
        print_split(written.split)
        named = {f"{written.folder / name}.json": part for name, part in written.split.parts.items()}
        print_parts(named, len(written.source.images))


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
        print_out(f"{self.out}: {self.train} training, {self.val} validation and {self.test} test pictures")


def _print_problems(problems: Sequence[Problem]) -> int:
    """List all kinds of problems, the fatal ones first; return how many kinds are fatal."""
    from detdistill.core.errors import grouped
    from detdistill.core.texts import MOST_LINES

    fatal = grouped(problem for problem in problems if problem.fatal)
    kinds = {"must be fixed": fatal}
    for outcome in ("left out", "changed", "noted"):
        kinds[outcome] = grouped(problem for problem in problems if not problem.fatal and problem.outcome == outcome)
    for heading, lines in kinds.items():
        for line in lines[:MOST_LINES]:
            print_out(f"  {heading}: {line}")
        if len(lines) > MOST_LINES:
            print_out(f"  {heading}: … and {len(lines) - MOST_LINES:,} more kinds of problems")
    return len(fatal)


def _print_comparison(comparison: Comparison) -> None:
    """Print how many images are near-duplicates of others, and the first of them."""
    from detdistill.core.errors import counted

    near = len(comparison.pairs)
    print_out(
        f"near-duplicates of {comparison.against} ({counted(comparison.others, 'image')}): "
        f"{near:,} of {counted(comparison.images, 'image')}"
    )
    for name, other in comparison.pairs[:LISTED_PAIRS]:
        print_out(f"  {name}: {other}")
    if near > LISTED_PAIRS:
        print_out(f"  … and {near - LISTED_PAIRS:,} more")
    if comparison.same_files:
        print_out(f"  the same file in both, not counted: {counted(comparison.same_files, 'image')}")
    for title, unreadable in (
        (comparison.title, comparison.unreadable),
        (comparison.against, comparison.others_unreadable),
    ):
        if unreadable:
            print_out(f"  undecodable, not compared: {counted(unreadable, 'image')} of {title}")


def _print_numbers(numbers: Inspection) -> None:
    from detdistill.cli.text_table import print_table
    from detdistill.core.errors import counted
    from detdistill.data.inspection import SIDE_EDGES

    objects = sum(row.objects for row in numbers.classes)
    smallest, median, largest = (f"{width}x{height}" for width, height in numbers.image_sizes)
    print_out(numbers)
    print_out(f"{objects / numbers.images:.1f} objects an image, {numbers.most_objects} at most", end="")
    print_out(f"; {counted(numbers.without_objects, 'image')} without" if numbers.without_objects else "")
    same = smallest == largest
    print_out(f"all images are {smallest}\n" if same else f"image sizes {smallest} to {largest}, median {median}\n")
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
        print_out(f"\ntraining ignores background inside {' and '.join(meant[flag] for flag in flags)}")
    print_out("\nsmall, medium and large as COCO counts: annotated area below 32², below 96², from 96² pixels on")
    print_out("\n√(width·height) of box, in pixels")
    # Bins beyond the largest object say nothing.
    used = max((number for number, count in enumerate(numbers.box_sides) if count), default=-1) + 1
    bounds = [*(f"{low} to {high}" for low, high in pairwise(SIDE_EDGES)), f"from {SIDE_EDGES[-1]}"]
    most = max(numbers.box_sides)
    for bound, count in zip(bounds[:used], numbers.box_sides[:used], strict=True):
        print_out(f"{bound:>10} {count:>{len(str(most))}} {'█' * math.ceil(BAR * count / most)}".rstrip())
