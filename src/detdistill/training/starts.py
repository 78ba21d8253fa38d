"""What the processes of a run must agree on before the first step."""

from __future__ import annotations

from typing import Any

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import computed_once
from detdistill.core.errors import DetdistillError
from detdistill.core.settings import to_values
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import differences, recipe_of


def compare_starts(recipe: Recipe, dataset: DetectionDataset, step: int) -> None:
    """Compare what all processes of a run are about to do; each calls this.

    Args:
        recipe: Of the run; `auto` equals every value.
        dataset: The training set.
        step: The step after which the run goes on.

    Raises:
        DetdistillError: Another process has another recipe, other data or another checkpoint.
    """
    computed_once((to_values(recipe), dataset.fingerprint, step), _check_equal)


def _check_equal(starts: list[tuple[dict[str, Any], str, int]]) -> None:
    for number, other in enumerate(starts):
        recipe, fingerprint, step = starts[0]
        different = differences(recipe_of(recipe, "process 0"), recipe_of(other[0], f"process {number}"))
        if different:
            changes = "; ".join(f"{key}: {change}" for key, change in different.items())
            raise DetdistillError(f"process {number} has another recipe than process 0 ({changes}): give all the same")
        if other[1] != fingerprint:
            raise DetdistillError(
                f"process {number} has another training set than process 0: images or annotations differ between the "
                "machines; copy them again"
            )
        if other[2] != step:
            raise DetdistillError(
                f"process {number} would go on after step {other[2]}, process 0 after step {step}: all need the run "
                "folder on one shared file system"
            )
