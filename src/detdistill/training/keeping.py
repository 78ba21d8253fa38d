"""What a run keeps while it goes on: checkpoints to go on from, scores, and the best detector."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import Callback, LightningModule, Trainer

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically
from detdistill.detectors.saving import save_detector
from detdistill.evaluation.coco_metrics import CocoMetrics, coco_metrics
from detdistill.evaluation.score import score
from detdistill.training.interruption import Interruption
from detdistill.training.module import DetectorTraining
from detdistill.training.run_folder import RunFolder
from detdistill.training.scoring import inference_options

REMEMBERED = ("best", "without_gain", "awaited", "teacher_ap")
"""Attributes of `Keeping` that a resumed run must know."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or as they were before, whatever happens while one is written."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:  # noqa: ARG002
        """Raises `DetdistillError` if the disk is full; the checkpoint before is untouched."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())


class Keeping(Callback):
    """Saves, evaluates, and stops early.

    A checkpoint is written before the scores are taken: stopped in between, the resumed run takes them first.

    Args:
        folder: of the run.
        validation: what the best detector is chosen by, its classes the detector's; None keeps the last one.
        interruption: who asks for a stop.
        origin: tells where what the detector knows comes from, for `model.json`.
        teacher_score: the teacher's AP on a data set, 0 to 1; None without a teacher.

    Attributes:
        best: the highest AP so far, 0 to 1, and its epoch.
        without_gain: evaluations since then.
        awaited: epoch and step of scores that were not taken yet.
        teacher_ap: the teacher's on the validation set, 0 to 1.
    """

    def __init__(
        self,
        folder: RunFolder,
        validation: DetectionDataset | None,
        interruption: Interruption,
        origin: Callable[[], Mapping[str, Any]],
        teacher_score: Callable[[DetectionDataset], float | None] | None = None,
    ) -> None:
        self.folder, self.validation, self.interruption = folder, validation, interruption
        self.origin, self.teacher_score = origin, teacher_score
        self.teacher_ap: float | None = None
        self.best: tuple[float, int] | None = None
        self.without_gain = 0
        self.awaited: tuple[int, int] | None = None
        self.metrics: CocoMetrics | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"teacher": self.origin().get("teacher"), **{key: getattr(self, key) for key in REMEMBERED}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the state of the run before.

        Raises:
            DetdistillError: the teacher is not the one that the run was started with.
        """
        before, now = state_dict["teacher"], self.origin().get("teacher")
        if before != now:
            raise DetdistillError(
                f"{self.folder.path} was started with the teacher {before} and would go on with {now}: put that "
                "teacher back, or start anew in another folder, or here (--overwrite)"
            )
        for key in REMEMBERED:
            setattr(self, key, state_dict[key])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the teacher's score, and those that the run before did not come to."""
        assert isinstance(pl_module, DetectorTraining)
        if self.teacher_score is not None and self.validation is not None and self.teacher_ap is None:
            self.teacher_ap = self.teacher_score(self.validation)
        if self.awaited is not None:
            self._evaluate(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Logs, saves at intervals, stops when asked to."""
        assert isinstance(pl_module, DetectorTraining)
        logging, step = pl_module.recipe.logging, trainer.global_step
        if step % logging.every == 0:
            self._log_losses(trainer, pl_module)
        if trainer.is_last_batch:
            return  # the epoch's end saves
        if pl_module.stopping or (logging.save_every is not None and step % logging.save_every == 0):
            self._save(trainer)
        if pl_module.stopping:
            raise self.interruption.stopped(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, then evaluates; keeps the detector if it is the best so far."""
        assert isinstance(pl_module, DetectorTraining)
        epoch, recipe = trainer.current_epoch + 1, pl_module.recipe
        is_last = epoch == recipe.schedule.epochs
        if is_last or epoch % recipe.evaluation.every == 0:
            self.awaited = epoch, trainer.global_step
        self._save(trainer)
        if pl_module.stopping:
            raise self.interruption.stopped(trainer)
        if self.awaited is not None:
            self._evaluate(trainer, pl_module)
        patience = recipe.evaluation.patience
        if patience is not None and self.without_gain >= patience:
            trainer.should_stop = True

    def _save(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(self.folder.checkpoint)

    def _log_losses(self, trainer: Trainer, module: DetectorTraining) -> None:
        (optimizer,) = trainer.optimizers
        values = {
            "loss": sum(module.losses.values()),
            **module.losses,
            **{f"{name}/raw": value for name, value in module.raw.items()},
            **{f"{name}/weight": value for name, value in module.learner.weights().items()},
            "gradient_norm": module.gradient_norm,
            "learning_rate": max(group["lr"] for group in optimizer.param_groups),
        }
        self._log(trainer, trainer.global_step, trainer.current_epoch + 1, values)

    def _log(self, trainer: Trainer, step: int, epoch: int, values: dict[str, Any]) -> None:
        if not trainer.is_global_zero:
            return
        self.folder.log(step=step, epoch=epoch, **values)
        for logger in trainer.loggers:
            logger.log_metrics({key: value for key, value in values.items() if isinstance(value, float)}, step)

    def _evaluate(self, trainer: Trainer, module: DetectorTraining) -> None:
        assert self.awaited is not None
        epoch, step = self.awaited
        recipe = module.recipe
        if self.validation is None:
            self._keep(trainer, module, epoch)
            self.awaited = None
            return
        module.evaluating = True
        self.metrics = score(module.result, self.validation, recipe.images, coco_metrics, inference_options(recipe))
        module.evaluating = False
        numbers = asdict(self.metrics)
        per_class = {name: values["AP50"] for name, values in numbers.pop("per_class").items()}
        self._log(trainer, step, epoch, {**numbers, "AP50_per_class": per_class})
        ap = self.metrics.AP or 0.0
        is_gain = self.best is None or ap > self.best[0]
        self.without_gain = 0 if is_gain else self.without_gain + 1
        # Of equals the later one has learnt more: at first they are all 0.
        if self.best is None or ap >= self.best[0]:
            self.best = ap, epoch
            self._keep(trainer, module, epoch)
        if trainer.is_global_zero:
            best = (
                "the best so far" if self.best[1] == epoch else f"best {100 * self.best[0]:.1f} in epoch {self.best[1]}"
            )
            scores = f"AP {100 * ap:.1f}, AP50 {100 * (self.metrics.AP50 or 0.0):.1f}"
            teacher = "" if self.teacher_ap is None else f"; the teacher's AP {100 * self.teacher_ap:.1f}"
            print(f"epoch {epoch}: {scores} on the validation set ({best}{teacher})", file=sys.stderr, flush=True)
        self.awaited = None

    def _keep(self, trainer: Trainer, module: DetectorTraining, epoch: int) -> None:
        if not trainer.is_global_zero:
            return
        recipe = module.recipe
        save_detector(
            module.result,
            self.folder.path,
            provenance={
                **self.origin(),
                "data": {"source": module.dataset.source, "annotations_sha256": module.dataset.fingerprint},
                "seed": recipe.seed,
                "epoch": epoch,
                "validation_AP": None if self.metrics is None else self.metrics.AP,
                "pytorch-lightning": version("pytorch-lightning"),
            },
        )
