"""The page of a run: `run.html` in its folder, for people who look at a run while it goes on and when it is over."""

from __future__ import annotations

import platform
import shlex
import sys
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from detdistill.core.environment import machine
from detdistill.core.errors import counted
from detdistill.core.texts import clock, points, shortened
from detdistill.evaluation.evaluating import Evaluation
from detdistill.evaluation.example_images import example_section
from detdistill.evaluation.score_sections import (
    class_section,
    confusion_section,
    precision_recall_section,
    shown_thresholds,
)
from detdistill.report.html import Code, Facts, Part, Section, Table, Text, write_report
from detdistill.training.recipe import Recipe
from detdistill.training.run_charts import curves, distillation_terms
from detdistill.training.run_folder import RunFolder
from detdistill.training.run_history import History, Line, read_history
from detdistill.training.run_progress import Progress

RELOAD_EVERY = 30
"""Seconds after which a browser reads the page of a run that goes on again."""
PACKAGES = ("detdistill", "torch", "torchvision", "timm", "lightning-fabric", "faster-coco-eval")
LONGEST = 400
"""Characters of a path or command that are shown."""
NAME = 32
"""Characters of a class name that are shown."""
LONGEST_RECIPE = 50_000
"""Characters of a recipe that are shown."""


def write_run_page(run: RunFolder, recipe: Recipe, evaluation: Evaluation | None, progress: Progress) -> None:
    """Write `run.html`, from the run's log, its recipe, and the last evaluation.

    A page of a run that goes on reloads itself. Images are drawn from their files: those that cannot be read are left
    out.

    Args:
        run: Folder of the run.
        recipe: Of the run.
        evaluation: Scores and detections of the last evaluation, on the validation set; None without a validation set,
            and in a run that was resumed and not evaluated since.
        progress: How far the run is.

    Raises:
        DetdistillError: The log cannot be read or the page cannot be written.
    """
    history = read_history(run.metrics)
    write_report(
        run.page,
        title=f"Run {shortened(run.path.name, LONGEST)}",
        summary=[_state(recipe, progress), *_scores(recipe, history, progress)],
        sections=[
            curves(history, progress.teacher_ap),
            *distillation_terms(history),
            *_validation(history, evaluation),
            _origin(run, recipe, progress),
        ],
        reload_every=RELOAD_EVERY if progress.state == "training" else None,
    )


def _state(recipe: Recipe, progress: Progress) -> str:
    """Whether the run goes on, and how far it is."""
    epochs = recipe.schedule.epochs
    steps = f"step {progress.step:,} of {progress.total_steps:,}"
    if progress.state == "finished":
        patience, early = recipe.evaluation.patience, ""
        if patience is not None and progress.epoch < epochs:
            early = f" It stopped early: {counted(patience, 'evaluation')} without a better AP (evaluation.patience)."
        return f"Finished: {progress.epoch} of {epochs} epochs, {steps}.{early}"
    share = f"{100 * progress.step / max(progress.total_steps, 1):.0f} %"
    done = f"{progress.epoch} of {epochs} epochs done, {steps} ({share})"
    if progress.state == "interrupted":
        return f"Interrupted: {done}. The same command resumes the run."
    left = "" if progress.remaining is None else f" About {clock(progress.remaining)} left."
    return f"Training: {done}.{left} The page reloads itself every {RELOAD_EVERY} seconds."


def _scores(recipe: Recipe, history: History, progress: Progress) -> list[str]:
    """Best and last AP, and the teacher's."""
    if recipe.data.val is None:
        return ["No validation set (data.val), so no AP. The detector of the last epoch is kept."]
    best = history.best
    if best is None:
        return ["Not evaluated yet."]
    last = history.scores[-1]
    said = [f"Best AP {points(best['AP'])} in epoch {best['epoch']}; that detector is kept."]
    if last["epoch"] != best["epoch"]:
        said.append(f"Last AP {points(last['AP'])} in epoch {last['epoch']}.")
    if progress.teacher_ap is not None:
        said.append(f"The teacher's AP {points(progress.teacher_ap)}.")
    return said


def _validation(history: History, evaluation: Evaluation | None) -> list[Section]:
    """What the last evaluation found."""
    if not history.scores:
        return []
    last = history.scores[-1]
    if evaluation is None:
        return [_logged_classes(last)]
    best, images = history.best, counted(len(evaluation.dataset.images), "image")
    text = f"All that follows is of the last evaluation, after epoch {last['epoch']}, on {images}."
    if best is not None and best["epoch"] != last["epoch"]:
        text += f" The detector of epoch {best['epoch']}, which is kept, is another one."
    return [
        Section("Validation set", [Text(text)]),
        class_section(evaluation),
        precision_recall_section(evaluation),
        confusion_section(evaluation),
        example_section(evaluation.dataset, evaluation.results, shown_thresholds(evaluation)),
    ]


def _logged_classes(last: Line) -> Section:
    """The scores of the classes in the log."""
    by_class = last["AP50_per_class"]
    rows = sorted(by_class.items(), key=lambda item: 2.0 if item[1] is None else item[1])
    caption = "The weakest class first. Curves, confused classes and images follow with the next evaluation."
    return Section(
        "Scores by class",
        [Table(("class", "AP50"), [(shortened(name, NAME), points(ap)) for name, ap in rows], caption)],
    )


def _origin(run: RunFolder, recipe: Recipe, progress: Progress) -> Section:
    """The command, and all that decides the run."""
    facts = {
        "command": command_line(),
        "folder": str(run.path),
        "dataset": recipe.data.path,
        "training set": recipe.data.train or "the whole dataset",
        "validation set": recipe.data.val or "none",
    }
    if recipe.distill is not None:
        facts["teacher"] = ", ".join(recipe.distill.teachers)
    facts |= {
        "seed": str(recipe.seed),
        "precision": recipe.machine.precision,
        "machine": machine(),
        "versions": _versions(),
        "time": f"{clock(progress.seconds)} in the process that wrote this page",
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z"),
    }
    parts: list[Part] = [Facts({name: shortened(value, LONGEST) for name, value in facts.items()})]
    if run.recipe.exists():
        parts.append(
            Code(run.recipe.read_text(encoding="utf-8", errors="replace")[:LONGEST_RECIPE], "The whole recipe")
        )
    return Section("How it was made", parts)


def command_line() -> str:
    """The command of this process, as a shell takes it; `python` stands for any interpreter."""
    program, *words = sys.argv or [""]
    name = Path(program).name
    start = [name] if name == "detdistill" else ["python", program]
    return shlex.join([*start, *words])


@cache
def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)
