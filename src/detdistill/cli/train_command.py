"""`detdistill train`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from detdistill.cli.parser import Option
from detdistill.core.distributed import is_first_process
from detdistill.core.errors import DetdistillError
from detdistill.training.recipe import Recipe

if TYPE_CHECKING:
    from detdistill.training.run import Summary


@dataclass(frozen=True)
class Train:
    """Train a detector: a teacher, a baseline, a start for distillation.

    What a recipe says in YAML can be said, or changed, by options: `schedule: {epochs: 3}` is `--schedule.epochs 3`.
    An interrupted run goes on with the same command.
    """

    recipe: Recipe
    out: Annotated[Path, Option("folder of the run, made or gone on with")]
    resume: Annotated[bool, Option("go on with a run of another recipe, where that is possible")] = False
    overwrite: Annotated[bool, Option("throw away a run that is in the folder")] = False

    def run(self) -> None:
        """Trains, and tells what came out."""
        with engine():
            from detdistill.training.run import train

            report(self.out, train(self.recipe, self.out, resume=self.resume, overwrite=self.overwrite))


@contextmanager
def engine() -> Iterator[None]:
    """Tells of an extra that is not installed, and of a run that was interrupted."""
    try:
        from detdistill.training.interruption import Interrupted
    except ModuleNotFoundError as error:
        if error.name != "pytorch_lightning":
            raise
        raise DetdistillError("training needs pytorch-lightning: pip install 'detdistill[train]'") from error
    try:
        yield
    except Interrupted as stop:
        if is_first_process():
            print(stop, file=sys.stderr)
        raise SystemExit(stop.exit_status) from stop


def report(folder: Path, summary: Summary) -> None:
    """Prints what came out of a run; of several processes the first one does."""
    if not is_first_process():
        return
    scores = "" if summary.AP is None else f", AP {100 * summary.AP:.1f} (epoch {summary.best_epoch})"
    teacher = "" if summary.teacher_ap is None else f"; the teacher's AP {100 * summary.teacher_ap:.1f}"
    print(f"{folder}: {summary.epochs} epochs, {summary.steps} steps{scores}{teacher}")
