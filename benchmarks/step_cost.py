"""What distillation costs: a step with RM and PFI beside a plain step of the same student and the teacher's forward.

    OMP_NUM_THREADS=1 python benchmarks/step_cost.py [--rounds 7]

A step is forward, loss, backward and optimiser, on random images with random boxes, channels last, in float32. The
three are timed in turns in one process, and a ratio is that of the medians. The worst ratio is one of processor times,
which with one thread are the clock's on an idle machine, and change little with other work on a busy one. Weights are
given, as they are fixed in all but a few steps of a run.

Memory is the peak of what a process of its own holds (VmHWM, Linux only) above what it holds after its imports; glibc
is told to give memory back at once, or what it hoards would be most of the difference. The teacher's weights and
outputs are taken off before the ratio, for no method can do without them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from detdistill.core.structures import Targets, single_process
from detdistill.detectors.dense.architecture import Architecture, FeaturePyramid
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.distill.distiller import Distiller
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.weighting import Weight
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.training.task import Supervised

OBJECTS = 8  # in each image
STEPS = 3  # of the processes whose memory is measured


@dataclass(frozen=True)
class Case:
    """A pair, and what it is shown."""

    student: Architecture
    teacher: Architecture
    classes: int
    batch: int
    side: int = 320


CASES = {
    "quarter-width ResNet-18, GFL": Case(
        Architecture("gfl", "resnet18", backbone_width=0.25, pyramid=FeaturePyramid(channels=64)),
        Architecture("gfl", "resnet18"),
        3,
        8,
    ),
    "ResNet-50, GFL": Case(Architecture("gfl", "resnet50"), Architecture("gfl", "resnet101"), 80, 2),
    "ResNet-50, RetinaNet": Case(Architecture("retinanet", "resnet50"), Architecture("retinanet", "resnet101"), 80, 2),
}


def random_batch(case: Case) -> tuple[Tensor, Targets]:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (case.batch, 3, case.side, case.side), dtype=torch.uint8)
    corners = torch.rand(case.batch, OBJECTS, 2) * case.side * 0.6
    boxes = torch.cat((corners, corners + 16 + torch.rand(case.batch, OBJECTS, 2) * case.side * 0.3), dim=-1)
    labels = torch.randint(0, case.classes, (case.batch, OBJECTS))
    return images, Targets.from_images(list(boxes), list(labels), torch.tensor([[case.side, case.side]] * case.batch))


def detector(case: Case, architecture: Architecture) -> DenseDetector:
    return DenseDetector(architecture, [str(label) for label in range(case.classes)])


def supervision(case: Case) -> Supervised:
    student = detector(case, case.student).to(memory_format=torch.channels_last)
    return Supervised(student, channels_last=True)


def distiller(case: Case) -> Distiller:
    student = detector(case, case.student).to(memory_format=torch.channels_last)
    terms = {"rank_mimicking": RankMimicking(), "prediction_guided": PredictionGuided()}
    weights = {name: Weight(1.0) for name in terms}
    return Distiller(student, detector(case, case.teacher), terms, weights=weights, channels_last=True)


def step_of(learner: nn.Module, images: Tensor, targets: Targets) -> Callable[[], object]:
    learner.train()
    optimizer = torch.optim.SGD(learner.parameters(), 1e-5, momentum=0.9)

    def step() -> None:
        terms = learner(images, targets, single_process)
        torch.autograd.backward(torch.stack(tuple(terms.values())).sum())
        optimizer.step()
        optimizer.zero_grad()

    return step


def time_ratio(case: Case, rounds: int) -> float:
    """Prints the ratios by the clock and of processor time; the latter is returned."""
    images, targets = random_batch(case)
    taught = distiller(case)
    works: tuple[Callable[[], object], ...] = (
        step_of(supervision(case), images, targets),
        lambda: taught.guide(images, targets),
        step_of(taught, images, targets),
    )
    clocks = {"time": time.perf_counter, "processor time": time.process_time}
    taken: dict[str, list[list[float]]] = {name: [[] for _ in works] for name in clocks}
    for round_number in range(rounds + 1):
        for index, work in enumerate(works):
            start = {name: clock() for name, clock in clocks.items()}
            work()
            if round_number:  # the first round warms up
                for name, clock in clocks.items():
                    taken[name][index].append(clock() - start[name])
    for name, seconds in taken.items():
        plain, teacher, distilled = (1000 * median(values) for values in seconds)
        ratio = distilled / (plain + teacher)
        parts = f"plain {plain:.0f} ms, teacher {teacher:.0f} ms, distilling {distilled:.0f} ms"
        print(f"  {name}: {parts}: ratio {ratio:.3f}", flush=True)
    return ratio


def memory_ratio(case: str) -> float:
    plain, distilled, teacher = (measured(case, what) for what in ("plain", "distilled", "teacher"))
    ratio = (distilled - teacher) / plain
    print(
        f"  memory: plain {plain:.0f} MB, the teacher's weights and outputs {teacher:.0f} MB, distilling "
        f"{distilled:.0f} MB: ratio {ratio:.3f}"
    )
    return ratio


def measured(case: str, what: str) -> float:
    """Megabytes, as a process of its own prints them."""
    words = [sys.executable, __file__, "--memory", what, case]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def megabytes(case: Case, what: str) -> float:
    images, targets = random_batch(case)
    if what == "teacher":
        taught = distiller(case)
        assert isinstance(taught.teacher, DetectorTeacher)
        output = taught.guide(images, targets).dense
        tensors = [
            *taught.teacher.detector.state_dict().values(),
            *output.features.maps,
            output.predictions.class_logits,
            output.predictions.regression,
        ]
        total: int = sum(tensor.nbytes for tensor in tensors)
        return total / 2**20
    before = resident("VmRSS")
    step = step_of(supervision(case) if what == "plain" else distiller(case), images, targets)
    for _ in range(STEPS):
        step()
    return resident("VmHWM") - before


def resident(key: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition(f"{key}:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", nargs=2, metavar=("WHAT", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        what, case = arguments.memory
        print(megabytes(CASES[case], what))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    memories, times = [], []
    for name, case in CASES.items():
        print(f"{name}, batch of {case.batch} images of {case.side} px", flush=True)
        times.append(time_ratio(case, arguments.rounds))
        memories.append(memory_ratio(name))
    print(f"worst ratio of memory {max(memories):.2f} (allowed: 1.25)")
    print(f"worst ratio {max(times):.2f}")


if __name__ == "__main__":
    main()
