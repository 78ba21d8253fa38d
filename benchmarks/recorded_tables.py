"""Tables of recorded runs, for the documentation: each method beside the student alone, paired by seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from detdistill.compare.plan import BASELINE
from detdistill.compare.statistics import paired_difference, signed_points

Run = dict[str, Any]


def write_tables(page: Path, record: Path, plans: Sequence[str]) -> None:
    """Put the table of each plan between its two marks in a page; see `with_tables`."""
    page.write_text(with_tables(page.read_text(encoding="utf-8"), record, plans), encoding="utf-8")


def with_tables(text: str, record: Path, plans: Sequence[str]) -> str:
    """Return a page with the tables of a record.

    Args:
        text: Of the page, with the marks `<!-- table of PLAN -->` and `<!-- end -->`.
        record: `results.json`.
        plans: Names of the plans.
    """
    runs = json.loads(record.read_text(encoding="utf-8"))
    for plan in plans:
        begin, end = f"<!-- table of {plan} -->\n\n", "\n\n<!-- end -->"
        before, mark, rest = text.partition(begin)
        after = rest.partition(end)[2]
        assert mark, plan
        text = f"{before}{begin}{table([run for run in runs if run['plan'] == plan])}{end}{after}"
    return text


def table(runs: Sequence[Run]) -> str:
    """The table of a plan's runs in Markdown: means over seeds, and differences from the student alone with intervals.

    A setting without a student alone is compared with the only one of its plan.
    """
    by_seed: dict[tuple[str, str], dict[int, Run]] = {}
    for run in runs:
        by_seed.setdefault((run["setting"], run["method"]), {})[run["seed"]] = run
    alone = {setting: found for (setting, method), found in by_seed.items() if method == BASELINE}
    lines = [
        "| setting | teacher's AP | method | seeds | AP | AP50 | AP75 | minus the student alone [95 %] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (setting, method), found in by_seed.items():
        teacher = "" if method == BASELINE else f"{100 * fmean(run['teacher']['AP'] for run in found.values()):.1f}"
        scores = " | ".join(
            f"{100 * fmean(run[name] for run in found.values()):.1f}" for name in ("AP", "AP50", "AP75")
        )
        reference = alone.get(setting) or (next(iter(alone.values())) if len(alone) == 1 else {})
        gained, name = "", "alone"
        if method != BASELINE:
            gained, name = signed_points(paired_difference(_aps(found), _aps(reference))), method
        lines.append(f"| {setting} | {teacher} | {name} | {len(found)} | {scores} | {gained} |")
    return "\n".join(lines)


def _aps(runs: dict[int, Run]) -> dict[int, float]:
    return {seed: run["AP"] for seed, run in runs.items()}
