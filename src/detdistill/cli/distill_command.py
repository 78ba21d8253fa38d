"""`detdistill distill` and `detdistill check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from detdistill.cli.parser import Option
from detdistill.cli.train_command import engine, report
from detdistill.training.recipe import DistillationRecipe


@dataclass(frozen=True)
class Distill:
    """Train a student that learns from a teacher, with Rank Mimicking and Prediction-guided Feature Imitation.

    Recipes and options are those of `train`, and the teacher's: `--terms rank_mimicking,prediction_guided` names the
    methods, `--terms.rank_mimicking.space prob` changes one. An interrupted run goes on with the same command.
    """

    recipe: DistillationRecipe
    out: Annotated[Path, Option("folder of the run, made or gone on with")]
    resume: Annotated[bool, Option("go on with a run of another recipe, where that is possible")] = False
    overwrite: Annotated[bool, Option("throw away a run that is in the folder")] = False

    def run(self) -> None:
        """Distils, and tells what came out."""
        with engine():
            from detdistill.training.distillation import distill

            report(self.out, distill(self.recipe, self.out, resume=self.resume, overwrite=self.overwrite))


@dataclass(frozen=True)
class Check:
    """Tell what fits between a teacher and a student before training: levels, channels, classes, and each loss.

    Takes the recipe and options of `distill`, and writes nothing.
    """

    recipe: DistillationRecipe

    def run(self) -> None:
        """Prints the preflight."""
        with engine():
            from detdistill.training.distillation import check

            print(check(self.recipe))
