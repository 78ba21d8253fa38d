"""The folder of a run: whose it is, and what is written into it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detdistill.errors import DetdistillError
from detdistill.files import write_atomically
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import differences, read_recipe, write_recipe

LOCKED = (
    *("detector", "images", "start", "batch_size", "seed", "optimization.optimizer", "optimization.ema"),
    *("teacher", "terms", "weight", "ratio", "class_map", "init_from_teacher"),
)
"""What a run that goes on cannot change: its checkpoint would not fit, or its past would be another's."""

UNBEGUN = {"recipe.yaml", "metrics.jsonl", "resume"}
"""What a run leaves that failed before its first checkpoint: nothing to keep, nothing to go on from."""


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run's folder.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def recipe(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def checkpoint(self) -> Path:
        """The last state from which the run can go on."""
        return self.path / "resume" / "state.ckpt"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: losses by step, scores by epoch."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """What came out; only a finished run has it."""
        return self.path / "summary.json"

    def prepare(self, recipe: Recipe, *, resume: bool, overwrite: bool) -> None:
        """Makes the folder ready for a run, from its beginning or from its checkpoint.

        Args:
            recipe: of the run.
            resume: go on although the recipe differs, where that is possible.
            overwrite: throw away a run that is there.

        Raises:
            DetdistillError: something else is there: another recipe's run, or files of other origin.
        """
        if resume and overwrite:
            raise DetdistillError("--resume goes on with a run and --overwrite throws it away: give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise DetdistillError(f"{self.path} is a file: name a folder for the run")
        if overwrite:
            self._discard()
        elif self.recipe.exists() and {entry.name for entry in self.path.rglob("*")} <= UNBEGUN:
            self.metrics.unlink(missing_ok=True)
        elif self.recipe.exists():
            self._check_recipe(recipe, resume=resume)
        elif self.path.exists() and any(self.path.iterdir()):
            raise DetdistillError(f"{self.path} holds files, but no run (no {self.recipe.name}): name another folder")
        try:
            self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
            for leftover in self.path.rglob(".*.tmp"):  # of a write that was killed
                leftover.unlink()
        except OSError as error:
            raise DetdistillError(f"{self.path} cannot be used: {error.strerror}") from error
        write_recipe(recipe, self.recipe)

    def _discard(self) -> None:
        if self.path.exists() and any(self.path.iterdir()) and not self.recipe.exists():
            raise DetdistillError(f"{self.path} holds no run (no {self.recipe.name}): it is not overwritten")
        shutil.rmtree(self.path, ignore_errors=True)

    def _check_recipe(self, recipe: Recipe, *, resume: bool) -> None:
        old = read_recipe(self.recipe)
        different = differences(old, recipe)
        if not different:
            return
        listed = "".join(f"\n  {key}: {change}" for key, change in different.items())
        if not resume:
            raise DetdistillError(
                f"{self.path} holds a run of another recipe (there -> here):{listed}\nName another folder; or go on "
                "with the new recipe (--resume), where that is possible; or throw that run away (--overwrite)"
            )
        locked = [key for key in different if key.startswith(LOCKED)]
        if locked:
            raise DetdistillError(
                f"{self.path}: a run cannot go on with another {', '.join(locked)}:{listed}\nName another folder, or "
                "throw that run away (--overwrite)"
            )
        if recipe.schedule.epochs < old.schedule.epochs:
            raise DetdistillError(
                f"{self.path}: a run cannot go on with fewer epochs (schedule.epochs {different['schedule.epochs']}): "
                "name another folder, or stop early (evaluation.patience)"
            )
        self.summary.unlink(missing_ok=True)

    def is_finished(self, recipe: Recipe) -> bool:
        """Whether the folder holds the finished run of this very recipe.

        Another process may be making the folder ready for a changed recipe: it takes the summary away first, and writes
        the recipe then. So the recipe is looked at first.
        """
        return self.recipe.exists() and not differences(read_recipe(self.recipe), recipe) and self.summary.exists()

    def log(self, **values: Any) -> None:
        """Appends a line to `metrics.jsonl`.

        Raises:
            DetdistillError: the file cannot be written.
        """
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DetdistillError(f"{self.metrics} cannot be written: {error.strerror}") from error

    def forget_after(self, step: int) -> None:
        """Leaves out the lines that a run resumed after `step` will write again, scores at that step among them."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                values = json.loads(line)
            except ValueError:  # torn by a kill
                break
            if values["step"] < step or (values["step"] == step and "AP" not in values):
                kept.append(line)
        write_atomically(self.metrics, "".join(kept))
