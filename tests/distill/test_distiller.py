from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
import torch
from examples.own_detector import TinyDetector
from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.input_spec import InputSpec
from detdistill.core.normalization import EFFICIENTNET_LITE, Normalization
from detdistill.detectors.base import Detector
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.distill.distiller import Distiller
from detdistill.distill.terms.hint import Hint
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.weighting import Weight
from detdistill.teachers.detector_teacher import DetectorTeacher
from support.pairs import batch, confident, distiller, gradients
from support.tiny_detector import tiny_detector

ALL: dict[str, dict[str, Any]] = {
    "rank_mimicking": {"rank_by": "both"},
    "prediction_guided": {},
    "soft_label": {},
    "hint": {"adapter": "always"},
}


def pair(**more: Any) -> Distiller:
    """A student and another teacher, with all terms and adapters."""
    return distiller(tiny_detector(), confident(tiny_detector(seed=1, channels=24)), ALL, **more)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items() if isinstance(value, Tensor)}


def assert_state(module: nn.Module, before: dict[str, Tensor]) -> None:
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@contextmanager
def random_state_kept() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def step(learner: Distiller, optimizer: torch.optim.Optimizer, example: Any, at: int = 0) -> dict[str, Tensor]:
    learner.begin_step(at, 100, 2)
    loss: dict[str, Tensor] = learner(*example)
    torch.autograd.backward(torch.stack(tuple(loss.values())).sum())
    learner.end_step()
    optimizer.step()
    optimizer.zero_grad()
    return loss


def detector_of(learner: Distiller) -> Detector:
    assert isinstance(learner.teacher, DetectorTeacher)
    return learner.teacher.detector


class TestTeacher:
    def test_it_never_changes(self) -> None:
        learner = pair().train()
        before = state(detector_of(learner))
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.1)
        for at in range(2):
            step(learner.train(), optimizer, batch([0, 1, 2], [2, 1]), at)
        assert not any(module.training for module in detector_of(learner).modules())
        assert learner.student.training
        assert_state(detector_of(learner), before)

    def test_it_is_no_part_of_the_distiller(self) -> None:
        learner = pair()
        teacher = {id(value) for value in (*detector_of(learner).parameters(), *detector_of(learner).buffers())}
        assert not teacher & {id(value) for value in (*learner.parameters(), *learner.buffers())}
        names = [name for name in learner.state_dict() if name != "_extra_state"]
        assert all(name.startswith(("student.", "terms.")) for name in names)
        assert copy.deepcopy(learner).teacher is learner.teacher

    def test_it_may_not_share_weights_with_the_student(self) -> None:
        student = tiny_detector()
        with pytest.raises(DetdistillError, match=r"share \d+ weights.*Give a copy as the teacher \(copy\.deepcopy\)"):
            distiller(student, student, ALL)
        assert all(parameter.requires_grad for parameter in student.parameters())
        distiller(student, copy.deepcopy(student), ALL)

    def test_it_gets_images_in_its_own_normalization(self) -> None:
        caffe = Normalization(mean=(123.675, 116.28, 103.53), std=(1.0, 1.0, 1.0), bgr=True)
        student, teacher = tiny_detector(), tiny_detector(seed=1)
        student.input, teacher.input = InputSpec(EFFICIENTNET_LITE), InputSpec(caffe)
        learner = distiller(student, teacher, {"hint": {}})
        images, targets = batch([0], [1])
        with torch.no_grad():
            expected = teacher(caffe(images, targets.sizes)).predictions.class_logits
        assert torch.equal(learner.guide(images, targets).dense.predictions.class_logits, expected)
        assert (
            "input: each gets the images in its own normalization; the teacher BGR, mean 123.675, 116.28, 103.53, "
            "deviation 1, 1, 1; the student RGB, mean 127, 127, 127, deviation 128, 128, 128"
        ) in learner.notes


