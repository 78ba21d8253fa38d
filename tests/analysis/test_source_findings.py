from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from detdistill.analysis.source_findings import fit_sentence, interval, signed, source_numbers, source_sentences
from detdistill.analysis.sources import Fit, RankSources
from detdistill.analysis.tally import Estimate


def sources(opinion: Sequence[float], grid: Sequence[float] | None = None) -> RankSources:
    """One object an image, with these taus."""
    found = RankSources(has_grid=grid is not None)
    places = torch.arange(len(opinion))
    found.taus["opinion"].add(torch.tensor(opinion), places)
    if grid is not None:
        found.taus["grid"].add(torch.tensor(grid), places)
        found.difference.add(torch.tensor(opinion) - torch.tensor(grid), places)
    return found


MANY = 20
BETTER, CHANCE, WORSE = [0.2, 0.4] * MANY, [-0.2, 0.2] * MANY, [-0.4, -0.2] * MANY


@pytest.mark.parametrize(
    ("found", "fit", "numbers"),
    [
        (sources(BETTER, CHANCE), "opinion", ["{source: opinion}", "+0.30", "+0.00"]),
        (sources(CHANCE, BETTER), "grid", ["{source: grid}", "+0.30", "+0.00", "-0.30"]),
        (sources(BETTER, BETTER), "either", ["+0.30", "difference +0.00"]),
        (sources(CHANCE, WORSE), "neither", ["+0.00", "-0.30"]),
        (sources(BETTER[:8], CHANCE[:8]), "unknown", ["8", "30"]),
        (sources(BETTER), "opinion", ["{source: opinion}", "+0.30"]),
        (sources(CHANCE), "neither", ["+0.00", "no scores"]),
        (sources(BETTER[:8]), "unknown", ["8", "30"]),
    ],
)
def test_one_sentence_with_the_numbers_behind_it(found: RankSources, fit: Fit, numbers: list[str]) -> None:
    assert found.fit == fit
    plain, explained = (fit_sentence(found, explain=explain) for explain in (False, True))
    assert all(number in plain for number in numbers)
    recommended = [source for source in ("opinion", "grid") if f"{{source: {source}}}" in plain]
    assert recommended == ([fit] if fit in ("opinion", "grid") else [])
    assert explained.startswith(plain[:-1])
    assert plain.endswith(".")


def test_numbers_of_an_interval_by_hand() -> None:
    """Taus .2 and .4 in turn, 40 images: s² = .01 · 40 / 39, so ± 2.0227 · sqrt(.01 / 39) = .0324."""
    found = source_numbers(sources(BETTER))
    opinion = found["tau_with_iou"]["opinion"]
    assert opinion == pytest.approx({"mean": 0.3, "low": 0.26761, "high": 0.33239, "objects": 40}, abs=1e-4)
    assert found["tau_with_iou"]["grid"] == {"mean": None, "low": None, "high": None, "objects": 0}
    assert (found["fits"], found["groups"]) == ("opinion", [])


def test_what_is_undefined_is_left_out_or_a_dash() -> None:
    assert list(source_sentences(RankSources(), explain=True)) == []
    assert (signed(None), signed(-0.001), signed(0.126)) == ("–", "+0.00", "+0.13")
    assert interval(Estimate(0.5)) == "–"
    assert interval(Estimate(0.5, -0.25, 1.25, 9)) == "-0.25 to +1.25"
