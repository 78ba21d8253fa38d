"""What a reader wants to know first, for README and the top of the evidence: how much RM + PFI gave, and where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.paper_claims.claims import BASELINE, BOTH, BOTH_TUNED

from detdistill.compare.statistics import paired_difference, signed_points

ROWS = (
    ("scenes_few", BOTH_TUNED, "digits on photographs, a twelfth of the teacher's images; PFI's ratio 2"),
    ("scenes_few", BOTH, "the same, PFI's ratio 0.5"),
    ("scenes_few_mobilenet", BOTH, "the same, a MobileNetV2 student"),
    ("scenes_few_gfl", BOTH, "the same, GFL detectors"),
    ("scenes_few_atss", BOTH, "the same, ATSS detectors"),
    ("scenes_retinanet", BOTH, "digits on photographs, all of the teacher's images"),
    ("facemask_retinanet", BOTH, "faces"),
    ("bccd_retinanet", BOTH, "blood cells"),
)
"""Setting, method and the setting in words."""
BEGIN, END = "<!-- written by python -m benchmarks.paper_claims.page -->\n\n", "\n\n<!-- up to here -->"


def summary(runs: Sequence[dict[str, Any]]) -> str:
    """A table in Markdown: means over the seeds that the student alone and the taught one have in common.

    Args:
        runs: the entries of `results.json`.
    """
    lines = ["| data | seeds | teacher | student alone | RM + PFI | gained [95 %] |", "|---|---|---|---|---|---|"]
    for setting, method, words in ROWS:
        taught, alone = (
            {run["seed"]: run for run in runs if (run["setting"], run["method"]) == (setting, name)}
            for name in (method, BASELINE)
        )
        pairs = [(taught[seed], alone[seed]) for seed in taught if seed in alone]
        gained = paired_difference(*({run["seed"]: run["AP"] for run in side} for side in zip(*pairs, strict=True)))
        teacher = fmean(run["teacher"]["AP"] for run, _ in pairs)
        means = (teacher, fmean(run["AP"] for _, run in pairs), fmean(run["AP"] for run, _ in pairs))
        aps = " | ".join(f"{100 * mean:.1f}" for mean in means)
        lines.append(f"| {words} | {len(pairs)} | {aps} | {signed_points(gained)} |")
    return "\n".join(lines)


def write_summary(file: Path, runs: Sequence[dict[str, Any]]) -> None:
    """Puts the table between the two marks of a file."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(f"{before}{BEGIN}{summary(runs)}{END}{after}", encoding="utf-8")