class TestStudent:
    def test_binding_leaves_no_trace(self) -> None:
        student = tiny_detector().train()
        student.pyramid.eval()
        modes, before = [module.training for module in student.modules()], state(student)
        with random_state_kept():
            distiller(student, tiny_detector(seed=1, channels=24), ALL)
        assert [module.training for module in student.modules()] == modes
        assert_state(student, before)

    def test_adapters_are_drawn_from_their_own_seed(self) -> None:
        first, second, other = pair(seed=3), pair(seed=3), pair(seed=4)
        weight = "terms.hint.adapters.levels.0.weight"
        assert torch.equal(first.state_dict()[weight], second.state_dict()[weight])
        assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])

    def test_with_weights_of_zero_it_learns_as_without_a_teacher(self) -> None:
        learner, alone = pair(weight=0.0).train(), tiny_detector().train()
        images, targets = batch([0, 1, 2], [2, 1])
        found = gradients(learner, learner(images, targets))
        output = alone(alone.input.normalization(images, targets.sizes))
        plain = gradients(alone, alone.loss(output, targets, alone.match(output, targets)))
        assert len(plain) == len(list(alone.parameters()))
        assert all(torch.equal(found[f"student.{name}"], gradient) for name, gradient in plain.items())
        assert_state(learner.student, state(alone))  # batch norm has seen the same

    def test_channels_last(self) -> None:
        images, targets = batch([0, 1, 2], [2, 1])
        expected, found = (pair(channels_last=chosen)(images, targets) for chosen in (False, True))
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)


class TestLoss:
    def test_terms_are_weighted_and_shown_raw(self) -> None:
        terms = {"rank_mimicking": RankMimicking(rank_by="both"), "hint": Hint()}
        weights = {"rank_mimicking": Weight(2.0), "hint": Weight(0.5)}
        learner = Distiller(tiny_detector(), confident(tiny_detector(seed=1)), terms, weights=weights)
        loss = learner(*batch([0, 1, 2], [2, 1]))
        compared = learner.compare(*batch([0, 1, 2], [2, 1]))
        assert set(loss) == {*compared.detection, "rank_mimicking", "hint"}
        assert loss["hint"].item() == pytest.approx(0.5 * learner.raw["hint"].item())
        assert loss["rank_mimicking"].item() == pytest.approx(2 * compared.terms["rank_mimicking"].item())
        assert not learner.raw["hint"].requires_grad

    def test_gradients_of_each_loss_at_the_pyramid(self) -> None:
        learner = pair()
        compared = learner.compare(*batch([0, 1, 2], [2, 1]))
        lengths = compared.squared_lengths()
        assert set(lengths) == {"detection", *ALL}
        assert all(parameter.grad is None for parameter in learner.parameters())
        losses = {"detection": sum(compared.detection.values(), torch.zeros(())), **compared.terms}
        for level in compared.output.features.maps:
            level.retain_grad()
        for name, loss in losses.items():
            for level in compared.output.features.maps:
                level.grad = None
            torch.autograd.backward(loss, retain_graph=True)
            squares = [
                level.grad.square().sum().item() for level in compared.output.features.maps if level.grad is not None
            ]
            assert lengths[name].item() == pytest.approx(sum(squares), rel=1e-4)
            assert lengths[name] > 0

    def test_a_small_loss_has_its_gradient_in_fp16_too(self) -> None:
        """Two fresh heads differ so little that its gradient, as it is, is below fp16's least number."""
        options: dict[str, dict[str, Any]] = {"prediction_guided": {}}
        learner = distiller(tiny_detector(), tiny_detector(seed=1, channels=24), options)
        lengths = []
        for precision in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", precision):
                lengths.append(learner.compare(*batch([0, 1, 2], [2, 1])).squared_lengths())
        for name in ("detection", *options):
            assert lengths[1][name].sqrt().item() == pytest.approx(lengths[0][name].sqrt().item(), rel=0.05)

    def test_a_loss_without_features_has_no_length(self) -> None:
        learner = pair()
        compared = learner.compare(*batch([0], [1]))
        compared.terms["hint"] = torch.zeros((), requires_grad=True)
        assert compared.squared_lengths()["hint"] == 0


