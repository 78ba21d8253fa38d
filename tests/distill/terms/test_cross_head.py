from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import Golden
from detdistill.core.errors import DetdistillError
from detdistill.core.output import Candidates, Output, Predictions
from detdistill.core.structures import Assignment, ReduceSum, Targets, single_process
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.architecture import TorchvisionArchitecture, Towers
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.heads.atss_head import AtssHead
from detdistill.detectors.dense.heads.dense_head import DenseHead
from detdistill.detectors.dense.heads.fcos_head import FcosHead
from detdistill.detectors.dense.heads.gfl_head import GflHead
from detdistill.detectors.dense.heads.retinanet_head import RetinaNetHead
from detdistill.detectors.dense.torchvision_detector import TorchvisionFcos
from detdistill.distill.distiller import Distiller
from detdistill.distill.terms.cross_head import CrossHead, prediction_losses, with_statistics_of
from support.golden_losses import Arrays
from support.term_cases import batch, one_image, outputs, shares
from support.tiny_detector import tiny_detector

NO_TOWERS = Towers(depth=0)
DEEP = Towers(depth=4)


@dataclass(frozen=True)
class Case:
    """A golden file's head, and which of its parts is which of ours."""

    head: Callable[..., DenseHead]
    branches: tuple[str, ...]
    parts: dict[str, str]


PARTS = {"classification": "loss_cls_kd", "box": "loss_reg_kd"}
CASES = {
    "retinanet": Case(RetinaNetHead, ("cls_score", "bbox_pred"), PARTS),
    "atss": Case(AtssHead, ("cls_score", "bbox_pred", "centerness"), {**PARTS, "centerness": "losses_center_kd"}),
    "gfl": Case(GflHead, ("cls_score", "bbox_pred"), PARTS),
    "fcos": Case(FcosHead, ("cls_score", "bbox_pred", "centerness"), PARTS),
}


@pytest.mark.golden
class TestGolden:
    @pytest.mark.parametrize("name", CASES)
    def test_losses_and_gradients(self, golden: Golden, name: str) -> None:
        case, data = CASES[name], golden(f"distill_crosskd_{name}")
        levels = range(len(data["strides"]))
        head = case.head(8, int(data["num_classes"]), [int(stride) for stride in data["strides"]], NO_TOWERS)
        leaves = {
            f"{branch}_l{level}": torch.from_numpy(data[f"reused_{branch}_l{level}"]).requires_grad_()
            for branch in case.branches
            for level in levels
        }
        crossed = self.output(head, case, data, leaves)
        taught = {key: torch.from_numpy(data[f"teacher_{key}"]) for key in leaves}
        boxes, labels = (
            [torch.from_numpy(data[f"gt_{what}_img{image}"]) for image in range(2)] for what in ("boxes", "labels")
        )
        targets = Targets.from_images(boxes, labels, torch.from_numpy(data["img_hw"]))
        parts = prediction_losses(
            crossed.predictions,
            self.output(head, case, data, taught).predictions,
            head.assign(crossed.predictions.grid, targets),
            targets,
            like_fcos=name == "fcos",
        )
        assert parts.keys() == case.parts.keys()
        for ours, theirs in case.parts.items():
            np.testing.assert_allclose(parts[ours].item(), data[f"{theirs}_total"], rtol=1e-5, atol=1e-6, err_msg=ours)
        torch.autograd.backward(torch.stack(tuple(parts.values())).sum())
        for key, leaf in leaves.items():
            expected = data[f"grad_reused_{key}"]
            found = np.zeros_like(expected) if leaf.grad is None else leaf.grad.numpy()
            assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max(), key

    def output(self, head: DenseHead, case: Case, data: Arrays, maps: dict[str, Tensor]) -> Output:
        of = head.layout.grid([(int(h), int(w)) for h, w in data["feat_sizes"]], torch.device("cpu"))
        branches = [
            of.flatten([maps[f"{branch}_l{level}"] for level in range(of.num_levels)]) for branch in case.branches
        ]
        quality = branches[2].squeeze(-1) if len(branches) > 2 else None
        return Output.dense((), Predictions(Candidates(of), branches[0], branches[1], head.coder, quality))

    def test_alignment(self, golden: Golden) -> None:
        data = golden("distill_crosskd_gfl")
        teacher, student = (torch.from_numpy(data[f"align_{side}_feat"]) for side in ("teacher", "student"))
        (aligned,) = with_statistics_of([teacher], [student])
        np.testing.assert_allclose(aligned.numpy(), data["align_out"], rtol=1e-5, atol=1e-6)


def distiller(student: Detector, teacher: Detector, **options: Any) -> Distiller:
    return Distiller(student, teacher, {"cross_head": CrossHead(**options)})


