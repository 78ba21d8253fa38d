"""`detdistill train`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from detdistill.cli.parser import Option
from detdistill.errors import DetdistillError
from detdistill.training.processes import is_first_process
from detdistill.training.recipe import Recipe


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
        try:
            from detdistill.training.interruption import Interrupted
            from detdistill.training.run import train
        except ModuleNotFoundError as error:
            if error.name != "pytorch_lightning":
                raise
            raise DetdistillError("training needs pytorch-lightning: pip install 'detdistill[train]'") from error

        try:
            summary = train(self.recipe, self.out, resume=self.resume, overwrite=self.overwrite)
        except Interrupted as stop:
            if is_first_process():
                print(stop, file=sys.stderr)
            raise SystemExit(stop.exit_status) from stop
        if not is_first_process():
            return
        scores = "" if summary.AP is None else f", AP {100 * summary.AP:.1f} (epoch {summary.best_epoch})"
        print(f"{self.out}: {summary.epochs} epochs, {summary.steps} steps{scores}")
