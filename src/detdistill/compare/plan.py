"""What is compared: every method, with every seed, in every setting; each of them an ordinary run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detdistill.core.bounds import Count, Seed
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.settings import from_values, settings, to_values
from detdistill.distill.building import build_terms
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import merged, read_values, recipe_of, write_values

Terms = dict[str, dict[str, Any]]
"""Options of terms by their names; without any, the student learns alone."""

BASELINE = "baseline"
SHORT = {"rm": "rank_mimicking", "pfi": "prediction_guided"}
NAME = re.compile(r"\w[\w+.-]*")
"""Of a method or setting: it becomes a folder's name."""


@dataclass(frozen=True)
class Cell:
    """One run of a comparison.

    Attributes:
        setting: the student, teacher and data.
        method: by its name in the plan.
        seed: of everything random.
    """

    setting: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.setting}, {self.method}, seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """The run's folder in the comparison's."""
        return out / self.setting / self.method / str(self.seed)


@settings
class _Written:
    """A plan's file."""

    recipe: str | None = None
    settings: dict[str, dict[str, Any] | None] | None = None
    methods: dict[str, Terms | None] | None = None
    seeds: Count | tuple[Seed, ...] = 1
    report_on: str = "val"
    select_on: str | None = None
    report_images: str | None = None
    select_images: str | None = None


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        settings: recipe by name: student, teacher, data and schedule. Its seed, terms and validation set do not count.
        methods: terms by name, the baseline among them.
        seeds: of the runs. The same seed gives every method the same first weights, order of images and variations.
        report_on: Split whose scores are reported: its name, or an annotation file or folder.
        select_on: Split, in the same form, on which a method or option may be chosen; it is scored and reported apart.
        report_images: Image folder of `report_on`, where it is not recognised.
        select_images: Image folder of `select_on`, where it is not recognised.
    """

    settings: Mapping[str, Recipe]
    methods: Mapping[str, Terms]
    seeds: Sequence[int]
    report_on: str = "val"
    select_on: str | None = None
    report_images: str | None = None
    select_images: str | None = None

    def __post_init__(self) -> None:
        """Raises `DetdistillError` for a plan that cannot be followed, whatever its runs would find."""
        for kind, names in (("setting", self.settings), ("method", self.methods)):
            for name in names:
                if not NAME.fullmatch(name):
                    raise DetdistillError(
                        f"the name of a {kind} becomes a folder's: letters, digits, _ + - ., not {name!r}"
                    )
        if not self.settings or not self.seeds or len(self.methods) < 2:
            raise DetdistillError("a comparison needs a setting, a method beside the baseline, and a seed")
        if self.report_on == self.select_on:
            raise DetdistillError(
                f"report_on and select_on are both {self.report_on!r}: on what something is chosen it is not reported"
            )
        for setting, recipe in self.settings.items():
            for split, use in ((self.report_on, "reported"), (self.select_on, "chosen")):
                if split == recipe.data.train:
                    raise DetdistillError(f"{setting}: the split {split!r} is trained on; nothing is {use} on it")
            for method, terms in self.methods.items():
                try:
                    build_terms(
                        terms,
                        weight=recipe.distillation.weight,
                        ratio=recipe.distillation.ratio,
                        detector=recipe.detector.name,
                    )
                except DetdistillError as error:
                    raise DetdistillError(f"method {method}: {error}") from error

    def cells(self) -> list[Cell]:
        """All runs. Those of one seed come before those of the next: half a comparison compares all methods already."""
        return [
            Cell(setting, method, seed) for seed in self.seeds for setting in self.settings for method in self.methods
        ]

    def cell(self, number: int) -> Cell:
        """Return a run by its place in `cells`.

        Raises:
            SettingsError: There is no such place.
        """
        cells = self.cells()
        if not 0 <= number < len(cells):
            raise SettingsError(f"cell is {number}; expected 0 to {len(cells) - 1} (--list prints the runs)", "plan")
        return cells[number]

    def recipe(self, cell: Cell) -> Recipe:
        """The recipe of one run. No checkpoint is chosen: the final weights count, averaged if the recipe says so."""
        recipe = self.settings[cell.setting]
        recipe = replace(recipe, seed=cell.seed, data=replace(recipe.data, val=None))
        terms = self.methods[cell.method]
        return replace(recipe, distill=replace(recipe.distillation, terms=terms) if terms else None)

    def write(self, file: Path) -> None:
        """Writes the plan with all its values, so that a later default changes nothing.

        Raises:
            DetdistillError: the file cannot be written.
        """
        settings = {name: to_values(recipe) for name, recipe in self.settings.items()}
        write_values({**vars(self), "settings": settings, "seeds": list(self.seeds)}, file)


def read_plan(
    file: Path,
    *,
    methods: str | None = None,
    seeds: int | None = None,
    teacher: str | None = None,
    data: str | None = None,
    report_on: str | None = None,
    select_on: str | None = None,
    images: str | None = None,
    follow_links: bool = False,
) -> Plan:
    """Reads a plan, or the recipe of a distillation, which is compared in one setting.

    A plan's file has any of these keys: `recipe`, a file that all settings share, from the plan's folder; `settings`,
    changes of it by name; `methods`, terms by name; `seeds`, their number or a list; `report_on`; `select_on`;
    `report_images`; `select_images`.

    Args:
        file: the plan or recipe.
        methods: instead of the plan's: `baseline,soft_label,rm+pfi`, terms joined by `+`, with their defaults.
        seeds: instead of the plan's: 0 to `seeds` - 1.
        teacher: run folder, in all settings.
        data: data set, in all settings.
        report_on: instead of the plan's.
        select_on: instead of the plan's.
        images: Image folder of all splits in all settings.
        follow_links: Follow links out of the dataset's folder in all settings.

    Raises:
        DetdistillError: a file cannot be read, or what it says cannot be followed.
    """
    values = read_values(file)
    is_plan = not set(values).isdisjoint({"recipe", "settings", "methods"})
    try:
        written = from_values(_Written, values if is_plan else {"settings": {file.stem: values}})
    except SettingsError as error:
        raise SettingsError(error.problems, str(file)) from None
    shared = {} if written.recipe is None else read_values(file.parent / written.recipe)
    places = {"path": data, "train_images": images, "val_images": images, "follow_links": follow_links or None}
    given = {"distill": {"teacher": teacher}} if teacher is not None else {}
    changes = {**given, "data": {key: value for key, value in places.items() if value is not None}}
    settings = {}
    for name, own in (written.settings or {file.stem: {}}).items():
        recipe = recipe_of(merged(merged(shared, own or {}), changes), f"{file}, setting {name}")
        if recipe.distill is None:
            raise SettingsError(
                f"the setting {name} has no teacher: add `distill: {{teacher: FOLDER}}` to it, or give --teacher",
                str(file),
            )
        settings[str(name)] = recipe
    chosen = written.methods if methods is None else named_methods(methods)
    if chosen is None:
        chosen = named_methods("rm+pfi")
    number = written.seeds if seeds is None else seeds
    return Plan(
        settings,
        {BASELINE: {}} | {str(name): terms or {} for name, terms in chosen.items()},
        tuple(range(number)) if isinstance(number, int) else tuple(number),
        report_on or written.report_on,
        select_on or written.select_on,
        images or written.report_images,
        images or written.select_images,
    )


def named_methods(names: str) -> dict[str, Terms]:
    """Methods as a command line has them: `baseline,soft_label,rm+pfi`; `rm` and `pfi` are the paper's two."""
    found: dict[str, Terms] = {}
    for name in (part.strip() for part in names.split(",")):
        terms = [] if name == BASELINE else [SHORT.get(term, term) for term in name.split("+")]
        found[name] = {term: {} for term in terms}
    return found
