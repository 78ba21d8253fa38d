from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.normalization import IMAGENET, Normalization
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.detector import HEADS
from detdistill.detectors.dense.initialization import initialize_from
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.saving import save_detector
from support.tiny_detector import tiny_detector

CLASS_LAYER = ("head.class_predictor.weight", "head.class_predictor.bias")
names = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5, unique=True)


@pytest.mark.parametrize("head", HEADS)
def test_equal_classes_take_everything_over(head: HeadName, tmp_path: Path) -> None:
    source, detector = tiny_detector(head, seed=1), tiny_detector(head)
    save_detector(source, tmp_path)
    report = initialize_from(detector, tmp_path)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in detector.state_dict().items())
    total = len(detector.state_dict())
    assert str(report) == f"{total} of {total} tensors loaded from {tmp_path}"


def fill(value: Tensor, offset: float) -> Tensor:
    return torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape) + offset


@pytest.mark.parametrize("head", ["gfl", "retinanet"])
@given(classes=names, source_classes=names)
@settings(max_examples=10)
def test_rows_go_by_the_name_of_the_class(head: HeadName, classes: list[str], source_classes: list[str]) -> None:
    source, detector = tiny_detector(head, source_classes), tiny_detector(head, classes)
    for each, offset in ((source, 0.0), (detector, 0.5)):
        state = each.state_dict()
        each.load_state_dict({key: fill(state[key], offset) for key in CLASS_LAYER}, strict=False)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    report = initialize_from(detector, source)
    anchors = 9 if head == "retinanet" else 1
    for key in CLASS_LAYER:
        for anchor in range(anchors):
            for label, name in enumerate(classes):
                row = detector.state_dict()[key][anchor * len(classes) + label]
                if name in source_classes:
                    other = anchor * len(source_classes) + source_classes.index(name)
                    assert torch.equal(row, source.state_dict()[key][other])
                else:
                    assert torch.equal(row, before[key][anchor * len(classes) + label])
    assert report.kept_classes == tuple(name for name in classes if name in source_classes)
    assert report.new_classes == tuple(name for name in classes if name not in source_classes)
    assert report.loaded + len(report.left) == len(before)
    rest = detector.state_dict().keys() - set(CLASS_LAYER)
    assert all(torch.equal(detector.state_dict()[key], source.state_dict()[key]) for key in rest)


def test_the_report_is_in_plain_words() -> None:
    source = tiny_detector("gfl", ("cell", "dog"), seed=1)
    detector = tiny_detector("gfl", ("cat", "cell"), options={"reg_max": 8})
    assert str(initialize_from(detector, source)).splitlines() == [
        f"{len(detector.state_dict()) - 2} of {len(detector.state_dict())} tensors loaded from the given detector",
        "classes with loaded weights: cell",
        "classes with new weights: cat",
        "not loaded:",
        "  head.box_predictor.weight: (68, 16, 3, 3) in the source, (36, 16, 3, 3) here",
        "  head.box_predictor.bias: (68,) in the source, (36,) here",
        "options: {} in the source, {'reg_max': 8} here",
    ]


def test_torchvision_detectors_keep_rows_of_equal_names_too() -> None:
    architecture = TorchvisionArchitecture("retinanet_resnet50_fpn")
    source, detector = (
        TorchvisionDetector.from_architecture(architecture, ("cell", "dog")),
        TorchvisionDetector.from_architecture(architecture, ("dog",)),
    )
    report = initialize_from(detector, source)
    assert report.kept_classes == ("dog",)
    assert not report.left
    key = "network.head.classification_head.cls_logits.weight"
    assert torch.equal(detector.state_dict()[key], source.state_dict()[key][1::2])


def test_no_class_in_common_leaves_the_class_layer() -> None:
    source, detector = tiny_detector(classes=("cat",), seed=1), tiny_detector(classes=("dog",))
    before = detector.state_dict()[CLASS_LAYER[0]].clone()
    report = initialize_from(detector, source)
    assert torch.equal(detector.state_dict()[CLASS_LAYER[0]], before)
    assert report.left == tuple(f"{key}: no class in common" for key in CLASS_LAYER)


def test_class_rows_of_other_anchors_do_not_fit_although_their_number_does() -> None:
    source, detector = tiny_detector("retinanet", ("a",), seed=1), tiny_detector("atss", tuple("abcdefghi"))
    before = {key: detector.state_dict()[key].clone() for key in CLASS_LAYER}
    assert before[CLASS_LAYER[0]].shape == source.state_dict()[CLASS_LAYER[0]].shape
    report = initialize_from(detector, source)
    assert all(torch.equal(detector.state_dict()[key], value) for key, value in before.items())
    assert "head.class_predictor.bias: (9,) for 1 classes in the source, (9,) for 9 here" in report.left
    assert report.new_classes == detector.classes


def test_another_head_takes_backbone_and_pyramid_over() -> None:
    source, detector = tiny_detector("retinanet", seed=1), tiny_detector("gfl")
    report = initialize_from(detector, source)
    assert all(reason.startswith("head.") for reason in report.left)
    assert "kind: retinanet in the source, gfl here" in report.notes
    assert report.new_classes == detector.classes


def test_another_backbone_is_not_loaded_and_takes_one_line() -> None:
    source, detector = tiny_detector(backbone="resnet34", seed=1), tiny_detector()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    report = initialize_from(detector, source)
    for key, value in detector.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("backbone.") else source.state_dict()[key])
    assert len(str(report).splitlines()) < 6
    assert "resnet34" in str(report)


def test_the_source_brings_its_normalization() -> None:
    source, detector = tiny_detector(seed=1), tiny_detector()
    source.input = replace(source.input, normalization=Normalization((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), bgr=True))
    assert detector.input.normalization == IMAGENET
    report = initialize_from(detector, source)
    assert detector.input.normalization == source.input.normalization
    assert report.notes == (f"the input is normalised as in the source: {source.input.normalization}",)


def test_nothing_that_fits_is_refused() -> None:
    source = tiny_detector(backbone="mobilenetv2", backbone_width=0.5, channels=8, seed=1)
    detector = tiny_detector(head="fcos")
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    with pytest.raises(DetdistillError, match=r"the given detector.*channels: 8 .*16 .*start\.from null"):
        initialize_from(detector, source)
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_training_mode_and_precision_stay() -> None:
    source, detector = tiny_detector(seed=1), tiny_detector().double().train()
    initialize_from(detector, source)
    assert detector.training
    assert {value.dtype for value in detector.parameters()} == {torch.float64}
