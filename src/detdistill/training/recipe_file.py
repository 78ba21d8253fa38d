"""Recipes as YAML files. Readable without torch."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from detdistill.core.errors import SettingsError
from detdistill.core.files import LARGEST_SETTINGS, read_regular, write_atomically
from detdistill.core.image_options import ImageSize
from detdistill.core.settings import fields_of, from_values, to_values
from detdistill.detectors.dense.efficientdet_scaling import DEFAULT_PRESET, SCALINGS
from detdistill.training.recipe import Recipe
from detdistill.training.renamed_keys import RENAMED, converted
from detdistill.training.yaml_values import read_yaml, write_yaml

FREE = ("options", "terms", "class_map", "threshold")
"""Keys whose values depend on other choices: a changed one replaces the former, nothing is merged."""


def read_recipe(file: Path) -> Recipe:
    """Read a recipe; what it leaves out has its default.

    Raises:
        SettingsError: It cannot be read, or has an unknown key (the nearest is suggested) or a wrong value.
    """
    return recipe_of(read_values(file), str(file))


def read_recipe_of_run(file: Path) -> Recipe:
    """Read the recipe in a run folder, which an older version may have written with former keys.

    Raises:
        SettingsError: As in `read_recipe`.
    """
    return recipe_of(converted(read_values(file)), str(file))


def read_values(file: Path) -> dict[str, Any]:
    """Read a YAML file of keys and values.

    Raises:
        SettingsError: It cannot be read, holds something else, or has a key twice.
    """
    try:
        text = str(read_regular(file, LARGEST_SETTINGS), "utf-8")
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", str(file)) from error
    except UnicodeDecodeError as error:
        raise SettingsError("not a recipe: it is not a text file", str(file)) from error
    try:
        values = read_yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(str(error), str(file)) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError("not a recipe: expected `key: value` lines", str(file))
    return values


def recipe_of(values: Mapping[str, Any], source: str) -> Recipe:
    """Build a recipe from nested values.

    Args:
        values: As a recipe's file has them; a `detector` without a `kind` is a `gfl`, and images without a size have
            that of an EfficientDet's preset.
        source: Where they come from, for messages.

    Raises:
        SettingsError: An unknown key (the nearest is suggested; of a former one the present one) or a wrong value.
    """
    detector = values.get("detector", {})
    if isinstance(detector, Mapping):
        values = {**values, "detector": {"kind": "gfl", **detector}}
    values = _with_image_size(values)
    try:
        return from_values(Recipe, values, renamed=RENAMED)
    except SettingsError as error:
        raise SettingsError(error.problems, source) from None


def _with_image_size(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Nested values with the image size of the detector's preset, if it has one and no size is given."""
    detector, images = values.get("detector"), values.get("images", {})
    if not isinstance(images, Mapping) or images.keys() & fields_of(ImageSize).keys():
        return values
    read = detector.get if isinstance(detector, Mapping) else functools.partial(getattr, detector)
    if read("kind", None) != "efficientdet":
        return values
    preset = read("preset", None) or DEFAULT_PRESET
    side = next((scaling.side for name, scaling in SCALINGS.items() if name == preset), None)
    return values if side is None else {**values, "images": {"letterbox": side, **images}}


def schema_text() -> str:
    """Return the JSON schema of recipes, by which editors complete and check their keys."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(Recipe).json_schema()}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def write_schema(file: Path) -> None:
    """Write the JSON schema of recipes.

    Raises:
        DetdistillError: The file cannot be written.
    """
    write_atomically(file, schema_text())


def recipe_from(data_or_recipe: str | PathLike[str] | Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a call in Python.

    Args:
        data_or_recipe: Dataset, for a recipe with defaults, or a recipe.
        changes: Sections and values of the recipe, for example `{"schedule": {"epochs": 3}, "batch_size": 8}`. A
            mapping changes the keys that it has; a `Schedule` and the like replaces its section.

    Raises:
        SettingsError: As in `recipe_of`.
    """
    if isinstance(data_or_recipe, Recipe):
        return recipe_of(merged(to_values(data_or_recipe), changes), "settings") if changes else data_or_recipe
    return recipe_of(merged({"data": {"path": fspath(data_or_recipe)}}, changes), "settings")


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested values with some of them changed."""
    result = copy.deepcopy(dict(values))
    for key, value in changes.items():
        is_group = isinstance(value, Mapping) and isinstance(result.get(key), Mapping) and key not in FREE
        result[key] = merged(result[key], value) if is_group else value
    return result


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Write a recipe with all its values, so that a later default changes nothing.

    Raises:
        DetdistillError: The file cannot be written.
    """
    write_values(to_values(recipe), file)


def write_values(values: Mapping[str, Any], file: Path) -> None:
    """Write nested values as YAML.

    Raises:
        DetdistillError: The file cannot be written.
    """
    write_atomically(file, write_yaml(values))


def resolved(recipe: Recipe, kept: Recipe) -> Recipe:
    """Return a recipe with the values of a run in the place of `auto`.

    Args:
        recipe: With `machine.precision`, `machine.threads` or `distill.unlabelled.threshold` `auto`, or none of them.
        kept: The recipe in the run's folder, with the values that were chosen when it began.
    """
    own, theirs = recipe.machine, kept.machine
    precision = theirs.precision if own.precision == "auto" else own.precision
    threads = theirs.threads if own.threads == "auto" else own.threads
    recipe = replace(recipe, machine=replace(own, precision=precision, threads=threads))
    if recipe.distill is None or kept.distill is None:
        return recipe
    unlabelled, there = recipe.distill.unlabelled, kept.distill.unlabelled
    if unlabelled is None or there is None or unlabelled.threshold != "auto":
        return recipe
    unlabelled = replace(unlabelled, threshold=there.threshold)
    return replace(recipe, distill=replace(recipe.distill, unlabelled=unlabelled))


def differences(old: Recipe, new: Recipe) -> dict[str, str]:
    """Return what two recipes differ in: `old -> new` by key, such as `{"schedule.epochs": "12 -> 24"}`.

    `auto` equals every value that it may have been resolved to.
    """
    before, after = (_flat(to_values(recipe)) for recipe in (resolved(old, new), resolved(new, old)))
    return {
        key: f"{before.get(key)} -> {after.get(key)}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
