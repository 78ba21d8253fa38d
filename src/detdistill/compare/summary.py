"""The files that a comparison leaves: the table for machines, spreadsheets and texts, and a page for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from detdistill.compare.plan import BASELINE, Plan
from detdistill.compare.statistics import Estimate
from detdistill.compare.table import COLUMNS, TEACHER, Row, as_csv, as_json, as_markdown, class_texts, texts
from detdistill.core.files import write_atomically
from detdistill.report.charts import Dots
from detdistill.report.html import Code, Part, Section, Table, Text, write_report

PERCENT = 100

HOW_TO_READ = (
    "AP is COCO's, 0 to 100; ± is half of the 95 % interval of the mean over seeds (Student's t). AP gained is beside "
    "the baseline of the same seed, with its 95 % interval: where it holds 0, these seeds do not tell whether the "
    "method helps. Gap closed: the share of the way from the baseline to the teacher. Memory: the most that a run's "
    "process held."
)
FAIRNESS = (
    "Runs of one seed start from the same weights and see the same images, varied in the same way, in the same order. "
    "The final weights count, averaged where the recipe says so; no epoch was chosen. Steps were timed in turns in one "
    "process, apart from the runs."
)


def write_summary(plan: Plan, rows: Sequence[Row], out: Path) -> None:
    """Writes `table.json`, `table.csv`, `table.md` and `report.html`.

    Args:
        plan: the comparison.
        rows: what came out so far.
        out: the comparison's folder.

    Raises:
        DetdistillError: a file cannot be written.
    """
    write_atomically(out / "table.json", json.dumps(as_json(rows), indent=1, ensure_ascii=False) + "\n")
    write_atomically(out / "table.csv", as_csv(rows))
    write_atomically(out / "table.md", as_markdown(rows))
    write_report(
        out / "report.html",
        title="What helps this student",
        summary=verdict(plan, rows),
        sections=[
            *(_section(setting, [row for row in rows if row.setting == setting]) for setting in plan.settings),
            Section("How it was made", [Text(FAIRNESS), *_commands(out)]),
        ],
    )


def verdict(plan: Plan, rows: Sequence[Row]) -> list[str]:
    """What the table says in words, a sentence or two for each setting."""
    said = []
    for setting in plan.settings:
        compared = [row for row in rows if row.setting == setting and row.gained is not None]
        if not compared:
            said.append(f"{setting}: there is nothing to compare yet.")
            continue
        best = max(compared, key=lambda row: row.gained.mean if row.gained else 0.0)
        assert best.gained is not None
        seeds = f"{best.gained.count} seed{'s' if best.gained.count > 1 else ''}"
        gain = f"{setting}: the largest mean gain is {best.method}'s, {PERCENT * best.gained.mean:+.1f} AP over {seeds}"
        ending = {
            "holds": "; its 95 % interval lies above 0.",
            "fails": "; even that is behind the baseline, and its 95 % interval lies below 0.",
            "undecided": ", but these seeds do not tell it from 0.",
        }
        said.append(gain + ending[best.gained.verdict])
        chosen = [row for row in compared if row.selection is not None]
        if chosen and plan.select_on is not None:
            choice = max(chosen, key=lambda row: row.selection.mean if row.selection else 0.0)
            gained = choice.gained.mean if choice.gained else 0.0
            said.append(
                f"Chosen on {plan.select_on}, where it is best: {choice.method}, whose gain on {plan.report_on} is "
                f"{PERCENT * gained:+.1f} AP."
            )
    return said


def _section(setting: str, rows: Sequence[Row]) -> Section:
    if not rows:
        return Section(setting, [Text("No run is finished yet.")])
    parts: list[Part] = [Table(COLUMNS, [texts(row) for row in rows], HOW_TO_READ)]
    runs = [row for row in rows if row.method != TEACHER]
    teacher = next((row.scores["AP"] for row in rows if row.method == TEACHER), None)
    if any(row.values for row in runs):
        parts.append(_scores(runs, None if teacher is None else teacher.mean))
    if any(row.gained is not None for row in runs):
        parts.append(_gains(runs))
    parts.append(Table(*class_texts(rows), "Mean AP by class."))
    return Section(setting, parts)


def _scores(rows: Sequence[Row], teacher: float | None) -> Dots:
    return Dots(
        "AP",
        {row.method: [PERCENT * value for value in row.values.values()] for row in rows},
        _intervals({row.method: row.scores["AP"] for row in rows}),
        None if teacher is None else ("teacher", PERCENT * teacher),
        "A ring for each seed; the bar is the 95 % interval of the mean, which is the upright stroke in it.",
    )


def _gains(rows: Sequence[Row]) -> Dots:
    baseline = next(row.values for row in rows if row.method == BASELINE)
    compared = [row for row in rows if row.gained is not None]
    return Dots(
        "AP gained",
        {
            row.method: [PERCENT * (value - baseline[seed]) for seed, value in row.values.items() if seed in baseline]
            for row in compared
        },
        _intervals({row.method: row.gained for row in compared}),
        (BASELINE, 0.0),
        f"Beside the {BASELINE} of the same seed, so that what a seed does to both is not in it: bars can be clear "
        "of 0 although those of the scores overlap.",
    )


def _intervals(estimates: Mapping[str, Estimate | None]) -> dict[str, tuple[float, float, float]]:
    return {
        name: (PERCENT * value.low, PERCENT * value.mean, PERCENT * value.high)
        for name, value in estimates.items()
        if value is not None and value.low is not None and value.high is not None
    }


def _commands(out: Path) -> list[Part]:
    return [
        Text("The same command goes on with what is missing:"),
        Code(f"detdistill compare {out / 'plan.yaml'} --out {out}"),
    ]