class TestAutomaticWeights:
    def test_a_term_gets_its_share_of_the_gradient(self) -> None:
        learner = pair(weight=None)
        example = batch([0, 1, 2], [2, 1])
        lengths = learner.compare(*example).squared_lengths()
        learner.begin_step(0, 100, 4)
        loss = learner(*example)
        assert all(loss[name] == 0 for name in ALL)
        learner.end_step()
        learner.begin_step(2, 100, 4)
        expected = {name: 0.5 * 0.5 * (lengths["detection"] / lengths[name]).sqrt().item() for name in ALL}
        assert learner.weights() == pytest.approx(expected, rel=1e-4)

    def test_parts_of_a_batch_and_processes_add_up(self) -> None:
        whole, parts = pair(weight=None).eval(), pair(weight=None).eval()
        images, targets = batch([0, 1], [0, 1], padded=False)
        example = images[:1], batch([0, 1], padded=False)[1]
        for learner in (whole, parts):
            learner.begin_step(0, 100, 4)
        whole(images[[0, 0]], targets)
        whole.end_step()
        parts(*example, lambda count: 2 * count)
        parts.end_step(lambda squares: 2 * squares)
        values = [{name: term.value for name, term in each.weighting.terms.items()} for each in (whole, parts)]
        assert values[0] == pytest.approx(values[1], rel=1e-4)

    def test_nothing_is_measured_without_gradients(self) -> None:
        learner = pair(weight=None)
        learner.begin_step(0, 100, 4)
        with torch.no_grad():
            learner(*batch([0], [1]))
        learner.end_step()
        assert all(term.value == 0 for term in learner.weighting.terms.values())

    def test_a_loop_without_begin_step_is_told(self) -> None:
        with pytest.raises(DetdistillError, match=r"call begin_step\(step, total, warmup\) before each step"):
            pair(weight=None)(*batch([0], [1]))

    def test_a_loop_without_end_step_is_told(self) -> None:
        learner = pair(weight=None)
        learner.begin_step(0, 100, 4)
        learner(*batch([0], [1]))
        with pytest.raises(DetdistillError, match="begin_step was called again without end_step"):
            learner.begin_step(1, 100, 4)
        learner.begin_step(1, 100, 4)

    def test_the_state_goes_through_a_file(self) -> None:
        learner, resumed = pair(weight=None).train(), pair(weight=None, seed=7).train()
        optimizer = torch.optim.SGD(learner.parameters(), lr=0.01)
        for at in range(3):
            step(learner, optimizer, batch([0, 1, 2], [2, 1]), at)
        file = BytesIO()
        torch.save(learner.state_dict(), file)
        file.seek(0)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        for each in (learner, resumed):
            each.begin_step(3, 100, 2)
        assert resumed.weights() == learner.weights()
        assert all(weight > 0 for weight in resumed.weights().values())
        assert_state(resumed, state(learner))
        loss, again = (each(*batch([1], [0, 2], seed=1)) for each in (learner, resumed))
        assert all(torch.equal(loss[name], again[name]) for name in loss)


def test_without_a_weight_a_term_has_its_methods_ratio() -> None:
    terms = {"prediction_guided": PredictionGuided(), "hint": Hint(), "rank_mimicking": RankMimicking()}
    learner = Distiller(tiny_detector(), tiny_detector(seed=1), terms, weights={"hint": Weight(ratio=0.1)})
    assert {name: term.options for name, term in learner.weighting.terms.items()} == {
        "prediction_guided": Weight(ratio=2.0),
        "hint": Weight(ratio=0.1),
        "rank_mimicking": Weight(ratio=0.5),
    }


def test_by_opinion_a_term_has_a_ratio_of_its_own() -> None:
    terms = {
        "by_opinion": RankMimicking(source="opinion"),
        "on_cells": RankMimicking(),
        "soft": SoftLabel(source="opinion"),
    }
    learner = Distiller(tiny_detector(), tiny_detector(seed=1), terms)
    assert {name: term.ratio for name, term in learner.weighting.terms.items()} == {
        "by_opinion": RankMimicking.method.opinion_ratio,
        "on_cells": RankMimicking.method.ratio,
        "soft": 0.5,
    }
    assert RankMimicking.method.opinion_ratio < RankMimicking.method.ratio


