"""`detdistill train`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from detdistill.cli.recipe_options import RecipeOptions
from detdistill.core.console import print_err, print_out
from detdistill.core.distributed import is_first_process

if TYPE_CHECKING:
    from detdistill.training.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Train(RecipeOptions):
    """Train a detector: a teacher, a baseline, a start for distillation.

    Every key of a recipe is an option, too: `schedule: {epochs: 3}` is `--schedule.epochs 3`. An option counts more
    than the recipe's file. `detdistill recipe show` prints all keys with their defaults. An interrupted run is resumed
    by the same command.
    """

    out: Annotated[Path, Parameter(help="Output directory. An existing run is resumed.")]
    resume: Annotated[bool, Parameter(help="Resume although the recipe changed (compatible changes only).")] = False
    overwrite: Annotated[bool, Parameter(help="Delete the existing run and start over.")] = False

    def run(self) -> None:
        """Trains, and prints the summary."""
        recipe = self.read()
        with interruptible():
            from detdistill.training.run import train

            report(self.out, train(recipe, self.out, resume=self.resume, overwrite=self.overwrite))


@contextmanager
def interruptible() -> Iterator[None]:
    """Tell of a run that was interrupted, and end with its exit status."""
    from detdistill.training.interruption import Interrupted

    try:
        yield
    except Interrupted as stop:
        if is_first_process():
            print_err(stop)
        raise SystemExit(stop.exit_status) from stop


def report(folder: Path, summary: Summary) -> None:
    """Print what came out of a run and what to do next; of several processes the first one does."""
    if not is_first_process():
        return
    from detdistill.training.closing import closing_words
    from detdistill.training.recipe_file import read_recipe_of_run
    from detdistill.training.run_folder import RunFolder

    run = RunFolder(folder.absolute())
    print_out("\n".join(closing_words(run, read_recipe_of_run(run.recipe), summary)))
