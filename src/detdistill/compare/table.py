"""What the runs of a comparison say together: a row for each method of each setting."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from detdistill.compare.outcome import Outcome
from detdistill.compare.plan import BASELINE, Plan
from detdistill.compare.statistics import Estimate, estimate, gap_closed, paired_difference, signed_points

SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
TEACHER = "teacher"
COLUMNS = ("method", "seeds", "AP", "AP gained", "gap closed", *SCORES[1:], "ms a step", "memory, MiB")


@dataclass(frozen=True)
class Row:
    """A method in a setting. Scores are 0 to 1, None where undefined.

    Attributes:
        setting: student, teacher and data.
        method: by its name; `teacher` for the teacher itself.
        seeds: of the runs that are finished; for the teacher none.
        scores: AP, AP50, AP75 and by size.
        values: AP by seed.
        per_class: mean AP by class.
        gained: AP beside the baseline's of the same seed.
        gap_closed: the share of the way from baseline to teacher.
        step_seconds: of an optimiser's step.
        peak_memory_mib: of a run, the mean.
        selection: AP on the split that something may be chosen on.
    """

    setting: str
    method: str
    seeds: tuple[int, ...]
    scores: Mapping[str, Estimate | None]
    values: Mapping[int, float]
    per_class: Mapping[str, float | None]
    gained: Estimate | None = None
    gap_closed: float | None = None
    step_seconds: float | None = None
    peak_memory_mib: float | None = None
    selection: Estimate | None = None


def rows_of(
    plan: Plan,
    outcomes: Iterable[Outcome],
    teachers: Mapping[str, Mapping[str, Any]],
    step_seconds: Mapping[str, Mapping[str, float]],
) -> list[Row]:
    """The table of what is finished.

    Args:
        plan: the comparison.
        outcomes: its finished runs.
        teachers: scores of the teacher by setting.
        step_seconds: by setting and method.
    """
    finished = list(outcomes)
    rows = []
    for setting in plan.settings:
        teacher = teachers.get(setting)
        if teacher is not None:
            rows.append(_teacher_row(setting, teacher))
        own = [outcome for outcome in finished if outcome.setting == setting]
        baseline = _by_seed([outcome for outcome in own if outcome.method == BASELINE])
        for method in plan.methods:
            runs = sorted((outcome for outcome in own if outcome.method == method), key=lambda run: run.seed)
            if runs:
                teacher_ap = None if teacher is None else teacher["AP"]
                seconds = step_seconds.get(setting, {}).get(method)
                rows.append(_row(setting, method, runs, baseline, teacher_ap, seconds))
    return rows


def _row(
    setting: str,
    method: str,
    runs: Sequence[Outcome],
    baseline: Mapping[int, float],
    teacher_ap: float | None,
    seconds: float | None,
) -> Row:
    values = _by_seed(runs)
    classes = runs[0].scores["per_class"]
    return Row(
        setting,
        method,
        tuple(run.seed for run in runs),
        {name: estimate(_defined(run.scores[name] for run in runs)) for name in SCORES},
        values,
        {name: _mean(run.scores["per_class"][name]["AP"] for run in runs) for name in classes},
        gained=None if method == BASELINE else paired_difference(values, baseline),
        gap_closed=None if method == BASELINE else gap_closed(values, baseline, teacher_ap),
        step_seconds=seconds,
        peak_memory_mib=fmean(run.peak_memory_mib for run in runs),
        selection=estimate(_defined(run.selection["AP"] for run in runs if run.selection is not None)),
    )


def _teacher_row(setting: str, scores: Mapping[str, Any]) -> Row:
    return Row(
        setting,
        TEACHER,
        (),
        {name: estimate(_defined([scores[name]])) for name in SCORES},
        {},
        {name: values["AP"] for name, values in scores["per_class"].items()},
    )


def _by_seed(runs: Iterable[Outcome]) -> dict[int, float]:
    return {run.seed: run.scores["AP"] for run in runs if run.scores["AP"] is not None}


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    defined = _defined(values)
    return fmean(defined) if defined else None


def texts(row: Row) -> list[str]:
    """A row for people, in the order of `COLUMNS`: scores 0 to 100, of AP the interval's half width behind ±."""
    share = row.gap_closed
    return [
        row.method,
        str(len(row.seeds)) if row.seeds else "–",
        _spread(row.scores["AP"]),
        signed_points(row.gained),
        "–" if share is None else f"{100 * share:.0f} %",
        *("–" if value is None else f"{100 * value.mean:.1f}" for value in map(row.scores.get, SCORES[1:])),
        "–" if row.step_seconds is None else f"{1000 * row.step_seconds:.0f}",
        "–" if row.peak_memory_mib is None else f"{row.peak_memory_mib:.0f}",
    ]


def _spread(value: Estimate | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value.mean:.1f}" + ("" if value.high is None else f" ± {100 * (value.high - value.mean):.1f}")


def class_texts(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of mean AP by class, 0 to 100."""
    classes = list(dict.fromkeys(name for row in rows for name in row.per_class))
    lines = []
    for row in rows:
        values = [row.per_class.get(name) for name in classes]
        lines.append([row.method, *("–" if value is None else f"{100 * value:.1f}" for value in values)])
    return ["method", *classes], lines


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as machines read them."""
    return [asdict(row) for row in rows]


def as_csv(rows: Sequence[Row]) -> str:
    """Rows for a spreadsheet: means and intervals in columns of their own, 0 to 1, empty where undefined."""
    file = io.StringIO()
    estimates = [*SCORES, "gained"]
    headings = ["setting", "method", "seeds"]
    headings += [f"{name}{end}" for name in estimates for end in ("", "_low", "_high")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*headings, "gap_closed", "step_seconds", "peak_memory_mib"])
    for row in rows:
        values: list[Any] = [row.setting, row.method, len(row.seeds)]
        for value in (*(row.scores[name] for name in SCORES), row.gained):
            values += [None] * 3 if value is None else [value.mean, value.low, value.high]
        writer.writerow([*values, row.gap_closed, row.step_seconds, row.peak_memory_mib])
    return file.getvalue()


def as_markdown(rows: Sequence[Row]) -> str:
    """Rows as a table of Markdown, settings one after the other."""
    lines = []
    for setting in dict.fromkeys(row.setting for row in rows):
        lines += [f"**{setting}**", "", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(texts(row))} |" for row in rows if row.setting == setting]
        lines.append("")
    return "\n".join(lines)
