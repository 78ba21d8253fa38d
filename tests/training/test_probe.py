from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from detdistill.core.image_options import ImageOptions
from detdistill.core.structures import ReduceSum, Targets
from detdistill.data.loading import Batch
from detdistill.distill.memory import TeacherMemory
from detdistill.training import probe, trial_steps
from detdistill.training.probe import choose, fastest, thread_counts
from detdistill.training.recipe import Data, Machine, Recipe
from detdistill.training.trial_steps import LIMIT, Candidate
from support.pairs import batch as random_batch
from support.pairs import distiller
from support.tiny_detector import tiny_detector

CPU = torch.device("cpu")
SIDE = 32
PARTS = 10


class Clock:
    """A clock that the work moves on, and a look at it by a microsecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-6
        return self.now


class Work(nn.Module):
    """A task that takes the given seconds an image, by precision and number of threads."""

    def __init__(self, clock: Clock, seconds: Mapping[tuple[str, int], float], loss_in_bf16: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self._log: list[tuple[str, int]] = []
        self._clock, self._seconds, self._loss_in_bf16 = clock, seconds, loss_in_bf16

    def __deepcopy__(self, memo: dict[int, object]) -> Work:
        made = Work(self._clock, self._seconds, self._loss_in_bf16)
        made._log = self._log
        return made

    @property
    def taken(self) -> list[tuple[str, int]]:
        """Precision and threads of all steps."""
        return self._log

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:  # noqa: ARG002
        is_half = torch.is_autocast_enabled("cpu")
        key = "bf16" if is_half else "float32", torch.get_num_threads()
        self._log.append(key)
        value: Tensor = self.scale
        for _ in range(PARTS):
            self._clock.now += self._seconds[key] * len(images) / PARTS
            value = value * 1.0
        return {"a": value * (self._loss_in_bf16 if is_half else 1.0), "b": value * 0}


def batch(images: int = 8, side: int = SIDE) -> Batch:
    sizes = torch.full((images, 2), side)
    nothing = Targets.from_images([torch.zeros(0, 4)] * images, [torch.zeros(0, dtype=torch.int64)] * images, sizes)
    pixels = torch.zeros(images, 3, side, side, dtype=torch.uint8)
    return Batch(pixels, nothing, tuple(range(images)), sizes)


AUTO = Machine("cpu")


def recipe(machine: Machine = AUTO, **changes: Any) -> Recipe:
    return Recipe(
        **{"data": Data("x"), "batch_size": 8, "images": ImageOptions(letterbox=SIDE), **changes}, machine=machine
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still, four processors, and bf16 instructions."""
    made = Clock()
    monkeypatch.setattr(trial_steps, "time", made)
    monkeypatch.setattr(probe, "usable_processors", lambda: 4)
    monkeypatch.setattr(probe, "has_bf16_instructions", lambda: True)
    return made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round only, two processors, and bf16 instructions."""
    monkeypatch.setattr(trial_steps, "ROUNDS", 1)
    monkeypatch.setattr(probe, "usable_processors", lambda: 2)
    monkeypatch.setattr(probe, "has_bf16_instructions", lambda: True)


def costs(*, one: float = 0.05, two: float = 1.0, four: float = 1.0, bf16: float = 1.0) -> dict[tuple[str, int], float]:
    """Seconds an image with one thread in float32, and the factors for two and four threads, and for bf16."""
    factors = {1: 1.0, 2: two, 4: four}
    return {
        (precision, threads): one * factor * (bf16 if precision == "bf16" else 1.0)
        for precision in ("float32", "bf16")
        for threads, factor in factors.items()
    }


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ({}, ("float32", 1)),
        ({"bf16": 1 / 1.2}, ("bf16", 1)),
        ({"bf16": 1 / 1.1}, ("float32", 1)),
        ({"two": 1 / 1.1, "four": 1 / 1.12}, ("float32", 1)),
        ({"two": 1 / 1.6, "four": 1 / 1.7}, ("float32", 2)),
        ({"two": 1 / 1.6, "four": 1 / 2.5, "bf16": 0.5}, ("bf16", 4)),
        ({"two": 7.0, "four": 9.0, "bf16": 1.4}, ("float32", 1)),
        ({"two": 0.5, "four": 7.0}, ("float32", 2)),
    ],
)
def test_the_fastest_is_chosen_where_the_gain_is_worth_it(
    factors: dict[str, float], expected: tuple[str, int], clock: Clock
) -> None:
    found = choose(Work(clock, costs(**factors)), batch(), recipe(), CPU)
    assert (found.precision, found.threads) == expected
    assert "\n" not in found.reason
    assert clock.now <= LIMIT


def test_times_of_all_candidates_are_in_the_reason(clock: Clock) -> None:
    found = choose(
        Work(clock, costs(one=0.02, two=0.5, four=0.25, bf16=0.5)), batch(images=1), recipe(batch_size=1), CPU
    )
    for time in ("0.02 s in float32 with 1 thread", "0.01 s in float32 with 2", "0.005 s", "0.0025 s in bf16 with 4"):
        assert time in found.reason


@pytest.mark.parametrize("loss", [1.02, 0.98, float("nan"), float("inf")])
def test_bf16_with_another_loss_is_not_chosen(loss: float, clock: Clock) -> None:
    found = choose(Work(clock, costs(bf16=0.5), loss_in_bf16=loss), batch(), recipe(), CPU)
    assert (found.precision, found.threads) == ("float32", 1)
    assert "loss" in found.reason
    close = choose(Work(clock, costs(bf16=0.5), loss_in_bf16=1.005), batch(), recipe(), CPU)
    assert close.precision == "bf16"


def test_a_detector_that_is_slow_keeps_float32_and_one_thread(clock: Clock) -> None:
    work = Work(clock, costs(one=1.1, bf16=0.1))
    found = choose(work, batch(), recipe(), CPU)
    assert (found.precision, found.threads) == ("float32", 1)
    assert "1 s" in found.reason
    assert {precision for precision, _ in work.taken} == {"float32"}
    assert clock.now <= LIMIT


def test_more_threads_are_taken_where_one_alone_is_much_too_slow(clock: Clock) -> None:
    found = choose(Work(clock, costs(one=3.0, two=0.5, four=0.25)), batch(), recipe(), CPU)
    assert (found.precision, found.threads) == ("float32", 4)
    assert "much longer in float32 with 1 thread" in found.reason


def test_one_thread_is_tried_where_all_together_are_much_too_slow(clock: Clock) -> None:
    """As on a busy machine."""
    found = choose(Work(clock, costs(one=0.2, two=9.0, four=15.0, bf16=0.5)), batch(), recipe(), CPU)
    assert (found.precision, found.threads) == ("bf16", 1)
    assert "much longer in float32 with 4 threads" in found.reason
    assert clock.now <= LIMIT


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    one=st.floats(1e-3, 20),
    two=st.floats(0.3, 9),
    four=st.floats(0.2, 9),
    bf16=st.floats(0.3, 20),
    images=st.integers(1, 9),
)
def test_a_probe_ends_in_time(one: float, two: float, four: float, bf16: float, images: int, clock: Clock) -> None:
    clock.now = 0.0
    seconds = costs(one=one, two=two, four=four, bf16=bf16)
    found = choose(Work(clock, seconds), batch(images), recipe(), CPU)
    longest_part = max(seconds.values()) / PARTS
    assert clock.now <= LIMIT + longest_part + 1e-2
    assert found.precision in ("float32", "bf16")
    assert found.threads in (1, 2, 4)


def test_a_short_probe_uses_the_batch_of_the_run_and_a_long_one_fewer_images(clock: Clock) -> None:
    assert "a step of 8 images" in choose(Work(clock, costs(one=0.001)), batch(), recipe(), CPU).reason
    assert "a step of 4 images" in choose(Work(clock, costs(one=0.001)), batch(), recipe(accumulate=2), CPU).reason
    assert "a step of 1 image" in choose(Work(clock, costs(one=0.1)), batch(), recipe(), CPU).reason


def test_only_what_is_auto_is_measured(clock: Clock) -> None:
    fast = costs(two=0.5, four=0.25, bf16=0.5)
    work = Work(clock, fast)
    pinned = Machine("cpu", precision="bf16", threads=3)
    found = choose(work, batch(), recipe(pinned), CPU)
    assert (found.precision, found.threads, work.taken) == ("bf16", 3, [])
    found = choose(work, batch(), recipe(Machine("cpu", precision="float32")), CPU)
    assert (found.precision, found.threads) == ("float32", 4)
    assert {precision for precision, _ in work.taken} == {"float32"}
    work = Work(clock, fast)
    found = choose(work, batch(), recipe(Machine("cpu", precision="bf16")), CPU)
    assert (found.precision, found.threads) == ("bf16", 4)
    assert {precision for precision, _ in work.taken} == {"bf16"}
    work = Work(clock, fast)
    found = choose(work, batch(), recipe(Machine("cpu", threads=2)), CPU)
    assert (found.precision, found.threads) == ("bf16", 2)
    assert {threads for _, threads in work.taken} == {2}


def test_nothing_is_run_where_there_is_nothing_to_compare(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "usable_processors", lambda: 1)
    work = Work(clock, costs())
    assert choose(work, batch(), recipe(Machine("cpu", precision="float32")), CPU).threads == 1
    monkeypatch.setattr(probe, "has_bf16_instructions", lambda: False)
    found = choose(work, batch(), recipe(), CPU)
    assert (found.precision, found.threads, work.taken) == ("float32", 1, [])


def test_without_bf16_instructions_bf16_is_not_run(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "has_bf16_instructions", lambda: False)
    for asked, expected in (("auto", "float32"), ("bf16", "bf16")):
        work = Work(clock, costs(two=0.5, bf16=0.1))
        found = choose(work, batch(), recipe(Machine("cpu", precision=asked)), CPU)  # type: ignore[arg-type]
        assert (found.precision, found.threads) == (expected, 2)
        assert {precision for precision, _ in work.taken} == {"float32"}


def test_processes_share_the_processors(clock: Clock) -> None:
    work = Work(clock, costs(two=0.5, four=0.25))
    found = choose(work, batch(), recipe(Machine("cpu", devices=2)), CPU)
    assert found.threads == 2
    assert {threads for _, threads in work.taken} == {1, 2}


class Failing(nn.Module):
    """Raises an error under the given condition."""

    def __init__(self, error: Exception, where: str) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self._error, self._where = error, where

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:  # noqa: ARG002
        conditions = {
            "everywhere": True,
            "bf16": torch.is_autocast_enabled("cpu"),
            "large bf16": torch.is_autocast_enabled("cpu") and len(images) > 1,
            "one image": len(images) == 1,
        }
        if conditions[self._where]:
            raise self._error
        return {"a": self.scale * 1}


@pytest.mark.parametrize("error", [RuntimeError("not implemented for bf16"), torch.OutOfMemoryError(""), MemoryError()])
@pytest.mark.parametrize("where", ["everywhere", "bf16", "large bf16"])
@pytest.mark.usefixtures("clock")
def test_a_failing_measurement_chooses_float32(error: Exception, where: str) -> None:
    found = choose(Failing(error, where), batch(), recipe(), CPU)
    assert (found.precision, found.threads) == ("float32", 1)
    assert type(error).__name__ in found.reason


@pytest.mark.usefixtures("clock")
def test_a_detector_that_needs_two_images_gets_them() -> None:
    found = choose(Failing(ValueError("Expected more than 1 value per channel"), "one image"), batch(), recipe(), CPU)
    assert "ValueError" not in found.reason


def test_an_interruption_is_none_of_the_failures() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        choose(Failing(KeyboardInterrupt(), "everywhere"), batch(), recipe(), CPU)  # type: ignore[arg-type]
    assert torch.get_num_threads() == threads


class Convolving(nn.Module):
    """A task with convolutions; notes in which precision it is run."""

    taken: set[bool]

    def __init__(self, *layers: nn.Module, functional: nn.Parameter | None = None, teacher: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.functional = functional
        self._teacher = teacher
        self.taken = set()

    def __deepcopy__(self, memo: dict[int, object]) -> Convolving:
        made = Convolving(*copy.deepcopy(list(self.layers)), functional=self.functional, teacher=self._teacher)
        made.taken = self.taken
        return made

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:  # noqa: ARG002
        self.taken.add(torch.is_autocast_enabled("cpu"))
        pixels = images.float()
        if self._teacher:
            with torch.no_grad():
                pixels = pixels + self.layers(pixels).mean()
            return {"a": (nn.functional.conv2d(pixels, self.functional, padding=1)).mean()}  # type: ignore[arg-type]
        features = self.layers(pixels)
        if self.functional is not None:
            features = nn.functional.conv2d(features, self.functional, stride=2)
        return {"a": features.float().mean()}


def narrow(channels: int = 8) -> nn.Parameter:
    return nn.Parameter(torch.rand(8, channels, 1, 1))


SAFE = nn.Conv2d(3, 16, 3, padding=1)
TO_ONE = nn.Conv2d(3, 8, 3, stride=SIDE, padding=1)
TO_TWO = nn.Conv2d(3, 8, 3, stride=SIDE // 2, padding=1)
BAD = {
    "narrow shortcut": Convolving(nn.Conv2d(3, 8, 1, stride=2)),
    "narrow, in one direction": Convolving(nn.Conv2d(3, 8, 1, stride=(1, 2))),
    "narrow and grouped": Convolving(SAFE, nn.Conv2d(16, 8, 1), nn.Conv2d(8, 8, 1, stride=2, groups=8)),
    "narrow, by a function": Convolving(nn.Conv2d(3, 8, 3), functional=narrow()),
    "narrow, in one dimension": Convolving(nn.Flatten(2), nn.Conv1d(3, 8, 1, stride=2)),
    "one cell": Convolving(TO_ONE, nn.Conv2d(8, 8, 3, padding=1)),
    "one cell to one, 1x1": Convolving(TO_ONE, nn.Conv2d(8, 8, 1)),
    "squeeze and excitation": Convolving(SAFE, nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1)),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("threads", ["auto", 1])
def test_convolutions_that_are_faulty_in_bf16_are_never_run_in_it(name: str, threads: Any) -> None:
    task = copy.deepcopy(BAD[name])
    task.taken = set()
    found = choose(task, batch(2), recipe(Machine("cpu", threads=threads)), CPU)
    assert found.precision == "float32"
    assert "no bf16" in found.reason
    assert task.taken <= {False}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "task",
    [
        Convolving(SAFE, nn.Conv2d(16, 16, 1, stride=2)),
        Convolving(nn.Conv2d(3, 8, 1)),
        Convolving(nn.Conv2d(3, 8, 3, stride=2)),
        Convolving(TO_TWO, nn.Conv2d(8, 8, 3, padding=1)),
        Convolving(nn.Conv2d(3, 4, 3), teacher=True, functional=nn.Parameter(torch.rand(4, 3, 3, 3))),
    ],
)
def test_other_convolutions_are_run_in_bf16(task: Convolving) -> None:
    choose(task, batch(2), recipe(), CPU)
    assert task.taken == {False, True}


@pytest.mark.usefixtures("quick")
def test_maps_of_the_smallest_images_count() -> None:
    """A batch of wide images has two cells where square ones have one."""
    wide = replace(batch(2), images=torch.zeros(2, 3, SIDE, 2 * SIDE, dtype=torch.uint8))
    task = Convolving(TO_ONE, nn.Conv2d(8, 8, 3, padding=1))
    by_side = recipe(images=ImageOptions(short_side=SIDE, long_side=4 * SIDE))
    assert choose(task, wide, by_side, CPU).precision == "float32"
    assert task.taken == {False}
    fixed = recipe(images=ImageOptions(short_side=SIDE, long_side=4 * SIDE, canvas=(SIDE, 2 * SIDE)))
    choose(task, wide, fixed, CPU)
    assert task.taken == {False, True}


def random_states() -> tuple[Any, ...]:
    numpy = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist(), numpy[2]  # type: ignore[index]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("has_memory", [False, True])
def test_nothing_is_changed(has_memory: bool) -> None:
    memory = TeacherMemory(10) if has_memory else None
    task = distiller(
        tiny_detector(backbone_width=0.25),
        tiny_detector(seed=1),
        {"hint": {}, "rank_mimicking": {}},
        None,
        memory=memory,
    )
    task.student.train()
    norms = [part for part in task.student.modules() if isinstance(part, nn.BatchNorm2d)]
    norms[0].eval()
    images, targets = random_batch((0, 1), (2,), (), (1,))
    first = next(task.student.parameters())
    first.grad = torch.ones_like(first)
    given = Batch(images, targets, (0, 1, 2, 3), targets.sizes)
    before = copy.deepcopy(task.state_dict())
    weighting, raw = copy.deepcopy(vars(task.weighting)), dict(task.raw)
    modes = {name: part.training for name, part in task.named_modules()}
    gradients = {name: each.grad for name, each in task.named_parameters()}
    states, threads = random_states(), torch.get_num_threads()

    found = choose(task, given, recipe(images=ImageOptions(letterbox=128), batch_size=4), CPU)

    assert "failed" not in found.reason
    after = task.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value) if isinstance(value, Tensor) else after[name] == value, name
    assert vars(task.weighting) == weighting
    assert task.raw == raw
    assert not task._squares
    assert {name: part.training for name, part in task.named_modules()} == modes
    assert all(each.grad is gradients[name] for name, each in task.named_parameters())
    assert torch.equal(first.grad, torch.ones_like(first))
    assert random_states() == states
    assert torch.get_num_threads() == threads
    assert not torch.is_autocast_enabled("cpu")
    assert given.targets.draws is None
    if memory is not None:
        assert not memory._guidance


class Drawing(nn.Module):
    """A task whose steps draw random numbers and count."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.count = 0
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:  # noqa: ARG002
        self.count += 1
        assert targets.draws is not None
        noise = torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return {
            "a": self.dropout(self.layer(images.float().mean(dim=(2, 3)))).sum() * 0 + noise * self.layer.bias.sum()
        }


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("grad", [True, False])
def test_states_of_a_detector_of_another_kind_are_kept(grad: bool) -> None:
    task, states = Drawing(), random_states()
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16, enabled=not grad):
        found = choose(task, batch(), recipe(), CPU)
        assert torch.is_grad_enabled() is grad
        assert torch.is_autocast_enabled("cpu") is not grad
    assert "failed" not in found.reason
    assert task.count == 0
    assert random_states() == states


