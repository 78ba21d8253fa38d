"""Training steps that are only measured: of a copy of a task, within a few seconds."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from detdistill.core.draws import Draws
from detdistill.core.structures import single_process
from detdistill.data.loading import Batch
from detdistill.distill.distiller import Distiller
from detdistill.training.accumulation import split
from detdistill.training.bf16_faults import Convolution
from detdistill.training.recipe import Recipe

Plain = Literal["float32", "bf16", "fp16"]

LIMIT = 5.0
"""Seconds that all steps together may take."""
SLOW = 1.0
"""Seconds. A detector that needs more for one image is not measured any further."""
ROUNDS = 5
"""Steps of each candidate that count; one more comes before them, in which torch prepares for the shapes."""
FEW_ROUNDS = 3
"""Rounds for which there is time with the number of images that is chosen."""


@dataclass(frozen=True)
class Candidate:
    """A precision and a number of threads that can be chosen."""

    precision: Plain
    threads: int

    def __str__(self) -> str:
        return f"{self.precision} with {self.threads} thread{'s' if self.threads > 1 else ''}"


class TooSlowError(Exception):
    """A step that was ended because it took too long."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # of its metaclass
    """Notes the convolutions of a step that have a backward pass, and ends a step that takes too long.

    Args:
        seconds: That the step may take.

    Attributes:
        convolutions: The convolutions.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.convolutions: list[Convolution] = []
        self._end = time.perf_counter() + seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation.

        Raises:
            TooSlowError: The time is up.
        """
        if time.perf_counter() > self._end:
            raise TooSlowError
        if func is torch.ops.aten.convolution_backward.default:
            gradient, given, weight, _, stride = args[:5]
            self.convolutions.append(Convolution.of_backward(gradient, given, weight, stride))
        return func(*args, **(kwargs or {}))


