from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.normalization import IMAGENET
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.importing.effdet import import_effdet
from detdistill.detectors.importing.effdet_settings import EffdetSettings
from detdistill.detectors.importing.import_checkpoint import import_checkpoint
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from detdistill.detectors.storage import load_detector
from support.effdet_files import CLASSES, effdet_state, maps_of, narrow, saved

ANSWERS: dict[str, Any] = {
    "backbone": "lcnet_035",
    "anchor_scale": 4.0,
    "activation": "silu",
    "mean": (123.675, 116.28, 103.53),
    "std": (58.395, 57.12, 57.375),
}
KNOWN = EffdetSettings(**ANSWERS)


@pytest.mark.golden
def test_golden_checkpoint(golden2: Callable[[str], dict[str, NDArray[Any]]], golden2_folder: Path) -> None:
    data = golden2("checkpoints/effdet_narrow")
    path = golden2_folder / "checkpoints" / "effdet_narrow.pth"
    # In float64: in float32 the rounding of some processors' convolutions comes close to the tolerance.
    detector = import_effdet(path, settings=KNOWN, classes=CLASSES).detector.double()
    with torch.no_grad():
        output = detector(torch.from_numpy(data["image"]).double())
    for name, maps in maps_of(output).items():
        for level, found in enumerate(maps):
            expected = data[f"{name}_l{level}"]
            assert np.abs(found.numpy() - expected).max() <= 1e-4 * np.abs(expected).max(), (name, level)


@pytest.fixture(scope="module")
def source() -> DenseDetector:
    torch.manual_seed(0)
    detector = narrow()
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
    return detector


def assert_same(detector: torch.nn.Module, expected: torch.nn.Module) -> None:
    own, other = detector.state_dict(), expected.state_dict()
    assert own.keys() == other.keys()
    for name, tensor in own.items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, other[name]), name


@pytest.mark.parametrize(("prefix", "level_first"), [("", True), ("module.model.", False)])
def test_weights_are_recognised_under_any_prefix(
    source: DenseDetector, prefix: str, level_first: bool, tmp_path: Path
) -> None:
    state = {f"{prefix}{name}": each for name, each in effdet_state(source, level_first=level_first).items()}
    if level_first:
        assert f"{prefix}class_net.bn_rep.4.1.weight" in state
    imported = import_checkpoint(saved(tmp_path, state), tmp_path / "run", effdet=KNOWN, classes=CLASSES)
    assert imported.name == "efficientdet"
    assert_same(imported.detector, source)
    again = load_detector(tmp_path / "run")
    assert_same(again, source)
    assert again.classes == CLASSES
    assert again.input.normalization == IMAGENET


def test_what_is_unknown_is_asked_for_with_its_option(source: DenseDetector, tmp_path: Path) -> None:
    file = saved(tmp_path, effdet_state(source))
    with pytest.raises(DetdistillError) as raised:
        import_effdet(file, classes=CLASSES)
    for word in (str(file), "--effdet.preset", *ANSWERS):
        assert word in str(raised.value), word
    with pytest.raises(DetdistillError, match="--classes"):
        import_effdet(file, settings=KNOWN)
    with pytest.raises(DetdistillError, match=r"--classes.*2 names"):
        import_effdet(file, settings=KNOWN, classes=("a", "b"))
    numbered = import_effdet(file, settings=KNOWN, number_classes=True).detector
    assert numbered.classes == tuple(f"class_{index}" for index in range(len(CLASSES)))


@pytest.mark.parametrize("missing", ANSWERS)
def test_every_answer_is_needed(source: DenseDetector, missing: str, tmp_path: Path) -> None:
    file = saved(tmp_path, effdet_state(source))
    known = EffdetSettings(**{name: value for name, value in ANSWERS.items() if name != missing})
    with pytest.raises(DetdistillError, match=rf"\n +{missing}: "):
        import_effdet(file, settings=known, classes=CLASSES)


def test_columns_that_stand_for_nothing_are_dropped(source: DenseDetector, tmp_path: Path) -> None:
    file = saved(tmp_path, effdet_state(source))
    found = import_effdet(file, settings=KNOWN, classes=("a", "N/A", "b", "N/A", "c")).detector
    assert found.classes == ("a", "b", "c")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own, expected = found(images).predictions.logits, source(images).predictions.logits
    torch.testing.assert_close(own, expected[..., [0, 2, 4]])
    with pytest.raises(DetdistillError, match="a is there twice"):
        import_effdet(file, settings=KNOWN, classes=("a", "N/A", "b", "N/A", "a"))


