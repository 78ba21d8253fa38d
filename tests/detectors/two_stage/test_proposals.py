from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.boxes import pairwise_iou
from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, Predictions
from detdistill.core.structures import BACKGROUND, IGNORED, Targets
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.two_stage.proposals import ProposalMatcher, Proposals, ProposalSelection

box_lists = st.lists(
    st.tuples(*(st.integers(0, 40) for _ in range(2)), *(st.integers(1, 30) for _ in range(2))), max_size=8
).map(lambda rows: torch.tensor([(x, y, x + w, y + h) for x, y, w, h in rows], dtype=torch.float32).reshape(-1, 4))


def of(*boxes: torch.Tensor) -> Proposals:
    image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(each) for each in boxes]))
    joined = torch.cat(boxes)
    return Proposals.listed(joined, torch.full((len(joined),), 0.5), image, len(boxes))


def objects(*boxes: torch.Tensor) -> Targets:
    labels = [torch.zeros(len(each), dtype=torch.int64) for each in boxes]
    return Targets.from_images(boxes, labels, torch.tensor([[80, 80]] * len(boxes)))


@given(box_lists, box_lists, box_lists, box_lists)
def test_objects_stand_in_front_with_their_own_numbers(
    first: torch.Tensor, second: torch.Tensor, own: torch.Tensor, other: torch.Tensor
) -> None:
    targets = objects(own, other)
    pool = of(first, second).with_objects(targets)
    for number, (boxes, truth) in enumerate(((first, own), (second, other))):
        valid = pool.valid[number]
        assert torch.equal(pool.boxes[number, valid], torch.cat((truth, boxes)))
        place = pool.objects[number, valid]
        assert torch.equal(targets.boxes[place[place >= 0]], truth)
        assert int((place == BACKGROUND).sum()) == len(boxes)
    matched = ProposalMatcher()(pool, targets).matched
    assert torch.equal(matched[pool.objects >= 0], pool.objects[pool.objects >= 0])


@given(box_lists, box_lists, st.sampled_from([0.3, 0.5, 0.7]))
def test_a_proposal_learns_the_object_it_overlaps_most(
    proposals: torch.Tensor, truth: torch.Tensor, positive: float
) -> None:
    matched = ProposalMatcher(positive)(of(proposals), objects(truth)).matched[0]
    if not len(truth):
        assert (matched == BACKGROUND).all()
        return
    iou = pairwise_iou(proposals.double(), truth.double())
    expected = torch.where(iou.amax(dim=1) >= positive, iou.argmax(dim=1), BACKGROUND)
    assert torch.equal(matched, expected)


def test_background_in_ignored_boxes_learns_nothing() -> None:
    proposals = torch.tensor([[0.0, 0, 10, 10], [50, 50, 70, 70], [52, 52, 60, 60]])
    ignored = torch.tensor([[45.0, 45, 80, 80]])
    targets = replace(
        objects(torch.tensor([[50.0, 50, 70, 70]])), ignored=ignored, ignored_image=torch.zeros(1, dtype=torch.int64)
    )
    assert ProposalMatcher()(of(proposals), targets).matched.tolist() == [[BACKGROUND, 0, IGNORED]]


def test_what_does_not_exist_is_ignored() -> None:
    pool = of(torch.tensor([[0.0, 0, 10, 10]]), torch.zeros(0, 4))
    assert ProposalMatcher()(pool, objects(torch.zeros(0, 4), torch.zeros(0, 4))).matched.tolist() == [
        [BACKGROUND],
        [IGNORED],
    ]


def test_proposals_of_one_level_suppress_each_other_and_no_others() -> None:
    """Two levels with the same anchor, and one with two that overlap."""
    anchors = torch.tensor([[0.0, 0, 16, 16], [0, 0, 16, 15]]), torch.tensor([[0.0, 0, 16, 16]])
    grid = Grid(((1, 1), (1, 1)), ((16, 16), (32, 32)), anchors)
    logits = torch.tensor([[[2.0], [1.0], [0.0]]])
    predictions = Predictions(Candidates(grid), logits, torch.zeros(1, 3, 4), DeltaCoder())
    found = ProposalSelection(10, 10)(predictions, torch.tensor([[20, 20]]))
    assert found.scores[0].tolist() == logits.sigmoid()[0, [0, 2], 0].tolist()
    few = ProposalSelection(1, 1)(predictions, torch.tensor([[8, 12]]))
    assert few.boxes.tolist() == [[[0, 0, 12, 8]]]
    assert not ProposalSelection(10, 10, least_side=8)(predictions, torch.tensor([[8, 12]])).valid.any()