class TestRefusals:
    def test_a_weight_for_no_term(self) -> None:
        with pytest.raises(DetdistillError, match=r"no term 'hnt'; the terms are: hint\ndid you mean hint\?"):
            Distiller(tiny_detector(), tiny_detector(seed=1), {"hint": Hint()}, weights={"hnt": Weight(1.0)})

    @pytest.mark.parametrize("name", ["classification", "detection"])
    def test_a_name_that_is_taken(self, name: str) -> None:
        with pytest.raises(DetdistillError, match=f"a term may not be called {name}"):
            Distiller(tiny_detector("fcos"), tiny_detector("fcos", seed=1), {name: Hint()})

    def test_no_class_in_common(self) -> None:
        with pytest.raises(DetdistillError, match="no class name in common"):
            distiller(tiny_detector(), tiny_detector(classes=("x", "y", "z"), seed=1), ALL)

    def test_no_level_in_common(self) -> None:
        with pytest.raises(DetdistillError, match="the teacher's strides are 32, the student's 8, 16"):
            distiller(
                tiny_detector(strides=(8, 16), extra_levels=0),
                tiny_detector(strides=(32,), extra_levels=0, seed=1),
                ALL,
            )

    def test_a_term_that_cannot_be_used_is_named(self) -> None:
        with pytest.raises(DetdistillError, match="soft_label cannot be used: form softmax compares classes"):
            distiller(
                tiny_detector(classes=("a", "b")),
                tiny_detector(classes=("b", "c"), seed=1),
                {"hint": {}, "soft_label": {"form": "softmax"}},
            )


def test_a_class_the_teacher_lacks_is_left_out_of_classes_but_not_of_boxes() -> None:
    student, teacher = tiny_detector(), confident(tiny_detector(classes=("other", "cell"), seed=1))
    learner = distiller(student, teacher, {"rank_mimicking": {"rank_by": "both"}, "soft_label": {}, "hint": {}})
    assert "classes the teacher lacks: platelet; what compares classes leaves their objects out" in learner.notes
    unknown = learner.compare(*batch([1], [1])).terms
    assert unknown["soft_label"] == 0
    assert unknown["rank_mimicking"] > 0
    assert unknown["hint"] > 0
    classes_alone = distiller(student, teacher, {"rank_mimicking": {}})
    assert classes_alone.compare(*batch([1], [1])).terms["rank_mimicking"] == 0


def torchvision(name: Any, classes: tuple[str, ...]) -> Detector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TorchvisionDetector.from_architecture(TorchvisionArchitecture(name), classes).eval()


SHARED_BY_FIVE = "levels: strides 8, 16, 32, 64, 128 are compared"
FOREIGN: dict[str, tuple[Callable[[], Detector], str]] = {
    "own": (lambda: TinyDetector(("other", "cell", "dust")), "levels: strides 16 are compared"),
    "retinanet": (lambda: torchvision("retinanet_resnet50_fpn", ("background", "cell", "platelet")), SHARED_BY_FIVE),
    "fcos": (lambda: torchvision("fcos_resnet50_fpn", ("background", "cell", "platelet")), SHARED_BY_FIVE),
}


@pytest.mark.parametrize("kind", list(FOREIGN))
def test_a_teacher_of_another_make(kind: str) -> None:
    make, levels = FOREIGN[kind]
    teacher = make()
    check_detector(teacher, (128, 128))
    # One level alone, where the teacher has one: else the student's positives lie on levels that are left out.
    student = tiny_detector(strides=(16,), extra_levels=0) if kind == "own" else tiny_detector()
    learner = distiller(student, teacher, ALL).train()
    assert levels in learner.notes
    loss = learner(*batch([0, 1, 2], [0]))
    found = gradients(learner, loss)
    assert set(found) == {name for name, _ in learner.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert all(loss[name] > 0 for name in ALL)


def test_a_student_of_another_make() -> None:
    student = TinyDetector(("cell", "dust"))
    learner = distiller(student, confident(tiny_detector("retinanet", seed=1)), ALL).train()
    found = gradients(learner, learner(*batch([0, 1], [0])))
    assert {f"student.{name}" for name, _ in student.named_parameters()} <= set(found)


def test_torchvision_at_sizes_where_its_strides_are_rounded() -> None:
    learner = distiller(tiny_detector(), torchvision("fcos_resnet50_fpn", ("cell",)), {"prediction_guided": {}})
    images = torch.zeros(1, 3, 96, 160, dtype=torch.uint8)
    targets = batch([0], padded=False)[1]
    teacher = learner.guide(images, replace(targets, sizes=torch.tensor([[96, 160]]))).dense
    assert teacher.predictions.grid.strides[3:] != ((64, 64), (128, 128))
    assert learner.compare(images, targets).terms["prediction_guided"].isfinite()
