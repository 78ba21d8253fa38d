"""Two more correspondences as test doubles: what the next detectors fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import DENSE_OFFERS, Offer
from detdistill.core.output import Candidates, Features, Output, Predictions, RegionReader, TowerHead
from detdistill.core.structures import Assignment, Matches, ReduceSum, Targets, TeacherBoxes, single_process
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.distill.distiller import Distiller, example_canvas
from detdistill.distill.term import GRID, Method, Term
from detdistill.distill.terms import TERMS
from detdistill.distill.terms.hint import Hint
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.view import Correspondence, Need, View
from detdistill.teachers.teacher import Guidance, TeacherBatch
from support.pairs import batch
from support.tiny_detector import tiny_detector
from support.two_stage import TwoStageDetector

CLASSES = tiny_detector().classes


class StoredBoxes:
    """A teacher that has boxes and nothing else: the same two in every image."""

    classes, kind, stored, size = CLASSES, "stored", None, None
    origin: Mapping[str, Any] = {}
    offers: frozenset[Offer] = frozenset({"boxes", "opinions"})
    tower_head: TowerHead | None = None
    region_reader: RegionReader | None = None

    def guide(self, batch: TeacherBatch) -> Guidance:
        boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [30.0, 20.0, 70.0, 60.0]])
        probabilities = torch.linspace(0.1, 0.9, 2 * len(CLASSES)).view(2, -1)
        labels = probabilities.argmax(dim=1)
        return Guidance(boxes=(TeacherBoxes(boxes, labels, probabilities),) * len(batch.images))

    def notes(self, student: InputSpec) -> list[str]:  # noqa: ARG002 (the contract's)
        return ["boxes are stored"]


@dataclass(frozen=True)
class SharedProposals:
    """Both second stages read the same proposals: the boxes of the objects."""

    offers: frozenset[Offer] = frozenset({"rois"})

    def serving(self, need: Need) -> SharedProposals:  # noqa: ARG002 (the contract's)
        return self

    def __call__(
        self,
        student: Output,
        guidance: Guidance,
        matches: Matches,  # noqa: ARG002 (proposals have their own)
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> View:
        counts = torch.bincount(targets.image, minlength=targets.num_images)
        valid = torch.arange(int(counts.max())) < counts[:, None]
        proposals = torch.zeros(*valid.shape, 4).index_put(valid.nonzero(as_tuple=True), targets.boxes)
        matched = torch.full(valid.shape, -1).index_put(valid.nonzero(as_tuple=True), torch.arange(len(targets.boxes)))
        own, other = (
            _roi_stage(Candidates(own=proposals, valid=valid), output.features) for output in (student, guidance.dense)
        )
        return View(own, other, Assignment(matched), targets, reduce_sum)

    def notes(self, student: Output, guidance: Guidance) -> list[str]:  # noqa: ARG002 (the contract's)
        return []


def _roi_stage(candidates: Candidates, features: Features) -> Output:
    """A second stage of no weights: logits are the mean of the finest map, times the class's number."""
    mean = features.maps[0].mean(dim=(1, 2, 3))[:, None, None]
    logits = mean * torch.arange(len(CLASSES) + 1.0) * torch.ones(*candidates.boxes.shape[:2], 1)
    roi = Predictions(candidates, logits, torch.zeros(*logits.shape[:2], 4), Unmoved(), activation="softmax")
    return Output(features, {"roi": roi}, "roi")


class Unmoved:
    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
        return priors + strides[:, None] * regression


class RoiGap(Term):
    """The squared difference of the log-odds of shared proposals."""

    method = Method("nobody", "log-odds", teacher=(frozenset({"rois"}),), student=GRID)

    def forward(self, view: View) -> dict[str, Tensor]:
        index = *view.assignment.positive, view.targets.labels[view.assignment.positive_targets]
        own, other = (side.predictions.log_odds(index) for side in (view.student, view.teacher))
        return {"gap": (own - other).square().sum() / view.reduce_sum(torch.tensor(float(len(own))))}


