"""Two-stage detectors as students and teachers: what their terms compare."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.errors import DetdistillError
from detdistill.core.output import Candidates, Features, Output, Predictions
from detdistill.core.settings import from_values
from detdistill.core.structures import Assignment, Targets
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.two_stage.region_predictions import RegionPredictions
from detdistill.detectors.two_stage.two_stage_architecture import TwoStageArchitecture
from detdistill.detectors.two_stage.two_stage_detector import TwoStageDetector
from detdistill.distill.distiller import Distiller
from detdistill.distill.proposal_correspondence import ProposalCorrespondence
from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.terms.hint import Hint
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.view import View

CLASSES = "cat", "dog"


def two_stage(seed: int = 0, kind: str = "faster_rcnn", classes: tuple[str, ...] = CLASSES) -> TwoStageDetector:
    values = {
        "kind": kind,
        "backbone_channels": [8, 8, 8, 8],
        "pyramid": {"channels": 8},
        "proposals": {"sampled": 16, "training_kept": 60, "kept": 30},
        "regions": {"channels": 16, "sampled": 8},
    }
    torch.manual_seed(seed)
    return TwoStageDetector(from_values(TwoStageArchitecture, values), classes)


def dense(seed: int = 0) -> DenseDetector:
    values = {
        "kind": "retinanet",
        "backbone_channels": [8, 8, 8, 8],
        "pyramid": {"channels": 8, "extra_levels": 0},
        "towers": {"depth": 1},
    }
    torch.manual_seed(seed)
    return DenseDetector(from_values(Architecture, values), CLASSES)


def batch() -> tuple[Tensor, Targets]:
    images = torch.randint(0, 255, (2, 3, 96, 96), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    boxes = [torch.tensor([[8.0, 8, 60, 50], [50, 30, 90, 90]]), torch.tensor([[20.0, 10, 44, 60]])]
    targets = Targets.from_images(boxes, [torch.tensor([0, 1]), torch.tensor([1])], torch.tensor([[96, 96], [96, 80]]))
    return images, replace(targets, draws=Draws(seed=0, step=1, images=("a", "b")))


def shared_view(learner: Distiller) -> View:
    """What the terms see of shared proposals."""
    compared = learner.compare(*batch())
    ways = learner._ways.correspondences
    return next(view for way, view in zip(ways, compared.views, strict=True) if isinstance(way, ProposalCorrespondence))


@pytest.mark.parametrize("kind", ["faster_rcnn", "cascade_rcnn"])
@pytest.mark.parametrize("name", [name for name in TERMS if name not in ("localization", "cross_head")])
def test_terms_teach_every_kind(kind: str, name: str) -> None:
    student = two_stage(kind=kind)
    learner = Distiller(student, two_stage(seed=1, kind=kind), {name: TERMS[name]()}).train()
    compared = learner.compare(*batch())
    assert compared.terms[name].isfinite()
    torch.autograd.backward(compared.terms[name])
    assert any(parameter.grad is not None and bool(parameter.grad.any()) for parameter in student.parameters())


@pytest.mark.parametrize("name", ["localization", "cross_head"])
def test_terms_that_need_another_head_are_refused(name: str) -> None:
    with pytest.raises(DetdistillError, match=name):
        Distiller(two_stage(), two_stage(seed=1), {name: TERMS[name]()})


def test_both_heads_score_the_same_proposals() -> None:
    student, teacher = two_stage(), two_stage(seed=1)
    learner = Distiller(student, teacher, {"soft": SoftLabel()}).train()
    view = shared_view(learner)
    own, other = view.student.predictions, view.teacher.predictions
    assert own.candidates.boxes is other.candidates.boxes
    assert own.candidates.valid is not None
    images, targets = batch()
    guidance = learner.guide(images, targets)
    image, place = own.candidates.valid.nonzero(as_tuple=True)
    features = teacher.regions.features(guidance.dense.features.maps, own.candidates.boxes[image, place], image)
    with torch.no_grad():
        logits, _ = teacher.read_regions(0, features)
    torch.testing.assert_close(other.logits[image, place], logits)
    assert not other.logits.requires_grad


def test_ranks_are_of_all_positive_proposals_but_the_objects_own_boxes() -> None:
    plain = shared_view(Distiller(two_stage(), two_stage(seed=1), {"soft": SoftLabel()}).train())
    view = shared_view(Distiller(two_stage(), two_stage(seed=1), {"rank": RankMimicking()}).train())
    own = view.student.predictions
    assert isinstance(own, RegionPredictions)
    assert own.learns is not None
    assert view.given is not None
    positive = view.assignment.matched >= 0
    assert int((positive & ~own.learns).sum()) > 0  # 2 of 8 may be positive, and there are more
    assert int((plain.assignment.matched >= 0).sum()) < int(positive.sum())
    assert torch.equal(own.candidates.boxes[view.given], batch()[1].boxes)


def proposals(logits: list[list[float]]) -> Predictions:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8], [0, 0, 10, 10]]])
    return RegionPredictions(
        Candidates(own=boxes), torch.tensor([logits]), torch.zeros(1, 4, 4), Given(), activation="softmax"
    )


class Given:
    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:  # noqa: ARG002
        return priors


@pytest.mark.parametrize(("space", "expected"), [("prob", 0.067662), ("logit", 1.150421)])
def test_rank_mimicking_of_three_proposals(space: str, expected: float) -> None:
    """Class logits against two zeros; the fourth proposal is the object's own box, and would change both."""
    teacher, student = ([[score, 0.0, 0.0] for score in scores] for scores in ((2, 1, 0, -5), (0, 1, 2, 5)))
    targets = Targets.from_images([torch.tensor([[0.0, 0, 10, 10]])], [torch.tensor([0])], torch.tensor([[20, 20]]))
    outputs = [Output(Features((), ()), {"roi": proposals(each)}, "roi") for each in (student, teacher)]
    given = torch.tensor([[False, False, False, True]])
    view = View(outputs[0], outputs[1], Assignment(torch.zeros(1, 4, dtype=torch.int64)), targets, given=given)
    term: Term = RankMimicking(space="prob" if space == "prob" else "logit")
    torch.testing.assert_close(term(view)["classification"], torch.tensor(expected), atol=1e-5, rtol=0)


