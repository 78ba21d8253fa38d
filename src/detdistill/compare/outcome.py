"""One run of a comparison: training it, scoring it, and what is kept of it."""

from __future__ import annotations

import json
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from detdistill.compare.folder_use import wait_until_free
from detdistill.compare.machine_values import threads_of, with_machine_values
from detdistill.compare.plan import Cell, Plan
from detdistill.core.distributed import is_first_process
from detdistill.core.environment import machine
from detdistill.core.errors import DetdistillError
from detdistill.core.files import read_json, write_atomically
from detdistill.detectors.storage import load_detector, read_description
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.score import score
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import open_data_part
from detdistill.training.recipe import Recipe
from detdistill.training.run import distill, train
from detdistill.training.run_folder import RunFolder
from detdistill.training.scoring import inference_options

FILE = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """What is kept of a run.

    Attributes:
        setting: of the cell.
        method: of the cell.
        seed: of the cell.
        report_on: the split of `scores`.
        scores: COCO's numbers of the final weights, 0 to 1, `per_class` among them.
        select_on: the split of `selection`, if there is one.
        selection: COCO's numbers there.
        steps: of the optimiser.
        seconds: of training, from the last resumption on.
        peak_memory_mib: the most that the training process held at once, in MiB, loading processes apart; with a GPU,
            the most that torch held there.
        weights: of the terms.
        threads: of the training process.
        machine: on which it ran.
        python: its version.
        versions: of the packages.
    """

    setting: str
    method: str
    seed: int
    report_on: str
    scores: dict[str, Any]
    select_on: str | None
    selection: dict[str, Any] | None
    steps: int
    seconds: float
    peak_memory_mib: int
    weights: dict[str, float]
    threads: int
    machine: str
    python: str
    versions: dict[str, str]


def run_cell(plan: Plan, cell: Cell, out: Path, *, threads: int | None = None) -> Outcome:
    """Train and score one run, or resume it. A finished run stays as it is.

    While another process is training in the run's folder, for example one of a comparison that was killed, this one
    waits for it.

    Args:
        plan: The comparison.
        cell: One of its runs.
        out: The comparison's folder.
        threads: Threads of torch, part of the record; None for the recipe's.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM; the same call resumes the run.
        SettingsError: `threads` is less than 1.
        DetdistillError: The run failed or diverged, or its folder cannot be used.
    """
    plan = with_machine_values(plan, out, threads=threads, setting=cell.setting)
    folder, recipe = cell.folder(out), plan.recipe(cell)
    torch.set_num_threads(threads_of(recipe))
    done = read_outcome(plan, cell, out)
    if done is None and is_first_process():
        wait_until_free(RunFolder(folder))
        done = read_outcome(plan, cell, out)
    if done is not None:
        return done
    summary = train(recipe, folder) if recipe.distill is None else distill(recipe, None, folder)
    memory = _peak_memory_mib()
    provenance = read_description(folder).provenance
    outcome = Outcome(
        **asdict(cell),
        report_on=plan.report_on,
        scores=_scores(folder, recipe, plan.report_on, plan.report_images),
        select_on=plan.select_on,
        selection=None if plan.select_on is None else _scores(folder, recipe, plan.select_on, plan.select_images),
        steps=summary.steps,
        seconds=summary.seconds,
        peak_memory_mib=memory,
        weights=provenance.get("weights", {}),
        threads=torch.get_num_threads(),
        machine=machine(),
        python=platform.python_version(),
        versions=provenance["versions"],
    )
    if is_first_process():
        write_atomically(folder / FILE, json.dumps(asdict(outcome), indent=1, ensure_ascii=False) + "\n")
    return outcome


def read_outcome(plan: Plan, cell: Cell, out: Path) -> Outcome | None:
    """What is kept of a run that is finished and was scored on the plan's splits; else None.

    Raises:
        DetdistillError: the file is damaged.
    """
    folder = RunFolder(cell.folder(out))
    file = folder.path / FILE
    if not file.exists() or not folder.is_finished(plan.recipe(cell)):
        return None
    try:
        outcome = Outcome(**read_json(file))
    except (ValueError, TypeError) as error:
        raise DetdistillError(f"{file} is damaged ({error}): remove it, and the run is scored again") from error
    return outcome if (outcome.report_on, outcome.select_on) == (plan.report_on, plan.select_on) else None


def _scores(folder: Path, recipe: Recipe, part: str | None, images: str | None) -> dict[str, Any]:
    """The scores of a run's detector on a part of the dataset, whose image folder is `images` if it is not usual."""
    detector = load_detector(folder).to(device_beside_training(recipe.machine))
    dataset = open_data_part(recipe.data, part, images, masks=detector.has_masks)
    return score(detector, dataset, recipe.images, coco_metrics, inference_options(recipe)).to_values()


def _peak_memory_mib() -> int:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux, `getrusage` begins with what the process held that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return round(int(lines["VmHWM"].split()[0]) / 2**10)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(held / 2**20 if sys.platform == "darwin" else held / 2**10)