def test_ninety_columns_are_cocos(tmp_path: Path) -> None:
    file = saved(tmp_path, effdet_state(narrow(tuple(f"c{column}" for column in range(90)))))
    found = import_effdet(file, settings=KNOWN)
    assert len(found.detector.classes) == 80
    assert (found.detector.classes[0], found.detector.classes[-1]) == ("person", "toothbrush")
    assert {finding.what: finding.source for finding in found.findings}["classes"] == "effdet's default"


@pytest.fixture(scope="module")
def lite0() -> DenseDetector:
    torch.manual_seed(0)
    return DenseDetector(Architecture("efficientdet", preset="lite0"), ("a", "b")).eval()


def test_a_preset_answers_everything(lite0: DenseDetector, tmp_path: Path) -> None:
    file = saved(tmp_path, effdet_state(lite0))
    found = import_effdet(file, settings=EffdetSettings(preset="lite0"), classes=lite0.classes)
    assert_same(found.detector, lite0)
    assert found.image_size == ImageSize(letterbox=320)
    assert found.detector.input.normalization.mean == (127.5, 127.5, 127.5)
    own, expected = found.detector.architecture, lite0.architecture
    assert own.backbone == "tf_efficientnet_lite0"
    assert (own.pyramid, own.towers, own.options) == (expected.pyramid, expected.towers, expected.options)
    sources = {finding.what: finding.source for finding in found.findings}
    assert sources["anchor_scale"] == "preset"
    assert sources["backbone"] == "weights"
    with pytest.raises(DetdistillError, match=r"lite1.*\n +channels 64, the preset 88"):
        import_effdet(file, settings=EffdetSettings(preset="lite1"), classes=lite0.classes)


def test_files_that_are_damaged_or_of_another_kind(source: DenseDetector, tmp_path: Path) -> None:
    state = effdet_state(source)
    gone = {name: each for name, each in state.items() if name != "fpn.cell.1.fnode.3.combine.edge_weights"}
    with pytest.raises(DetdistillError, match=r"fpn.cell.1.fnode.3.combine.edge_weights is missing"):
        import_effdet(saved(tmp_path, gone), settings=KNOWN, classes=CLASSES)
    with pytest.raises(DetdistillError, match=r"class_net.extra is not part"):
        import_effdet(saved(tmp_path, {**state, "class_net.extra": torch.zeros(1)}), settings=KNOWN, classes=CLASSES)
    other = {**state, "box_net.predict.conv_pw.weight": torch.zeros(24, 16, 1, 1)}
    with pytest.raises(DetdistillError, match=r"24 for boxes.* 36"):
        import_effdet(saved(tmp_path, other), settings=KNOWN, classes=CLASSES)
    plain = {**state, "class_net.conv_rep.0.conv.weight": torch.zeros(16, 16, 3, 3)}
    with pytest.raises(DetdistillError, match="separable_conv"):
        import_effdet(saved(tmp_path, plain), settings=KNOWN, classes=CLASSES)
    nodes = {name: each for name, each in state.items() if not name.startswith("fpn.cell.0.fnode.7.")}
    with pytest.raises(DetdistillError, match="7 nodes"):
        import_effdet(saved(tmp_path, nodes), settings=KNOWN, classes=CLASSES)


@pytest.mark.parametrize("answer", [{"anchor_scale": 0.0}, {"std": (0.0, 1.0, 1.0)}, {"side": 0}])
def test_answers_that_cannot_be(source: DenseDetector, answer: dict[str, Any], tmp_path: Path) -> None:
    file = saved(tmp_path, effdet_state(source))
    with pytest.raises(DetdistillError, match=str(file)):
        import_effdet(file, settings=EffdetSettings(**{**ANSWERS, **answer}), classes=CLASSES)


def test_options_of_another_library_are_refused(source: DenseDetector, tmp_path: Path) -> None:
    file = saved(tmp_path, effdet_state(source))
    with pytest.raises(DetdistillError, match="--effdet"):
        import_checkpoint(file, tmp_path / "run", settings=MmdetSettings(groups=4), classes=CLASSES, effdet=KNOWN)
    torch.save({"backbone.conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(DetdistillError, match="--effdet"):
        import_checkpoint(file, tmp_path / "run", effdet=KNOWN)
    assert not os.path.lexists(tmp_path / "run")
