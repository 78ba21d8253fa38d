"""Scores on the validation set while training, and the detector that is kept by them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from detdistill.core.annotations import DetectionDataset
from detdistill.core.console import print_err
from detdistill.core.distributed import is_first_process
from detdistill.detectors.base import Detector
from detdistill.detectors.saving import save_detector
from detdistill.evaluation.coco_metrics import CocoMetrics, metrics_and_results
from detdistill.evaluation.evaluating import Evaluation, evaluation_of
from detdistill.evaluation.score import score
from detdistill.training.loggers import Loggers
from detdistill.training.recipe import Recipe
from detdistill.training.run_folder import RunFolder
from detdistill.training.scoring import inference_options
from detdistill.training.task import Task

LAST = "last"
"""Folder in the run folder for the detector of the last epoch, where the best one is another."""


class Scores:
    """Evaluates, and keeps the best detector in the run folder; without a validation set, the last one.

    A checkpoint is written before scores are taken: stopped in between, the resumed run takes them first.

    Args:
        folder: Of the run.
        recipe: Of the run.
        task: What is learnt.
        dataset: The training set.
        validation: What the best detector is chosen by, its classes the detector's; None keeps the last one.
        loggers: Get the numbers, too.

    Attributes:
        best: The highest AP so far, 0 to 1, and its epoch.
        without_gain: Evaluations since then.
        awaited: Epoch and step of scores that were not taken yet.
        teacher_ap: The teacher's AP on the validation set, 0 to 1; None without one.
        evaluation: The last one of this process, for the page of the run; None without a page or before.
    """

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        task: Task,
        dataset: DetectionDataset,
        validation: DetectionDataset | None,
        loggers: Loggers,
    ) -> None:
        self._folder, self._recipe, self._task = folder, recipe, task
        self._dataset, self._validation, self._loggers = dataset, validation, loggers
        self._metrics: CocoMetrics | None = None
        self.evaluation: Evaluation | None = None
        self.best: tuple[float, int] | None = None
        self.without_gain = 0
        self.awaited: tuple[int, int] | None = None
        self.teacher_ap: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know, in plain types."""
        return {
            "best": self.best,
            "without_gain": self.without_gain,
            "awaited": self.awaited,
            "teacher_ap": self.teacher_ap,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of the run before."""
        self.best, self.without_gain = state["best"], state["without_gain"]
        self.awaited, self.teacher_ap = state["awaited"], state["teacher_ap"]

    @property
    def is_patience_over(self) -> bool:
        """Whether AP has not risen for as many evaluations as the recipe waits."""
        patience = self._recipe.evaluation.patience
        return patience is not None and self.without_gain >= patience

    def score_teacher(self) -> None:
        """Take the teacher's AP, once."""
        if self._validation is not None and self.teacher_ap is None:
            self.teacher_ap = self._task.teacher_ap(self._validation)

    def await_epoch(self, epoch: int, step: int) -> None:
        """Note that an epoch that is done, counted from 1, is to be scored, if the recipe says so."""
        recipe = self._recipe
        if epoch == recipe.schedule.epochs or epoch % recipe.evaluation.every == 0:
            self.awaited = epoch, step

    def take(self, detector: Detector) -> None:
        """Take the awaited scores, if there are any, and keep the detector if it is the best so far.

        Args:
            detector: As it was at the awaited step.
        """
        if self.awaited is None:
            return
        epoch, step = self.awaited
        if self._validation is None:
            self._keep(detector, epoch)
        else:
            self._score(detector, self._validation, epoch, step)
        self.awaited = None

    def log(self, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Write numbers into `metrics.jsonl` and to the loggers, in the first process."""
        if is_first_process():
            self._folder.log(step=step, epoch=epoch, **values)
            self._loggers.log(values, step)

    def _score(self, detector: Detector, validation: DetectionDataset, epoch: int, step: int) -> None:
        recipe = self._recipe
        self._metrics, results = score(
            detector, validation, recipe.images, metrics_and_results, inference_options(recipe)
        )
        if recipe.logging.page and is_first_process():
            self.evaluation = evaluation_of(validation, results, self._metrics)
        numbers = self._metrics.to_values()
        per_class = {name: values["AP50"] for name, values in numbers.pop("per_class").items()}
        self.log(step, epoch, {**numbers, "AP50_per_class": per_class})
        ap = self._metrics.AP or 0.0
        self.without_gain = 0 if self.best is None or ap > self.best[0] else self.without_gain + 1
        # Of equals the later one has learnt more: at first they are all 0.
        if self.best is None or ap >= self.best[0]:
            self.best = ap, epoch
            self._keep(detector, epoch)
        if is_first_process():
            best = (
                "the best so far" if self.best[1] == epoch else f"best {100 * self.best[0]:.1f} in epoch {self.best[1]}"
            )
            scores = f"AP {100 * ap:.1f}, AP50 {100 * (self._metrics.AP50 or 0.0):.1f}"
            teacher = "" if self.teacher_ap is None else f"; the teacher's AP {100 * self.teacher_ap:.1f}"
            print_err(f"epoch {epoch}: {scores} on the validation set ({best}{teacher})")

    def keep_last(self, detector: Detector, epoch: int) -> None:
        """Keep the detector of the last epoch beside the best one, if it is another one."""
        if self.best is not None and self.best[1] != epoch:
            self._save(detector, epoch, self._folder.path / LAST)

    def _keep(self, detector: Detector, epoch: int) -> None:
        self._save(detector, epoch, self._folder.path)

    def _save(self, detector: Detector, epoch: int, folder: Path) -> None:
        if not is_first_process():
            return
        save_detector(
            detector,
            folder,
            provenance={
                **self._task.origin(),
                "data": {"source": self._dataset.source, "annotations_sha256": self._dataset.fingerprint},
                "seed": self._recipe.seed,
                "epoch": epoch,
                "validation_AP": None if self._metrics is None else self._metrics.AP,
                "lightning-fabric": version("lightning-fabric"),
            },
        )