def test_classes_of_another_order_are_compared_by_name() -> None:
    student, teacher = two_stage(), two_stage(seed=1, classes=("dog", "cat"))
    view = shared_view(Distiller(student, teacher, {"soft": SoftLabel()}).train())
    straight = shared_view(Distiller(student, two_stage(seed=1), {"soft": SoftLabel()}).train())
    torch.testing.assert_close(
        view.teacher.predictions.class_logits, straight.teacher.predictions.class_logits.flip(-1)
    )
    torch.testing.assert_close(view.student.predictions.boxes(), straight.student.predictions.boxes())


def test_a_dense_teacher_gives_a_two_stage_student_features_and_opinions() -> None:
    student, teacher = two_stage(), dense(1)
    learner = Distiller(student, teacher, {"hint": Hint(), "rank": RankMimicking()}).train()
    compared = learner.compare(*batch())
    assert any("strides 8, 16, 32 are compared" in note for note in learner.notes)
    assert [view.by_opinion for view in compared.views] == [False, True]
    with pytest.raises(DetdistillError, match="pfi cannot be used"):
        Distiller(student, teacher, {"pfi": PredictionGuided()})


def test_a_two_stage_teacher_gives_a_dense_student_features_and_opinions() -> None:
    student, teacher = dense(), two_stage(1)
    learner = Distiller(student, teacher, {"hint": Hint(), "rank": RankMimicking()}).train()
    compared = learner.compare(*batch())
    assert [view.by_opinion for view in compared.views] == [False, True]
    assert compared.terms["hint"].isfinite()
    with pytest.raises(DetdistillError, match="pfi cannot be used"):
        Distiller(student, teacher, {"pfi": PredictionGuided()})
