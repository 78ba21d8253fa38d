"""What the processes of a run must agree on before the first step."""

from __future__ import annotations

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import computed_once
from detdistill.core.errors import DetdistillError
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import differences


def compare_starts(recipe: Recipe, dataset: DetectionDataset, step: int) -> None:
    """Compare what all processes of a run are about to do; each calls this.

    Args:
        recipe: Of the run; `auto` equals every value.
        dataset: The training set.
        step: The last step that is done.

    Raises:
        DetdistillError: Another process has another recipe, other data or another checkpoint.
    """
    computed_once((recipe, dataset.fingerprint, step), _check_equal)


def _check_equal(starts: list[tuple[Recipe, str, int]]) -> None:
    recipe, fingerprint, step = starts[0]
    for number, other in enumerate(starts):
        different = differences(recipe, other[0])
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
                f"process {number} resumes after step {other[2]}, process 0 after step {step}: put the run folder "
                "on a file system that all processes share"
            )
