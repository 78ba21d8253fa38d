from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou

from conftest import Golden
from detdistill.core.boxes import box_centers
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, Output, Predictions
from detdistill.core.structures import Assignment, Targets, single_process
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.assigners import AtssAssigner
from detdistill.detectors.dense.coders import DistributionCoder
from detdistill.detectors.dense.heads.gfl_head import GflHead
from detdistill.distill.distiller import Distiller
from detdistill.distill.terms.localization import Localization, valuable_region
from detdistill.distill.view import View
from support.term_cases import bound, grid, objects
from support.tiny_detector import tiny_detector

BINS = 4


@pytest.mark.golden
class TestGolden:
    """The main region, with GFL's own loss beside it for the gradients."""

    @pytest.mark.parametrize(("prefix", "empty"), [("", ()), ("img1empty_", (1,)), ("allempty_", (0, 1))])
    def test_main_region(self, golden: Golden, prefix: str, empty: tuple[int, ...]) -> None:
        data = golden("head_ld")
        strides = [int(stride) for stride in data["strides"]]
        head = GflHead(8, int(data["num_classes"]), strides, Towers(depth=0))
        of = head.layout.grid([(int(h), int(w)) for h, w in data["feat_sizes"]], torch.device("cpu"))
        maps = {
            name: [torch.from_numpy(data[f"{name}_l{level}"]) for level in range(len(strides))]
            for name in ("cls_score", "bbox_pred", "teacher_cls_score", "teacher_bbox_pred")
        }
        leaves = [level.requires_grad_() for name in ("cls_score", "bbox_pred") for level in maps[name]]
        flat = {name: of.flatten(levels) for name, levels in maps.items()}
        student = Output.dense((), Predictions(Candidates(of), flat["cls_score"], flat["bbox_pred"], head.coder))
        teacher = Output.dense(
            (), Predictions(Candidates(of), flat["teacher_cls_score"], flat["teacher_bbox_pred"], head.coder)
        )
        sizes = torch.from_numpy(data["img_hw"])
        truth = [
            [torch.from_numpy(data[f"gt_{what}_img{image}"])[: 0 if image in empty else None] for image in range(2)]
            for what in ("boxes", "labels")
        ]
        targets = Targets.from_images(truth[0], truth[1], sizes)
        assignment = head.assign(of, targets)
        term = Localization(region="main")
        bound(term, student, teacher)
        loss = term.method.weights["gfl"] * term(View(student, teacher, assignment, targets))["main"]
        np.testing.assert_allclose(loss.item(), data[f"{prefix}loss_ld_total"], rtol=1e-5, atol=1e-6)
        if not prefix:
            detection = head.loss(student.predictions, targets, assignment, single_process)
            torch.autograd.backward(torch.stack((*detection.values(), loss)).sum())
            names = [f"grad_{name}_l{level}" for name in ("cls_score", "bbox_pred") for level in range(len(strides))]
            for name, leaf in zip(names, leaves, strict=True):
                assert leaf.grad is not None
                assert np.abs(leaf.grad.numpy() - data[name]).max() <= 2e-5 * np.abs(data[name]).max(), name


def distributions(of: Grid, logits: Tensor, best: float) -> Output:
    """Of one image; every candidate's best class has this probability."""
    scores = torch.full((1, of.num_priors, 1), best).logit()
    return Output.dense(
        (), Predictions(Candidates(of), scores, logits.expand(1, of.num_priors, 4 * BINS), DistributionCoder(BINS))
    )


def test_by_hand() -> None:
    """Each of the four sides gives .029312 at T = 10 (.035960 at T = 1), weighted by the score of .5; two positives."""
    of = grid((4, 4))
    side = torch.tensor([math.log(3), 0, 0, 0])
    student, teacher = distributions(of, torch.zeros(4 * BINS), 0.5), distributions(of, side.repeat(4), 0.5)
    matched = torch.full((1, 16), -1)
    matched[0, :2] = 0
    for temperature, each in ((10.0, 0.029312), (1.0, 0.035960)):
        term = bound(Localization(region="main", temperature=temperature), student, teacher)
        parts = term(View(student, teacher, Assignment(matched), objects([[0, 0, 16, 16]])))
        assert parts["main"].item() == pytest.approx(2 * 0.5 * each, abs=1e-6)
        assert parts.keys() == {"main"}


def test_the_valuable_region_weighs_by_overlap() -> None:
    of, targets = grid((8, 8)), objects([[10, 10, 40, 36]])
    side = torch.tensor([math.log(3), 0, 0, 0])
    student, teacher = distributions(of, torch.zeros(4 * BINS), 0.5), distributions(of, side.repeat(4), 0.5)
    term = bound(Localization(region="valuable"), student, teacher)
    parts = term(View(student, teacher, AtssAssigner()(of, targets), targets))
    overlap = valuable_region(of, targets).sum().item()
    assert overlap > 0
    assert parts["valuable"].item() == pytest.approx(overlap * 4 * 0.029312 / 16, rel=1e-4)


@st.composite
def scenes(draw: st.DrawFn) -> Targets:
    """Up to four objects in each of two images of 64 pixels."""
    images = draw(st.lists(st.integers(0, 1), max_size=4).map(sorted))
    boxes = []
    for _ in images:
        left, top = (draw(st.integers(0, 48)) for _ in range(2))
        boxes.append([left, top, left + draw(st.integers(6, 40)), top + draw(st.integers(6, 40))])
    return objects(boxes, image=images, images=2)


@settings(max_examples=40)  # the loop takes 60 ms
@given(scenes())
def test_the_valuable_region_is_that_of_a_plain_loop(targets: Targets) -> None:
    of = grid((8, 8), (4, 4))
    found = valuable_region(of, targets)
    expected = torch.zeros(2, of.num_priors)
    for box, image, threshold in zip(targets.boxes, targets.image, AtssAssigner().thresholds(of, targets), strict=True):
        for number, prior in enumerate(of.priors):
            iou = box_iou(prior[None], box[None]).item()
            hull = torch.cat((torch.minimum(prior, box)[:2], torch.maximum(prior, box)[2:]))
            distance = (box_centers(prior) - box_centers(box)).square().sum() / (hull[2:] - hull[:2]).square().sum()
            diou = iou - distance.item()
            edges = (0.25 * threshold.item(), threshold.item())
            if min(abs(diou - edge) for edge in edges) < 1e-6:
                expected[image, number] = found[image, number]  # rounding decides
            elif edges[0] <= diou < edges[1]:
                expected[image, number] = max(iou, expected[image, number].item())
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    def distiller(student: Any, teacher: Any) -> Distiller:
        return Distiller(student, teacher, {"localization": Localization()})

    for heads, side in ((("gfl", "atss"), "teacher"), (("fcos", "gfl"), "student")):
        with pytest.raises(DetdistillError, match=f"localization cannot be used: the {side} offers no distributions"):
            distiller(*(tiny_detector(cast(Any, head), seed=seed) for seed, head in enumerate(heads)))
    with pytest.raises(DetdistillError, match=r"student's distributions have 9 bins, the teacher's 17.*reg_max: 16"):
        distiller(tiny_detector("gfl", options={"reg_max": 8}), tiny_detector("gfl", seed=1))
    distiller(tiny_detector("gfl"), tiny_detector("gflv2", seed=1))
