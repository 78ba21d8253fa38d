from __future__ import annotations

from typing import Any

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.distill.building import build_terms
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.weighting import Weight


def test_options_and_weights_of_each_term() -> None:
    terms, weights = build_terms(
        {
            "rank_mimicking": {"space": "prob", "temperature": 2, "weight": 3, "decay": "linear"},
            "hint": {"ratio": 0.1},
            "soft_label": {},
        },
        weight="auto",
        ratio=0.25,
        detector="gfl",
    )
    rank = terms["rank_mimicking"]
    assert isinstance(rank, RankMimicking)
    assert (rank.space, rank.temperature, rank.rank_by) == ("prob", 2.0, "classification")
    assert weights == {
        "rank_mimicking": Weight(3, 0.25, "linear"),
        "hint": Weight(None, 0.1),
        "soft_label": Weight(None, 0.25),
    }


def test_without_a_ratio_each_method_has_its_own() -> None:
    _, weights = build_terms(
        {"rank_mimicking": {}, "prediction_guided": {}, "hint": {"ratio": 0.1}},
        weight="auto",
        ratio=None,
        detector="gfl",
    )
    assert {name: weight.ratio for name, weight in weights.items()} == {
        "rank_mimicking": None,  # the method's own
        "prediction_guided": None,
        "hint": 0.1,
    }


def test_published_weights() -> None:
    options = {"rank_mimicking": {}, "prediction_guided": {"weight": "auto"}}
    _, weights = build_terms(options, weight="paper", ratio=0.5, detector="retinanet")
    assert weights == {"rank_mimicking": Weight(4.0, 0.5), "prediction_guided": Weight(None, 0.5)}


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("gfl", "terms.rank_mimicking.weight: no weight is published for gfl (there is one for: retinanet); take auto"),
        ("TinyDetector", "no weight is published for TinyDetector"),
    ],
)
def test_no_weight_was_published(head: str, said: str) -> None:
    with pytest.raises(DetdistillError) as refused:
        build_terms({"rank_mimicking": {"weight": "paper"}}, weight="auto", ratio=0.5, detector=head)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rank_mimiking": {}}, ["there is no method 'rank_mimiking'; there are: ", "did you mean rank_mimicking?"]),
        ({"hint": {"wher": "all"}}, ["terms.hint has no option 'wher'; it has: where, adapter", "did you mean where?"]),
        ({"hint": {"wieght": 1}}, ["did you mean weight?"]),
        (
            {"hint": {"where": "al"}},
            ["terms.hint.where must be one of all, positive, box, not 'al'\ndid you mean all?"],
        ),
        ({"soft_label": {"temperature": "hot"}}, ["terms.soft_label.temperature must be a number, not 'hot'"]),
        ({"soft_label": {"temperature": 0}}, ["terms.soft_label.temperature must be above 0, not 0.0"]),
        ({"rank_mimicking": {"temperature": -1}}, ["terms.rank_mimicking.temperature must be above 0, not -1"]),
        ({"hint": {"weight": "papr"}}, ["terms.hint.weight must be auto, paper or a number", "did you mean paper?"]),
        ({"hint": {"weight": -2}}, ["terms.hint.weight must be a number of at least 0, not -2"]),
        ({"hint": {"ratio": "half"}}, ["terms.hint.ratio must be a number above 0, not 'half'"]),
        ({"hint": {"decay": "fast"}}, ["terms.hint.decay must be one of none, linear, cosine, not 'fast'"]),
    ],
)
def test_what_a_recipe_may_get_wrong(options: dict[str, dict[str, Any]], said: list[str]) -> None:
    with pytest.raises(DetdistillError) as refused:
        build_terms(options, weight="auto", ratio=0.5, detector="gfl")
    for part in said:
        assert part in str(refused.value)