class Steps:
    """Training steps of a copy of a task, on the first images of a batch.

    Args:
        task: What is trained.
        batch: Of the run.
        recipe: Of the run.

    Attributes:
        most: Number of images of a step of the run.
        canvas: Height and width in pixels of the batch's images.
        smallest: Height and width in pixels of the smallest canvas of the run.
    """

    def __init__(self, task: nn.Module, batch: Batch, recipe: Recipe) -> None:
        self._end = time.perf_counter() + LIMIT
        self._original = task
        self._seed = recipe.seed
        targets = replace(batch.targets, draws=Draws(recipe.seed, 0, batch.indices))
        self._batch = split(replace(batch, targets=targets), recipe.accumulate)[0]
        self.most = len(self._batch.indices)
        self.canvas = batch.images.shape[2], batch.images.shape[3]
        self.smallest = recipe.images.canvas_of((1, 1))
        self._begin()

    def _begin(self) -> None:
        self._task = copy.deepcopy(self._original)
        self._distillers = [part for part in self._task.modules() if isinstance(part, Distiller)]
        self._taken = 0

    @property
    def is_new(self) -> bool:
        """The next step is not like the others: automatic weights are 0 in it, and the first of a process is slow."""
        return self._taken == 0

    @property
    def left(self) -> float:
        """Seconds until all steps must have ended."""
        return self._end - time.perf_counter()

    def take(self, candidate: Candidate, images: int) -> tuple[float, float]:
        """Take one step; after one that failed, the next is that of a new copy.

        Args:
            candidate: Precision and number of threads.
            images: Largest number of images.

        Returns:
            Seconds, and the loss.
        """
        try:
            return self._step(candidate, images)
        except BaseException:
            self._begin()
            raise

    def _step(self, candidate: Candidate, images: int) -> tuple[float, float]:
        part = split(self._batch, -(-self.most // images))[0]
        torch.set_num_threads(candidate.threads)
        for distiller in self._distillers:
            # Automatic weights are measured in the first step only, and are fixed in a step behind it.
            distiller.begin_step(min(self._taken, 1), 2, 0)
        torch.default_generator.manual_seed(self._seed)
        np.random.seed(self._seed % 2**32)  # noqa: NPY002 (a detector may draw from it)
        random.seed(self._seed)
        start = time.perf_counter()
        with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16, enabled=candidate.precision == "bf16"):
            terms = self._task(part.images, part.targets, single_process)
            loss = torch.stack(tuple(terms.values())).sum()
        torch.autograd.backward(loss)
        seconds = time.perf_counter() - start
        for distiller in self._distillers:
            distiller.end_step(single_process)
        self._task.zero_grad()
        self._taken += 1
        return seconds, float(loss.detach())


class Trials:
    """What was measured of candidates, in turns, so that other work on the machine hits all alike.

    Args:
        steps: The steps.

    Attributes:
        first: Seconds of the first step of each candidate that was not too slow.
        images: Number of images of a step.
        convolutions: Those of the first steps.
        failure: What a candidate failed with that may fail.
        too_slow: Candidates whose first step was ended.
    """

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.first: dict[Candidate, float] = {}
        self.images = 1
        self.convolutions: list[Convolution] = []
        self.failure: str | None = None
        self.too_slow: list[Candidate] = []
        self._longest = 0.0
        self._first_losses: dict[Candidate, float] = {}
        self._rounds: dict[Candidate, list[tuple[float, float]]] = {}

    def begin(self, candidates: Sequence[Candidate], *, may_fail: bool = False) -> None:
        """Take the first step of candidates, those left out that are much too slow.

        Args:
            candidates: In order of importance: time may not suffice for all.
            may_fail: Leave out a candidate that raises an exception.
        """
        for candidate in candidates:
            before = self._steps.left
            if before <= self._longest:
                return
            try:
                self._begin(candidate)
            except TooSlowError:
                self.too_slow.append(candidate)
            except Exception as error:  # a detector may raise anything
                if not may_fail:
                    raise
                self.failure = f"a step failed ({in_short(error)})"
            self._longest = max(self._longest, before - self._steps.left)

    def _begin(self, candidate: Candidate) -> None:
        try:
            self._watched(candidate)
        except TooSlowError:
            raise
        except Exception:
            # Batch norm cannot normalise a map of one value.
            if self.first or self.images > 1 or self._steps.most == 1:
                raise
            self.images = 2
            self._watched(candidate)

    def _watched(self, candidate: Candidate) -> None:
        count = 2 if self._steps.is_new else 1
        allowed = 1.5 * SLOW * self.images
        if self.first:
            allowed = min(allowed, max(SLOW, 2 * min(self.first.values())))
        for _ in range(count):
            watch = Watch(min(allowed, self._steps.left))
            with watch:
                seconds, loss = self._steps.take(candidate, self.images)
        self.first[candidate], self._first_losses[candidate] = seconds, loss
        self.convolutions += watch.convolutions

    @property
    def is_slow(self) -> bool:
        """The fastest first step took too long for the number of images."""
        return min(self.first.values()) > SLOW * self.images

    def repeat(self) -> None:
        """Take further steps of all candidates in turns, with as many images as there is time for."""
        if len(self.first) == 1:
            return
        cost = (FEW_ROUNDS + 1) * sum(self.first.values()) / self.images
        images = min(max(int(0.8 * self._steps.left / cost), self.images), self._steps.most)
        self._take_rounds(images)
        if self._is_complete:
            self.images = images

    def _take_rounds(self, images: int) -> None:
        expected = {candidate: seconds * images / self.images for candidate, seconds in self.first.items()}
        self._rounds = {candidate: [] for candidate in self.first}
        for number in range(ROUNDS + 1):
            for candidate in list(self._rounds):
                if expected[candidate] > self._steps.left:
                    return
                try:
                    taken = self._steps.take(candidate, images)
                except Exception as error:
                    if candidate.precision == "float32" or len(self.first) == 1:
                        raise
                    self.failure = f"a step failed ({in_short(error)})"
                    del self._rounds[candidate], self.first[candidate]
                    continue
                expected[candidate] = taken[0]
                if number:
                    self._rounds[candidate].append(taken)

    @property
    def _is_complete(self) -> bool:
        return bool(self._rounds) and all(self._rounds.values())

    def seconds(self) -> dict[Candidate, float]:
        """Return the median seconds of a step of each candidate; those of the first if time did not suffice."""
        if not self._is_complete:
            return dict(self.first)
        return {candidate: median(seconds for seconds, _ in taken) for candidate, taken in self._rounds.items()}

    def losses(self) -> dict[Candidate, float]:
        """Return the loss of each candidate, of the same images."""
        if not self._is_complete:
            return {candidate: self._first_losses[candidate] for candidate in self.first}
        return {candidate: taken[0][1] for candidate, taken in self._rounds.items()}


def in_short(error: Exception) -> str:
    """Return an exception's name and the first line of its message."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".removesuffix(": ")