@pytest.mark.usefixtures("quick")
def test_the_same_numbers_are_drawn_in_every_step() -> None:
    """Else the loss in bf16 would differ by what was drawn."""
    assert "loss" not in choose(Drawing(), batch(), recipe(), CPU).reason


@pytest.mark.parametrize(
    ("kind", "has_bf16", "asked", "expected"),
    [
        ("cuda", True, "auto", "bf16"),
        ("cuda", False, "auto", "float32"),
        ("mps", True, "auto", "float32"),
        ("cuda", True, "fp16", "fp16"),
        ("cuda", True, "float32", "float32"),
    ],
)
def test_gpus_are_not_measured(
    kind: str, has_bf16: bool, asked: Any, expected: str, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: has_bf16 or including_emulation)
    work = Work(clock, costs())
    found = choose(work, batch(), recipe(Machine("gpu", precision=asked)), torch.device(kind))
    assert (found.precision, found.threads, work.taken) == (expected, torch.get_num_threads(), [])


@given(st.integers(1, 300))
def test_thread_counts_go_from_one_to_all_in_halves(processors: int) -> None:
    counts = thread_counts(processors)
    assert counts[0] == 1
    assert counts[-1] == processors
    assert counts == sorted(set(counts))
    assert all(2 * one >= other - 1 for one, other in pairwise(counts))


CANDIDATES = [Candidate(precision, threads) for precision in ("float32", "bf16") for threads in (1, 2, 4)]
TIMES = st.fixed_dictionaries({candidate: st.floats(0.01, 100) for candidate in CANDIDATES})


@given(TIMES)
def test_what_is_chosen_is_never_slower_than_one_thread_in_float32(seconds: dict[Candidate, float]) -> None:
    losses = dict.fromkeys(CANDIDATES, 2.0)
    found = fastest(seconds, losses)
    least = Candidate("float32", 1)
    assert found == least or seconds[least] >= 1.15 * seconds[found]
    # Whatever was left lying is at most 1.15 times as fast for threads, and once more for bf16.
    assert seconds[found] <= 1.15**2 * min(seconds.values()) * (1 + 1e-9)


@given(TIMES, st.floats(0.01, 10))
def test_the_unit_of_time_is_of_no_account(seconds: dict[Candidate, float], unit: float) -> None:
    losses = dict.fromkeys(CANDIDATES, 2.0)
    power = 2.0 ** round(unit)  # rounds nothing
    assert fastest({each: value * power for each, value in seconds.items()}, losses) == fastest(seconds, losses)
