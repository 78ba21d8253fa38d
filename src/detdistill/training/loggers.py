"""Other places that get the numbers of a run: TensorBoard, CSV, and loggers of the user's choice."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from detdistill.core.console import print_err
from detdistill.core.distributed import is_first_process
from detdistill.core.errors import DetdistillError
from detdistill.core.settings import to_values
from detdistill.training.recipe import Recipe


class Loggers:
    """The loggers of a recipe, in the first process; in the others nothing is logged.

    If a logger fails during the run, a note says so once, and the run continues without it.

    Args:
        recipe: With `logging.loggers`.
        folder: Of the run.

    Raises:
        DetdistillError: A logger cannot be imported or made.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self._loggers: dict[str, Any] = {}
        if not is_first_process():
            return
        for name, options in recipe.logging.options_of_loggers.items():
            self._loggers[name] = _made(name, options, folder)
            self._call(name, "log_hyperparams", to_values(recipe))

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Pass on the numbers among named values.

        Args:
            values: Numbers by name; what is no number is left out.
            step: The step that they belong to.
        """
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        for name in list(self._loggers):
            self._call(name, "log_metrics", numbers, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Let the loggers write what they hold back."""
        for name in list(self._loggers):
            self._call(name, "finalize", "success" if error is None else "failed")

    def _call(self, name: str, method: str, *arguments: Any) -> None:
        try:
            getattr(self._loggers[name], method)(*arguments)
        except NotImplementedError:
            pass  # some take no hyperparameters
        except Exception as error:  # whatever a service raises
            del self._loggers[name]
            print_err(f"note: the logger {name} failed ({error!r}) and gets nothing more")


def _made(name: str, options: Mapping[str, Any], folder: Path) -> Any:
    own: dict[str, Any] = {"tensorboard": TensorBoardLogger, "csv": CSVLogger}
    if name in own:
        options = {"root_dir": folder, "name": name, "version": "", **options}
    try:
        found = own[name] if name in own else getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
        logger = found(**options) if callable(found) else found
    except Exception as error:  # whatever an import and a foreign constructor raise
        raise DetdistillError(
            f"logging.loggers: {name} cannot be used ({error!r}); expected tensorboard, csv, or the import path of a "
            "class with the methods of lightning-fabric's Logger; install what it needs (pip install "
            "'detdistill[loggers]' for TensorBoard and the loggers of pytorch-lightning)"
        ) from error
    if not callable(getattr(logger, "log_metrics", None)):
        raise DetdistillError(
            f"logging.loggers: {name} is a {type(logger).__name__} without the method log_metrics(metrics, step); "
            "expected an object with the methods of lightning-fabric's Logger"
        )
    return logger
