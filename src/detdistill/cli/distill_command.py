"""`detdistill distill` and `detdistill check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from detdistill.cli.recipe_options import DistillOptions
from detdistill.cli.train_command import interruptible, report
from detdistill.core.console import print_out


@dataclass(frozen=True, kw_only=True)
class Distill(DistillOptions):
    """Train a student that learns from a teacher, with Rank Mimicking and Prediction-guided Feature Imitation.

    Every key of a recipe is an option, too, as for `train`: `--distill.terms.rank_mimicking.space prob` changes an
    option of a term. `detdistill recipe show` prints all keys with their defaults, `detdistill methods` all terms. An
    interrupted run is resumed by the same command.
    """

    out: Annotated[Path, Parameter(help="Output directory. An existing run is resumed.")]
    resume: Annotated[bool, Parameter(help="Resume although the recipe changed (compatible changes only).")] = False
    overwrite: Annotated[bool, Parameter(help="Delete the existing run and start over.")] = False

    def run(self) -> None:
        """Distils, and prints the summary."""
        recipe = self.read()
        with interruptible():
            from detdistill.training.run import distill

            report(self.out, distill(recipe, None, self.out, resume=self.resume, overwrite=self.overwrite))


@dataclass(frozen=True, kw_only=True)
class Check(DistillOptions):
    """Check whether teacher and student are compatible, before training: levels, channels, classes, and each loss.

    Takes the recipe and options of `distill`, and writes nothing.
    """

    def run(self) -> None:
        """Prints the preflight."""
        recipe = self.read()
        with interruptible():
            from detdistill.training.run import check

            print_out(check(recipe))
