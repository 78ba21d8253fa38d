"""The folder of a run: whose it is, and what is written into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from detdistill.core.errors import DetdistillError, listed
from detdistill.core.files import read_regular, write_atomically
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import differences, read_recipe_of_run, resolved, write_recipe

LOCKED_OF_DISTILL = (
    *("teacher", "teacher_weights", "terms", "weight", "ratio", "class_map", "init_from_teacher"),
    *("unlabelled.images", "unlabelled.share", "unlabelled.check_copies", "unlabelled.pseudo_labels"),
)
LOCKED = (
    *("detector", "images", "start", "batch_size", "seed", "optimization.optimizer", "optimization.ema"),
    *(f"distill.{key}" for key in LOCKED_OF_DISTILL),
)
"""What a run that goes on cannot change: its checkpoint would not fit, or its past would be another's."""

START = {"recipe.yaml", "resume", "lock"}
"""What a run has written before its first step."""

UNBEGUN = START | {"metrics.jsonl"}
"""What a run leaves that failed before its first checkpoint: nothing to keep, nothing to go on from."""

PATIENCE = 10.0
"""Seconds for the loading processes of a killed run to notice that, and let go of its lock."""


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

    @property
    def page(self) -> Path:
        """Curves, scores and images for people."""
        return self.path / "run.html"

    @property
    def lock(self) -> Path:
        """Held by the process that trains in the folder."""
        return self.path / "resume" / "lock"

    @contextmanager
    def held(self, patience: float = PATIENCE) -> Iterator[None]:
        """Makes the folder if there is none, and keeps other processes from training in it meanwhile.

        A run that fails before its first step leaves nothing behind.

        Args:
            patience: how long to wait for another process, in seconds.

        Raises:
            DetdistillError: another process is training in it, or something else is there: files of other origin.
        """
        if self.path.exists() and not self.path.is_dir():
            raise DetdistillError(f"{self.path} is a file: name a folder for the run")
        was_there = self.path.exists()
        if not self.recipe.exists() and not self._holds_only(UNBEGUN):
            raise DetdistillError(f"{self.path} holds files, but no run (no {self.recipe.name}): name another folder")
        try:
            self.lock.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.lock).acquire(timeout=patience)
        except Timeout as error:
            raise DetdistillError(
                f"another process is training in {self.path}: let it come to its end, or name another folder"
            ) from error
        except OSError as error:
            raise DetdistillError(f"{self.path} cannot be used: {error.strerror}") from error
        with lock:
            try:
                yield
            except BaseException:
                self._remove_start(was_there=was_there)
                raise

    def _remove_start(self, *, was_there: bool) -> None:
        if not self._holds_only(START):
            return
        self.recipe.unlink(missing_ok=True)
        shutil.rmtree(self.lock.parent, ignore_errors=True)
        if not was_there:
            self.path.rmdir()

    def prepare(self, recipe: Recipe, *, resume: bool, overwrite: bool) -> Recipe:
        """Makes the folder, which is held, ready for a run, from its beginning or from its checkpoint.

        Args:
            recipe: of the run.
            resume: go on although the recipe differs, where that is possible.
            overwrite: throw away a run that is there.

        Returns:
            The recipe, with the values of the run that is there in the place of `auto`; it is written to the folder.

        Raises:
            DetdistillError: another recipe's run is there.
        """
        try:
            if overwrite:
                self._discard()
            elif self._holds_only(UNBEGUN):
                self.metrics.unlink(missing_ok=True)
            else:
                recipe = self._agreed(recipe, resume=resume)
            for leftover in [entry for entry in self.path.rglob("*") if _is_leftover(entry)]:
                leftover.unlink()
        except OSError as error:
            raise DetdistillError(f"{self.path} cannot be used: {error.strerror}") from error
        write_recipe(recipe, self.recipe)
        return recipe

    def _holds_only(self, names: Set[str]) -> bool:
        """Whether the folder holds nothing but these, and what a killed write has left."""
        return {entry.name for entry in self.path.rglob("*") if not _is_leftover(entry)} <= names

    def _discard(self) -> None:
        # The summary first: what a kill leaves is no finished run. The recipe last: nor is it of other origin.
        self.summary.unlink(missing_ok=True)
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry == self.recipe):
            if entry == self.lock.parent:
                self.checkpoint.unlink(missing_ok=True)
            elif entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _agreed(self, recipe: Recipe, *, resume: bool) -> Recipe:
        """The recipe of the resumed run."""
        old = read_recipe_of_run(self.recipe)
        recipe = resolved(recipe, old)
        different = differences(old, recipe)
        if not different:
            return recipe
        changes = listed([f"{key}: {change}" for key, change in different.items()])
        if not resume:
            raise DetdistillError(
                f"{self.path} holds a run of another recipe (there -> here):{changes}\nName another folder; or go on "
                "with the new recipe (--resume), where that is possible; or throw that run away (--overwrite)"
            )
        locked = [key for key in different if key.startswith(LOCKED)]
        if locked:
            raise DetdistillError(
                f"{self.path}: a run cannot go on with another {', '.join(locked)}:{changes}\nName another folder, or "
                "throw that run away (--overwrite)"
            )
        if recipe.schedule.epochs < old.schedule.epochs:
            raise DetdistillError(
                f"{self.path}: a run cannot go on with fewer epochs (schedule.epochs {different['schedule.epochs']}): "
                "name another folder, or stop early (evaluation.patience)"
            )
        self.summary.unlink(missing_ok=True)
        return recipe

    def is_finished(self, recipe: Recipe) -> bool:
        """Whether the folder holds the finished run of this very recipe.

        Another process may be making the folder ready for a changed recipe: it takes the summary away first, and writes
        the recipe then. So the summary counts that is there after the recipe was read.
        """
        if not self.summary.exists() or not self.recipe.exists():  # reading a recipe takes a quarter of a second
            return False
        return not differences(read_recipe_of_run(self.recipe), recipe) and self.summary.exists()

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
        kept = [line for line, values in self._lines() if _is_before(values, step)]
        write_atomically(self.metrics, b"".join(kept))

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield each line of `metrics.jsonl`, and what it says; a last one that a kill or a full disk tore is none."""
        try:
            lines = read_regular(self.metrics).splitlines(keepends=True)
        except OSError as error:
            raise DetdistillError(f"{self.metrics} cannot be read: {error.strerror}") from error
        for number, line in enumerate(lines, start=1):
            try:
                values = json.loads(line)
            except ValueError as error:
                if number == len(lines):
                    return
                raise self._bad_line(number, "is no JSON") from error
            if not isinstance(values, dict) or not isinstance(values.get("step"), int):
                raise self._bad_line(number, 'is no object with a "step"')
            yield line, values

    def _bad_line(self, number: int, what: str) -> DetdistillError:
        return DetdistillError(
            f"{self.metrics}, line {number}: the line {what}; remove it, or copy the file again from where it is whole"
        )


def _is_leftover(entry: Path) -> bool:
    """Whether it is the temporary file of a write that was killed."""
    return entry.name.startswith(".") and entry.name.endswith(".tmp")


def _is_before(values: Mapping[str, Any], step: int) -> bool:
    """Whether a run resumed after `step` will not write this line again."""
    return bool(values["step"] < step or (values["step"] == step and "AP" not in values))
