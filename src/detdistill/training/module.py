"""One training step, whatever engine, number of processes or parts of a batch."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Self

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ParallelStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import summed
from detdistill.core.draws import Draws
from detdistill.core.errors import DetdistillError
from detdistill.core.modules import buffers_kept
from detdistill.core.seeds import derived_seed
from detdistill.core.structures import ReduceSum
from detdistill.data.loading import Batch, training_loader
from detdistill.detectors.base import Detector
from detdistill.training.accumulation import split, window_normalizers
from detdistill.training.freezing import freeze
from detdistill.training.learner import Learner
from detdistill.training.loader import ResumableBatches
from detdistill.training.optim import MovingAverage, build_optimizer, learning_rate_factor, warmup_steps
from detdistill.training.recipe import Recipe


class DivergedError(DetdistillError):
    """A loss or gradient that is not a finite number."""


class DetectorTraining(LightningModule):
    """Trains a detector as a recipe says.

    The loss is that of the batch of all processes: its terms are sums over global normalisers.

    Args:
        learner: around the detector that is trained.
        dataset: what it is trained on.
        recipe: how.

    Attributes:
        average: the moving average of the detector's weights, or None.
        losses: terms of the last step by name, of all processes, after that step.
        raw: the same of terms with a weight, before it.
        gradient_norm: of the last step, before clipping.
        evaluating: scores are being taken.
        stop_requested: someone wants this process to save and stop.
        stopping: someone wants one of the processes to; all know it after the same step.
    """

    def __init__(self, learner: Learner, dataset: DetectionDataset, recipe: Recipe) -> None:
        super().__init__()
        # The engine would take a batch in parts for as many batches, each with a normaliser of its own.
        self.automatic_optimization = False
        self.recipe = recipe
        self.dataset = dataset
        self.learner = learner
        self._still = freeze(self.detector, recipe.start)
        if recipe.machine.channels_last:
            self.detector.to(memory_format=torch.channels_last)
        decay = recipe.optimization.ema
        self.average = None if decay is None else MovingAverage(self.detector, decay)
        self.losses: dict[str, float] = {}
        self.raw: dict[str, float] = {}
        self.gradient_norm = 0.0
        self.evaluating = self.stop_requested = self.stopping = False
        self._batch: Batch
        self._batches: ResumableBatches | None = None
        self.train()

    @property
    def detector(self) -> Detector:
        """The detector that is trained."""
        return self.learner.student

    @property
    def result(self) -> Detector:
        """The detector to evaluate and save: the moving average, where there is one."""
        if self.average is None:
            return self.detector
        average = self.average.module
        assert isinstance(average, Detector)
        return average

    def train(self, mode: bool = True) -> Self:
        """As `nn.Module`'s, but what is frozen stays in evaluation mode, and so does the average."""
        super().train(mode)
        for module in self._still:
            module.training = False
        if self.average is not None:
            self.average.eval()
        return self

    def train_dataloader(self) -> ResumableBatches:
        """Return this process's share of the batches."""
        if self._batches is not None:
            return self._batches
        recipe = self.recipe
        loader = training_loader(
            self.dataset,
            recipe.images,
            batch_size=recipe.images_per_process,
            seed=recipe.seed,
            workers=recipe.machine.workers,
            cache=recipe.data.cache,
            difficult=recipe.data.difficult,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        self._batches = ResumableBatches(loader)
        return self._batches

    def close(self) -> None:
        """Ends the processes that load batches."""
        if self._batches is not None:
            self._batches.close()

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LRScheduler]]:
        """The optimiser and its schedule, stepped after every batch."""
        recipe = self.recipe
        assert isinstance(self.learner, nn.Module)
        optimizer = build_optimizer(self.learner, self.detector.backbone_module, recipe.optimization)
        epoch = len(self.train_dataloader())
        total = epoch * recipe.schedule.epochs
        self._steps = total, warmup_steps(total, recipe.schedule)
        return [optimizer], [
            LambdaLR(optimizer, lambda step: learning_rate_factor(step, total, epoch, recipe.schedule))
        ]

    def batch_losses(self, batch: Batch, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        """The named terms of the loss: this process's share of each."""
        return self.learner(batch.images, batch.targets, reduce_sum)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes what the run was started on."""
        checkpoint["data_sha256"] = self.dataset.fingerprint

    def training_step(self, batch: Batch) -> None:
        """One step of the optimiser."""
        seed = derived_seed(self.recipe.seed, "step", self.global_step, self.global_rank)
        self.learner.begin_step(self.global_step, *self._steps)
        draws = Draws(self.recipe.seed, self.global_step, batch.indices)
        parts = split(replace(batch, targets=replace(batch.targets, draws=draws)), self.recipe.accumulate)
        own_share = summed if batch.counts else self._reduce_others
        reducers: list[ReduceSum] = [own_share]
        if len(parts) > 1:
            torch.manual_seed(seed)
            with buffers_kept(self.detector):
                reducers = window_normalizers(parts, self.batch_losses, own_share)
        # Dropout and the like draw the same in a resumed run.
        torch.manual_seed(seed)
        sums: dict[str, Tensor] = {}
        raw: dict[str, Tensor] = {}
        for part, reduce_sum in zip(parts, reducers, strict=True):
            terms = {name: term * batch.counts for name, term in self.batch_losses(part, reduce_sum).items()}
            with nullcontext() if part is parts[-1] else self._without_synchronisation():
                # Processes average their gradients, and the gradient of the whole batch is their sum.
                self.manual_backward(torch.stack(tuple(terms.values())).sum() * self.trainer.world_size)
            sums = {name: sums.get(name, 0.0) + term.detach() for name, term in terms.items()}
            raw = {name: raw.get(name, 0.0) + batch.counts * term.detach() for name, term in self.learner.raw.items()}
        self._batch = batch
        self._agree(sums, raw)
        self.learner.end_step(own_share)
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        assert isinstance(schedule, LRScheduler)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.detector)

    def _agree(self, own: dict[str, Tensor], raw: dict[str, Tensor]) -> None:
        """All processes learn the losses, and whether to stop, in one message."""
        stop = torch.tensor(float(self.stop_requested), device=self.device)
        *values, stopping = summed(torch.stack((*own.values(), *raw.values(), stop))).tolist()
        self.losses = dict(zip(own, values, strict=False))
        self.raw = dict(zip(raw, values[len(own) :], strict=True))
        self.stopping = stopping > 0
        broken = [name for name, value in self.losses.items() if not math.isfinite(value)]
        if broken:
            raise self._diverged(f"the loss term {', '.join(broken)} is not a finite number")

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clips the gradient, after fp16's scale was taken out of it."""
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        own = {id(parameter) for parameter in self.detector.parameters()}
        largest = self.recipe.optimization.clip_norm
        limit = math.inf if largest is None else largest
        student = [parameter for parameter in trained if id(parameter) in own]
        self.gradient_norm = float(nn.utils.clip_grad_norm_(student, limit))
        # Adapters are no part of the detector: their gradient must not shorten its steps.
        nn.utils.clip_grad_norm_([parameter for parameter in trained if id(parameter) not in own], limit)
        # fp16 lowers its scale and leaves such a step out.
        if not math.isfinite(self.gradient_norm) and self.recipe.machine.precision != "fp16":
            raise self._diverged("the gradient is not finite, though the loss is")

    def _diverged(self, what: str) -> DivergedError:
        names = ", ".join(self.dataset.images[index].file_name for index in self._batch.indices)
        return DivergedError(
            f"step {self.global_step + 1}, epoch {self.current_epoch + 1}: {what}. The images of the batch (process "
            f"{self.global_rank}): {names}. Nothing of this step was kept. Look at these images with "
            "`detdistill data inspect`; if they are right, lower optimization.learning_rate or "
            "optimization.clip_norm, or use machine.precision float32"
        )

    def _reduce_others(self, value: Tensor) -> Tensor:
        """Sum over the other processes: nothing of this one counts in this step."""
        return summed(torch.zeros_like(value))

    def _without_synchronisation(self) -> AbstractContextManager[Any]:
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()