@pytest.mark.parametrize("position", [0, 1, 3, 4])
def test_who_is_like_the_teacher_has_nothing_to_learn(position: int) -> None:
    learner = distiller(*(tiny_detector("gfl", towers=DEEP) for _ in range(2)), position=position)
    images, targets = batch(2)
    assert learner.compare(images, targets).terms["cross_head"].item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_passes_through_the_frozen_head() -> None:
    """It reaches the student's towers up to the position, and its pyramid; nothing behind, nothing of the teacher."""
    student, teacher = (tiny_detector("gfl", seed=seed, towers=DEEP) for seed in (0, 1))
    learner = distiller(student, teacher)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    torch.autograd.backward(learner.compare(*batch(2)).terms["cross_head"])
    for number in range(4):
        reached = student.get_parameter(f"head.class_tower.{number}.conv.weight").grad is not None
        assert reached == (number < 3)
    assert student.get_parameter("head.class_predictor.weight").grad is None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any("head" in name for name in learner.terms.state_dict())


@pytest.mark.parametrize("head", ["retinanet", "fcos", "atss", "gfl", "gflv2", "vfnet"])
def test_what_a_head_keeps_changes_nothing(head: HeadName) -> None:
    plain, keeping = (tiny_detector(head, towers=Towers(depth=3)) for _ in range(2))
    keeping.head.keep_towers(2)
    images = torch.randn(1, 3, 64, 64)
    expected, found = plain(images), keeping(images)
    assert torch.equal(found.predictions.class_logits, expected.predictions.class_logits)
    assert torch.equal(found.predictions.regression, expected.predictions.regression)
    assert expected.towers is None
    assert found.towers is not None
    again = keeping.head.complete(found.towers.class_maps, found.towers.box_maps)
    assert torch.equal(again.class_logits, expected.predictions.class_logits)
    assert torch.equal(again.scores(), found.towers.predictions.scores())
    assert (found.towers.class_maps[0] < 0).any()


@pytest.mark.parametrize("heads", [("gfl", "retinanet"), ("gfl", "atss"), ("retinanet", "gfl"), ("atss", "fcos")])
def test_heads_of_two_kinds_classes_and_widths(heads: tuple[HeadName, HeadName]) -> None:
    """The teacher's candidates and classes are compared, whatever the student's are; widths are adapted."""
    student = tiny_detector(heads[0], ("other", "cell"), channels=8, towers=DEEP)
    learner = distiller(student, tiny_detector(heads[1], seed=1, towers=DEEP))
    assert any("8 to 16 channels" in note for note in learner.notes)
    assert "cross_head: all 3 classes of the teacher's head are compared" in learner.notes
    images, targets = batch(2)
    targets = Targets(targets.boxes, targets.labels.clamp(max=1), targets.image, targets.sizes)
    optimizer = torch.optim.SGD(learner.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        loss = learner.compare(images, targets).terms["cross_head"]
        losses.append(loss.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
    assert losses[1] < losses[0]
    assert all(parameter.grad is not None for parameter in learner.terms.parameters())


def predictions_of(
    case: tuple[Output, Output, Assignment, Targets], like_fcos: bool, reduce_sum: ReduceSum
) -> dict[str, Tensor]:
    own, other, assignment, targets = case
    return prediction_losses(
        own.predictions, other.predictions, assignment, targets, like_fcos=like_fcos, reduce_sum=reduce_sum
    )


@pytest.mark.parametrize("head", ["retinanet", "fcos", "atss", "gfl"])
def test_the_shares_of_two_processes_add_up(head: HeadName) -> None:
    """For predictions; each process has the statistics of its own images."""
    student, _, case = outputs(head, 2)
    like_fcos = head == "fcos"
    together = predictions_of(case, like_fcos, single_process)

    def of_one(image: int, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        return predictions_of(one_image(case, student, image), like_fcos, reduce_sum)

    parts = shares(of_one, 2)
    for key, value in together.items():
        torch.testing.assert_close(parts[0][key] + parts[1][key], value, rtol=1e-4, atol=1e-6)


def test_ignored_candidates_do_not_count() -> None:
    _, _, (own, other, assignment, targets) = outputs("gfl", 1)
    everything = Assignment(torch.full_like(assignment.matched, -2))
    for part in prediction_losses(own.predictions, other.predictions, everything, targets, like_fcos=False).values():
        assert part.item() == 0


def test_what_cannot_be_compared_is_refused() -> None:
    class Wrapped(TorchvisionFcos):
        """A detector without towers of ours."""

    with pytest.raises(DetdistillError, match="cross_head cannot be used: the teacher offers no head"):
        distiller(tiny_detector("gfl"), Wrapped(TorchvisionArchitecture("fcos_resnet50_fpn"), ("cell",)), position=1)
    with pytest.raises(DetdistillError, match="in the student, the head's towers have 1 convolutions, not 3"):
        distiller(tiny_detector("gfl"), tiny_detector("gfl", seed=1, towers=DEEP))
    with pytest.raises(DetdistillError, match="needs its own levels, strides 8, 16, 32, 64, 128, but the"):
        distiller(tiny_detector("gfl", extra_levels=1), tiny_detector("gfl", seed=1), position=1)