def test_a_teacher_of_boxes_ranks_a_students_candidates() -> None:
    """Each object's opinions, by hand, against the student's logits: the weight is the best opinion."""
    student = tiny_detector()
    learner = Distiller(student, StoredBoxes(), {"rank": RankMimicking()}).train()
    assert learner.notes[-1] == "boxes are stored"
    images, targets = batch([0, 1, 2], [2, 1])
    compared = learner.compare(images, targets)
    guidance = StoredBoxes().guide(TeacherBatch(images, targets.sizes))
    assignment = student.match(compared.output, targets)[compared.output.final]
    (image, prior), objects = assignment.positive, assignment.positive_targets
    index = image, prior, targets.labels[objects]
    own = compared.output.predictions.class_logits[index]
    other = guidance.opinions(compared.output.predictions.boxes((image, prior)).detach(), image).scores
    other = other[torch.arange(len(other)), targets.labels[objects]]
    losses, weights = [], []
    for each in sorted(set(objects.tolist())):
        scores = other[objects == each].clamp(min=1e-4).log()
        divergence = (scores.softmax(0) * (scores.log_softmax(0) - own[objects == each].log_softmax(0))).sum()
        weights.append(other[objects == each].max())
        losses.append(weights[-1] * divergence)
    torch.testing.assert_close(compared.terms["rank"], torch.stack(losses).sum() / torch.stack(weights).sum())
    torch.autograd.backward(compared.terms["rank"])
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in student.parameters())


class TwoStage(DenseDetector):
    """A detector that claims to have a second stage."""

    offers = DENSE_OFFERS | {"rois"}


def test_two_second_stages_read_shared_proposals() -> None:
    student, plain = tiny_detector(), tiny_detector(seed=1)
    ways: Sequence[Correspondence] = [SharedProposals()]
    with pytest.raises(DetdistillError, match="gap cannot be used: the teacher offers no rois"):
        Distiller(student, plain, {"gap": RoiGap()}, correspondences=ways)
    teacher = TwoStage(plain.architecture, plain.classes)
    teacher.load_state_dict(plain.state_dict())
    learner = Distiller(student, teacher, {"gap": RoiGap()}, correspondences=ways)
    images, targets = batch([0, 1, 2], [2, 1])
    compared = learner.compare(images, targets)
    guidance = learner.guide(images, targets)
    gaps = []
    for image, label in zip(targets.image.tolist(), targets.labels.tolist(), strict=True):
        means = [output.features.maps[0][image].mean() for output in (compared.output, guidance.dense)]
        shares = [(mean * torch.arange(len(CLASSES) + 1.0)).softmax(dim=0)[label] for mean in means]
        gaps.append((shares[0].logit() - shares[1].logit()).square())
    torch.testing.assert_close(compared.terms["gap"], torch.stack(gaps).mean(), rtol=1e-3, atol=1e-9)


BY_BOXES = {"rank_mimicking", "soft_label", "binary_classification", "bounded_regression", "chen"}
"""Terms that need no more of a teacher than its boxes."""


@pytest.mark.parametrize("name", TERMS)
def test_a_teacher_of_boxes_is_refused_by_name_where_maps_or_a_grid_are_needed(name: str) -> None:
    if name in BY_BOXES:
        learner = Distiller(tiny_detector(), StoredBoxes(), {name: TERMS[name]()})
        assert learner.compare(*batch([0, 1, 2], [2, 1])).terms[name].isfinite()
        return
    with pytest.raises(DetdistillError, match=f"{name} cannot be used: the teacher offers no ") as refused:
        Distiller(tiny_detector(), StoredBoxes(), {name: TERMS[name]()})
    assert any(offer in str(refused.value) for offer in TERMS[name].method.teacher[0])


@pytest.mark.parametrize("name", sorted(BY_BOXES))
def test_the_grid_is_refused_where_the_teacher_has_none(name: str) -> None:
    with pytest.raises(DetdistillError, match=f"{name} cannot be used: the teacher offers no .*grid"):
        Distiller(tiny_detector(), StoredBoxes(), {name: TERMS[name](source="grid")})


def test_a_first_stage_on_a_grid_is_compared_with_a_grid() -> None:
    learner = Distiller(TwoStageDetector(CLASSES), tiny_detector(), {"hint": Hint(), "rank": RankMimicking()}).train()
    images, targets = batch([0, 1, 2], [2, 1])
    compared = learner.compare(images, replace(targets, draws=Draws(0, 0, (0, 1, 2))))
    assert [view.student.final for view in compared.views] == ["dense"]
    assert compared.terms["rank"].isfinite()


def test_a_pair_is_compared_on_the_canvas_of_its_own_image_size() -> None:
    """480 x 640 pixels with a shorter side of 100: 100 x 133, on 128 x 160."""
    student = tiny_detector()
    assert example_canvas(student) == (256, 256)
    student.input = InputSpec(size=ImageSize(100, 200))
    assert example_canvas(student) == (128, 160)
    student.input = InputSpec(canvas=(64, 96))
    assert example_canvas(student) == (64, 96)
    learner = Distiller(student, tiny_detector(seed=1), {"hint": Hint()})
    with pytest.raises(DetdistillError, match="canvas 128x128: this detector reads 64x96 pixels only"):
        learner.compare(*batch([0], [1]))
