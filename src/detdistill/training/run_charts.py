"""The curves of a run, from its log."""

from __future__ import annotations

from collections.abc import Mapping

from detdistill.report.charts import Chart
from detdistill.report.html import Grid, Part, Section, Text
from detdistill.report.thinning import Points, averaged, thinned
from detdistill.training.run_history import History

PERCENT = 100
MEANS, SINGLES = 100, 200
"""Points of a drawn line, at most, of means of several log lines and of single values."""


def curves(history: History, teacher_ap: float | None) -> Section:
    """Return the section with the loss and its terms, AP, learning rate and gradient norm.

    Args:
        history: log of the run.
        teacher_ap: of the teacher on the validation set, 0 to 1; None without one.
    """
    own = {name: f"loss: {name}" for name in history.detection_terms}
    rates = {"learning_rate": "learning rate", "gradient_norm": "gradient norm, before clipping"}
    charts = [
        *_by_step(history, {"loss": "loss"}),
        *_scores(history, teacher_ap),
        *_by_step(history, own | rates),
    ]
    if not charts:
        return Section("Curves", [Text("No line of numbers was logged so far.")])
    return Section("Curves", [Grid(charts), *_note(history)])


def distillation_terms(history: History) -> list[Section]:
    """Return a section with the terms of the distillation, weighted, raw and their weights, if there are any."""
    titles = {"": ", weighted", "/raw": ", raw", "/weight": ", weight"}
    names = {f"{name}{key}": f"{name}{title}" for name in history.distillation_terms for key, title in titles.items()}
    if not names:
        return []
    text = Text("The weighted term is added to the loss: it is the raw term times its weight.")
    return [Section("Terms of the distillation", [text, Grid(_by_step(history, names))])]


def _scores(history: History, teacher_ap: float | None) -> list[Chart]:
    """Return the chart of the scores over epochs, once there is one."""
    scores = {name: history.by_epoch(name) for name in ("AP", "AP50", "AP75")}
    lines = {name: [(epoch, PERCENT * value) for epoch, value in points] for name, points in scores.items() if points}
    if not lines:
        return []
    reference = None if teacher_ap is None else ("teacher's AP", PERCENT * teacher_ap)
    return [Chart("epoch", "AP on the validation set", lines, reference=reference, counts=True, small=True)]


def _by_step(history: History, titles: Mapping[str, str]) -> list[Chart]:
    """Return a small chart over steps for each key that has values."""
    found = {title: history.by_step[key] for key, title in titles.items() if key in history.by_step}
    return [_chart(title, points) for title, points in found.items() if len(points)]


def _chart(title: str, points: Points) -> Chart:
    is_long = len(points) > SINGLES
    line = averaged(points, MEANS if is_long else SINGLES)
    faint = {title: thinned(points, SINGLES)} if is_long else {}
    return Chart("step", title, {title: line}, faint=faint, counts=True, small=True)


def _note(history: History) -> list[Part]:
    if history.lines <= SINGLES:
        return []
    return [
        Text(f"Thick lines: means of about {history.lines / MEANS:.0f} lines of the log. Thin lines: single values.")
    ]
