"""The paper's claims, judged by the recorded runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from detdistill.compare.statistics import Estimate, estimate, paired_difference
from detdistill.evaluation.gap import share_closed

BASELINE, BOTH, BOTH_TUNED = "baseline", "rm+pfi", "rm+pfi_tuned"
MAIN = ("scenes_few", "scenes_retinanet", "bccd_wide", "bccd_retinanet", "facemask_wide", "facemask_retinanet")
FEW = ("scenes_few",)
MANY = ("scenes_few_candidates",)


@dataclass(frozen=True)
class Claim:
    """That one method is ahead of another.

    Attributes:
        number: of the claim; several comparisons may belong to one.
        text: in words.
        method: what is ahead.
        against: of what.
        settings: where it is tried.
        share: it is told as a share of the way from the baseline to the teacher, instead of AP.
    """

    number: int
    text: str
    method: str
    against: str
    settings: Sequence[str]
    share: bool = False


CLAIMS = (
    Claim(1, "Rank Mimicking beats soft labels", "rank_mimicking", "soft_label", MAIN),
    Claim(1, "Rank Mimicking beats soft labels, with 15 anchors a cell", "rank_mimicking", "soft_label", MANY),
    Claim(2, "PFI beats hints on the full map", "prediction_guided", "hint", MAIN),
    Claim(2, "PFI beats hints, each with its best ratio", "prediction_guided_tuned", "hint_tuned", FEW),
    Claim(2, "PFI beats hints at positives", "prediction_guided", "hint_positive", FEW),
    Claim(2, "PFI beats hints in ground-truth boxes", "prediction_guided", "hint_box", FEW),
    Claim(3, "RM + PFI beats RM", BOTH, "rank_mimicking", MAIN),
    Claim(3, "RM + PFI beats PFI", BOTH, "prediction_guided", MAIN),
    Claim(3, "RM + PFI beats PFI, each with its best ratio", BOTH_TUNED, "prediction_guided_tuned", FEW),
    Claim(4, "RM + PFI beats the student alone", BOTH, BASELINE, MAIN),
    Claim(4, "RM + PFI, with its best ratio, beats the student alone", BOTH_TUNED, BASELINE, FEW),
    Claim(5, "RM + PFI beats a GFL student alone", BOTH, BASELINE, ("scenes_few_gfl",)),
    Claim(5, "RM + PFI beats an ATSS student alone", BOTH, BASELINE, ("scenes_few_atss",)),
    Claim(5, "RM + PFI beats a MobileNetV2 student alone", BOTH, BASELINE, ("scenes_few_mobilenet",)),
    Claim(6, "Ranking by both beats ranking by class scores", "rm_both", "rank_mimicking", FEW),
    Claim(6, "Ranking by both beats ranking by IoU", "rm_both", "rm_localization", FEW),
    Claim(7, "RM + PFI closes a share of the gap to the teacher", BOTH, BASELINE, MAIN, share=True),
    Claim(7, "RM + PFI, with its best ratio, closes a share of the gap", BOTH_TUNED, BASELINE, FEW, share=True),
)


def claims_of(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each claim in each setting where both sides have a common seed.

    Args:
        runs: the entries of `results.json`.

    Returns:
        `difference`, `low` and `high` are AP, 0 to 1, of runs of one seed each, or a share of the gap. A claim of an
        interval above 0 holds, below 0 fails, and else is undecided.
    """
    found = []
    for claim in CLAIMS:
        for setting in claim.settings:
            own = [run for run in runs if run["setting"] == setting]
            judged = _share(claim, own) if claim.share else _difference(claim, own)
            if judged is not None:
                found.append(
                    {
                        "claim": claim.number,
                        "text": claim.text,
                        "data": setting.partition("_")[0],
                        "setting": setting,
                        "method": claim.method,
                        "against": claim.against,
                        "measure": "share of the gap" if claim.share else "AP",
                        "difference": judged.mean,
                        "low": judged.low,
                        "high": judged.high,
                        "seeds": judged.count,
                        "verdict": judged.verdict,
                    }
                )
    return found


def _by_seed(runs: Sequence[dict[str, Any]], method: str) -> dict[int, float]:
    return {run["seed"]: run["AP"] for run in runs if run["method"] == method}


def _difference(claim: Claim, runs: Sequence[dict[str, Any]]) -> Estimate | None:
    return paired_difference(_by_seed(runs, claim.method), _by_seed(runs, claim.against))


def _share(claim: Claim, runs: Sequence[dict[str, Any]]) -> Estimate | None:
    """The gain of each seed over the way from the mean baseline to the teacher."""
    values, baseline = _by_seed(runs, claim.method), _by_seed(runs, claim.against)
    common = [seed for seed in values if seed in baseline]
    if not common:
        return None
    teacher = fmean(run["teacher"]["AP"] for run in runs if run["method"] == claim.method and run["seed"] in baseline)
    start = fmean(baseline[seed] for seed in common)
    shares = [share_closed(start + values[seed] - baseline[seed], start=start, teacher=teacher) for seed in common]
    return estimate([share for share in shares if share is not None])
