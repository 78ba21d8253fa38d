"""The closing words of a run: what came out, and what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path

from detdistill.core.errors import DataError, counted
from detdistill.core.texts import clock, points, shortened
from detdistill.data.opening import find_splits, names_annotations
from detdistill.data.splits import usual_name
from detdistill.training.recipe import Data, Recipe
from detdistill.training.run_folder import RunFolder
from detdistill.training.run_history import History, ap_of, read_history
from detdistill.training.summary import Summary

ENOUGH = 4
"""Evaluations from which on something can be said of how AP went."""
FALLEN, RISING = 0.01, 0.005
"""AP, 0 to 1, lost after the best epoch, and gained in the last quarter of the evaluations, that are worth a line."""
WEAKEST = 3
NAME = 32
"""Characters of a class name that are shown."""


def closing_words(run: RunFolder, recipe: Recipe, summary: Summary) -> list[str]:
    """Return at most ten lines about a finished run, with commands that can be typed as they are.

    Args:
        run: Folder of the run.
        recipe: Of the run.
        summary: Of the finished run.

    Raises:
        DetdistillError: The log cannot be read.
    """
    history = read_history(run.metrics)
    folder = _near(run.path)
    patience, early = recipe.evaluation.patience, ""
    if patience is not None and summary.epochs < recipe.schedule.epochs:
        early = f"; stopped early after {counted(patience, 'evaluation')} without a better AP"
    length = f"{counted(summary.epochs, 'epoch')}, {counted(summary.steps, 'step')}, {clock(summary.seconds)}"
    page = [f"curves, confused classes and images: {_near(run.page)}"] if run.page.exists() else []
    return [
        f"{folder}: {length}{early}",
        *_scores(history, summary),
        *_weakest(history),
        *_trend(history, recipe, folder, is_whole=not early),
        *page,
        *_next(recipe.data, folder),
    ]


def _scores(history: History, summary: Summary) -> list[str]:
    """The best AP, and how far it is from the teacher's."""
    best = history.best
    if best is None:
        return ["no validation set (data.val), so no AP; the detector of the last epoch is kept"]
    scores = f"AP {points(best['AP'])}, AP50 {points(best['AP50'])}"
    said = [f"best on the validation set: {scores} in epoch {best['epoch']}; that detector is kept"]
    teacher = summary.teacher_ap
    if teacher is not None:
        gap = 100 * (ap_of(best) - teacher)
        share = f", {100 * ap_of(best) / teacher:.0f} % of it" if teacher > 0 else ""
        said.append(f"the teacher's AP: {points(teacher)}; the student's is {gap:+.1f}{share}")
    return said


def _weakest(history: History) -> list[str]:
    """The classes with the lowest AP50 in the best epoch."""
    by_class = {} if history.best is None else history.best["AP50_per_class"]
    known = sorted((ap, name) for name, ap in by_class.items() if ap is not None)
    weakest = known[: min(WEAKEST, len(known) - 1)] if known else []
    if not weakest:
        return []
    return ["weakest classes by AP50: " + ", ".join(f"{shortened(name, NAME)} {points(ap)}" for ap, name in weakest)]


def _trend(history: History, recipe: Recipe, folder: Path, *, is_whole: bool) -> list[str]:
    """Whether AP still rose at the end, or fell after the best epoch."""
    best, count = history.best, len(history.scores)
    if best is None or count < ENOUGH:
        return []
    lost = ap_of(best) - ap_of(history.scores[-1])
    if lost > FALLEN:
        return [
            f"AP fell by {100 * lost:.1f} after epoch {best['epoch']}: try fewer epochs, more augmentation, or "
            "evaluation.patience"
        ]
    before = history.scores[: count - count // ENOUGH]
    gained = ap_of(best) - max(map(ap_of, before))
    since = before[-1]["epoch"]
    if gained <= RISING or not is_whole:
        return [f"AP hardly changed after epoch {since} ({100 * gained:+.1f})"]
    return [f"AP still rose by {100 * gained:.1f} after epoch {since}; train longer: {_longer(recipe, folder)}"]


def _longer(recipe: Recipe, folder: Path) -> str:
    """The command of the same run with twice as many epochs."""
    schedule = recipe.schedule
    words: list[object] = ["train" if recipe.distill is None else "distill", folder / "recipe.yaml"]
    words += ["--out", folder.with_name(f"{folder.name}_longer"), "--schedule.epochs", 2 * schedule.epochs]
    if schedule.decay == "step":
        words += ["--schedule.milestones", [2 * epoch for epoch in schedule.milestones]]
    return _command(*words)


def _next(data: Data, folder: Path) -> list[str]:
    """The commands that follow a training."""
    options = ["--follow-links"] * data.follow_links + ["--rescale"] * data.rescale
    options += ["--accept-left-out"] * data.accept_left_out
    unused = _unused_split(data)
    place = ["--data", "TEST_DATASET"] if unused is None else ["--data", data.path, "--split", unused, *options]
    said = [f"final score, on images that were not used to choose: {_command('evaluate', folder, *place)}"]
    if data.val is not None:
        part = ["--annotations" if names_annotations(data.val) else "--split", data.val]
        images = [] if data.val_images is None else ["--images", data.val_images]
        words = _command("evaluate", folder, "--data", data.path, *part, *images, *options, "--store-thresholds")
        said.append(f"choose score thresholds for predict: {words}")
    return [
        *said,
        f"find objects: {_command('predict', folder, 'IMAGES', '--out', folder / 'predictions')}",
        f"write an ONNX file: {_command('export', folder, '--out', folder / 'model.onnx')}",
    ]


def _unused_split(data: Data) -> str | None:
    """The name of the dataset's test split, if it has one that took no part in the training."""
    try:
        names = [split.name for split in find_splits(Path(data.path).expanduser())]
    except DataError:
        return None
    tests = [name for name in names if (usual_name(name) or ("", 0))[0] == "test"]
    return next((name for name in tests if name not in (data.train, data.val)), None)


def _command(*words: object) -> str:
    return shlex.join(["detdistill", *map(str, words)])


def _near(path: Path) -> Path:
    """A path as it is typed from the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
