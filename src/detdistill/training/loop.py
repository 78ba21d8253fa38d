"""The training loop, the same for training and for distilling, for one process and for several."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import is_first_process, note, summed
from detdistill.core.draws import Draws
from detdistill.core.errors import DetdistillError, counted
from detdistill.core.modules import buffers_kept
from detdistill.core.seeds import derived_seed
from detdistill.core.structures import ReduceSum
from detdistill.data.loading import Batch, training_loader
from detdistill.detectors.base import Detector
from detdistill.training.accumulation import split, window_normalizers
from detdistill.training.checkpoint import write_checkpoint
from detdistill.training.interruption import Interruption
from detdistill.training.loader import ResumableBatches
from detdistill.training.machine import precision_of
from detdistill.training.optim import MovingAverage, build_optimizer, learning_rate_factor, warmup_steps
from detdistill.training.progress_line import ProgressLine
from detdistill.training.recipe import Recipe
from detdistill.training.run_folder import RunFolder
from detdistill.training.run_page import write_run_page
from detdistill.training.run_progress import Progress
from detdistill.training.scores import Scores
from detdistill.training.task import Task


class DivergedError(DetdistillError):
    """A loss or gradient that is not a finite number."""


class Loop:
    """Trains the detector of a task, from the first step or from a checkpoint on.

    Args:
        fabric: Processes and devices, launched.
        recipe: Of the run.
        task: What is learnt, made ready.
        dataset: The training set.
        folder: Of the run.
        scores: Evaluates, and keeps the best detector.
        started: When the run began, by `time.monotonic`.

    Attributes:
        step: Steps of the optimiser that are done.
        losses: Terms of the last step's loss by name, of all processes.
        raw: The same of terms with a weight, before it.
        gradient_norm: Length of the last step's gradient before it was clipped.
    """

    def __init__(
        self,
        fabric: Fabric,
        recipe: Recipe,
        task: Task,
        dataset: DetectionDataset,
        folder: RunFolder,
        scores: Scores,
        started: float,
    ) -> None:
        self.fabric, self.recipe, self.task, self.dataset = fabric, recipe, task, dataset
        self.folder, self.scores, self.started = folder, scores, started
        self.batches = ResumableBatches(
            training_loader(
                dataset,
                recipe.images,
                batch_size=recipe.images_per_process,
                seed=recipe.seed,
                workers=recipe.machine.workers,
                cache=recipe.data.cache,
                difficult=recipe.data.difficult,
                teacher=task.teacher_inputs,
                unlabelled_share=recipe.unlabelled_share,
                rank=fabric.global_rank,
                world=fabric.world_size,
            )
        )
        epoch = len(self.batches)
        self.total = epoch * recipe.schedule.epochs
        self.warmup = warmup_steps(self.total, recipe.schedule)

        decay = recipe.optimization.ema
        self.average = None if decay is None else MovingAverage(task.detector, decay).eval()
        self.optimizer = build_optimizer(task, task.detector.backbone_module, recipe.optimization)
        self.schedule = LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, self.total, epoch, recipe.schedule)
        )
        self.precision = fabric.strategy.precision = precision_of(recipe.machine, fabric.device)
        # Not `fabric.setup`: it copies the batch of each step to convert its numbers, which autocast does where needed.
        self.model = fabric.strategy.setup_module(task)
        self.step = 0
        self.losses: dict[str, float] = {}
        self.raw: dict[str, float] = {}
        self.gradient_norm = 0.0
        self.interruption = Interruption()
        self.stopping = False  # someone wants one of the processes to stop; all know it after the same step

    @property
    def result(self) -> Detector:
        """The detector to evaluate and keep: the moving average, where there is one."""
        if self.average is None:
            return self.task.detector
        average = self.average.module
        assert isinstance(average, Detector)
        return average

    def run(self) -> None:
        """Train to the last epoch, or until AP has not risen for long enough.

        Raises:
            Interrupted: After Ctrl-C or SIGTERM; everything is saved.
            DivergedError: A loss or a gradient is not finite; nothing of that step is kept.
            DetdistillError: An image cannot be read, or the disk is full.
        """
        recipe, epoch_steps = self.recipe, len(self.batches)
        line = ProgressLine(recipe, self.step, self.total, epoch_steps)
        with self.interruption, line, closing(self.batches):
            self._say_start()
            with self.interruption.at_once(self.step):
                self.scores.score_teacher()
            self._evaluate()
            for epoch in range(self.step // epoch_steps, recipe.schedule.epochs):
                if self.scores.is_patience_over:
                    break
                line.go_on()
                for batch in self.batches.of_epoch(epoch, start=self.step % epoch_steps):
                    self._train_on(batch.to(self.fabric.device, non_blocking=True))
                    line.update(self.step, self.losses)
                    self._after_step(epoch + 1, is_last=self.step % epoch_steps == 0)
                line.pause()
                self.scores.await_epoch(epoch + 1, self.step)
                self._save()
                self._evaluate()
                self.show("training", line.remaining)
            self.scores.keep_last(self.result, self.step // epoch_steps)

    def show(self, state: Literal["training", "interrupted", "finished"], remaining: float | None = None) -> None:
        """Write the page of the run, in the first process, if the recipe says so.

        Args:
            state: Of the run.
            remaining: Seconds until the end, if that is known.
        """
        if not (is_first_process() and self.recipe.logging.page):
            return
        progress = Progress(
            state=state,
            epoch=self.step // len(self.batches),
            step=self.step,
            total_steps=self.total,
            seconds=time.monotonic() - self.started,
            remaining=remaining,
            teacher_ap=self.scores.teacher_ap,
        )
        write_run_page(self.folder, self.recipe, self.scores.evaluation, progress)

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state that `read_checkpoint` has read."""
        self.step = state["step"]
        self.task.load_state_dict(state["task"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.precision.load_state_dict(state["precision"])
        self.scores.load_state_dict(state["scores"])

    def batch_losses(self, batch: Batch, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        """Return the named terms of the loss of a batch, or of a part of it: this process's share of each."""
        # What wraps the task synchronises processes, in a pass with gradients only.
        module = self.model if torch.is_grad_enabled() else self.task
        with self.precision.forward_context():
            losses: dict[str, Tensor] = module(batch.images, batch.targets, reduce_sum)
        return losses

    def _train_on(self, batch: Batch) -> None:
        """Take one step of the optimiser; its loss is that of the batch of all processes."""
        recipe, task = self.recipe, self.task
        seed = derived_seed(recipe.seed, "step", self.step, self.fabric.global_rank)
        task.begin_step(self.step, self.total, self.warmup)
        draws = Draws(recipe.seed, self.step, batch.indices)
        parts = split(replace(batch, targets=replace(batch.targets, draws=draws)), recipe.accumulate)
        own_share: ReduceSum = summed if batch.counts else _sum_of_others
        reducers = [own_share]
        # Also for a single part: another process may have several, and all must exchange in the same order.
        if recipe.accumulate > 1:
            torch.manual_seed(seed)
            with buffers_kept(task.detector):
                reducers = window_normalizers(parts, self.batch_losses, own_share)
        # Dropout and the like draw the same in a resumed run.
        torch.manual_seed(seed)
        sums: dict[str, Tensor] = {}
        raw: dict[str, Tensor] = {}
        for part, reduce_sum in zip(parts, reducers, strict=True):
            with nullcontext() if part is parts[-1] else self._without_synchronisation():
                terms = {name: term * batch.counts for name, term in self.batch_losses(part, reduce_sum).items()}
                # Processes average their gradients, and the gradient of the whole batch is their sum.
                self.fabric.backward(torch.stack(tuple(terms.values())).sum() * self.fabric.world_size)
            sums = {name: sums.get(name, 0.0) + term.detach() for name, term in terms.items()}
            raw = {name: raw.get(name, 0.0) + batch.counts * term for name, term in task.raw.items()}
        self._share_losses(batch, sums, raw)
        task.end_step(own_share)
        self._clip(batch)
        self.fabric.strategy.optimizer_step(self.optimizer)
        self.optimizer.zero_grad()
        self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(task.detector)
        self.step += 1

    def _share_losses(self, batch: Batch, own: dict[str, Tensor], raw: dict[str, Tensor]) -> None:
        """Let all processes know the losses, and whether to stop, in one message."""
        stop = torch.tensor(float(self.interruption.requested), device=self.fabric.device)
        *values, stopping = summed(torch.stack((*own.values(), *raw.values(), stop))).tolist()
        self.losses = dict(zip(own, values, strict=False))
        self.raw = dict(zip(raw, values[len(own) :], strict=True))
        self.stopping = stopping > 0
        broken = [name for name, value in self.losses.items() if not math.isfinite(value)]
        if broken:
            raise self._diverged(batch, f"the loss term {', '.join(broken)} is not a finite number")

    def _clip(self, batch: Batch) -> None:
        self.precision.unscale_gradients(self.optimizer)
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        own = {id(parameter) for parameter in self.task.detector.parameters()}
        limit = self.recipe.optimization.clip_norm or math.inf
        student = [parameter for parameter in trained if id(parameter) in own]
        self.gradient_norm = float(nn.utils.clip_grad_norm_(student, limit))
        # Adapters are no part of the detector: their gradient must not shorten its steps.
        nn.utils.clip_grad_norm_([parameter for parameter in trained if id(parameter) not in own], limit)
        # fp16 lowers its scale and leaves such a step out.
        if not math.isfinite(self.gradient_norm) and self.recipe.machine.precision != "fp16":
            raise self._diverged(batch, "the gradient is not finite, though the loss is")

    def _say_start(self) -> None:
        """Say what begins: the first step can take as long as many others."""
        threads = counted(torch.get_num_threads(), "thread")
        note(
            f"training on {self.fabric.device} in {self.recipe.machine.precision} with {threads}: "
            f"{_in_words(self.dataset)}, {counted(len(self.batches), 'step')} an epoch, "
            f"{self.step} of {self.total} done"
        )

    def _after_step(self, epoch: int, *, is_last: bool) -> None:
        """Log, save, stop, as far as it is time to; after the last step of an epoch the epoch's end saves."""
        logging = self.recipe.logging
        if self.step % logging.every == 0:
            self._log(epoch)
        is_due = logging.save_every is not None and self.step % logging.save_every == 0
        if not is_last and (self.stopping or is_due):
            self._save()

    def _log(self, epoch: int) -> None:
        values = {
            "loss": sum(self.losses.values()),
            **self.losses,
            **{f"{name}/raw": value for name, value in self.raw.items()},
            **{f"{name}/weight": value for name, value in self.task.weights().items()},
            "gradient_norm": self.gradient_norm,
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
        }
        self.scores.log(self.step, epoch, values)

    def _evaluate(self) -> None:
        with self.interruption.at_once(self.step):
            self.scores.take(self.result)

    def _save(self) -> None:
        """Write the checkpoint, in the first process; then stop, if someone wants that."""
        if is_first_process():
            state = {
                "step": self.step,
                "data_sha256": self.dataset.fingerprint,
                "teacher": self.task.origin().get("teacher"),
                "task": self.task.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "precision": self.precision.state_dict(),
                "scores": self.scores.state_dict(),
            }
            write_checkpoint(self.folder.checkpoint, state)
        self.fabric.barrier()
        if self.stopping:
            self.show("interrupted")
            raise self.interruption.stopped(self.step)

    def _without_synchronisation(self) -> AbstractContextManager[Any]:
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def _diverged(self, batch: Batch, what: str) -> DivergedError:
        names = ", ".join(self.dataset.images[index].file_name for index in batch.indices)
        return DivergedError(
            f"step {self.step + 1}, epoch {self.step // len(self.batches) + 1}: {what}. The images of the batch "
            f"(process {self.fabric.global_rank}): {names}. Nothing of this step was kept. Look at these images with "
            "`detdistill data inspect`; if they are right, lower optimization.learning_rate or "
            "optimization.clip_norm, or use machine.precision float32"
        )


def _in_words(dataset: DetectionDataset) -> str:
    """The number of images, annotated and unlabelled."""
    annotated, *others = (len(part.images) for part in dataset.parts)
    return ", ".join([counted(annotated, "image"), *(f"{count:,} unlabelled" for count in others)])


def _sum_of_others(value: Tensor) -> Tensor:
    """Sum over the other processes: nothing of this one counts in this step."""
    return summed(torch.zeros_like(value))
