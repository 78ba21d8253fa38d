from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import detdistill
from detdistill.core.bounds import MOST_CHANNELS, MOST_LAYERS
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.normalization import Normalization
from detdistill.detectors.dense.architecture import TorchvisionArchitecture, Towers
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.detector import HEADS, DenseDetector
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import load_detector, read_description, store_thresholds
from support.tiny_detector import tiny_detector

CLASSES = ("cell", "platelet", "other")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_detector(tiny_detector(), folder, thresholds={"cell": 0.5})
    return folder


@pytest.fixture
def run(saved: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(saved, tmp_path / "run"))


def describe(run: Path, **changes: Any) -> None:
    path = run / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def reweigh(run: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Changes the weights and makes model.json agree with the new file."""
    path = run / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    bless(run)


def bless(run: Path) -> None:
    describe(run, weights_sha256=hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest())


@pytest.mark.parametrize("head", HEADS)
def test_a_round_trip_changes_no_bit(head: HeadName, tmp_path: Path) -> None:
    detector = tiny_detector(head)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    detector.input = dataclasses.replace(
        detector.input, normalization=Normalization((1.5, 2.0, 3.0), (4.0, 5.0, 6.0), bgr=True)
    )
    detector.postprocessing = PostProcessing(0.01, 0.4, 50, 7)
    save_detector(detector, tmp_path / "a" / "run")
    loaded = detdistill.load(tmp_path / "a" / "run")
    assert isinstance(loaded, DenseDetector)
    images = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        expected, output = detector(images), loaded(images)
    assert not loaded.training
    assert torch.equal(output.predictions.class_logits, expected.predictions.class_logits)
    assert torch.equal(output.predictions.regression, expected.predictions.regression)
    assert torch.equal(output.predictions.boxes(), expected.predictions.boxes())
    state = loaded.state_dict()
    assert {name: tensor.dtype for name, tensor in state.items()} == {
        name: tensor.dtype for name, tensor in detector.state_dict().items()
    }
    assert all(torch.equal(state[name], tensor) for name, tensor in detector.state_dict().items())
    assert (loaded.architecture, loaded.classes) == (detector.architecture, detector.classes)
    assert loaded.input.normalization == detector.input.normalization
    assert loaded.postprocessing == detector.postprocessing


VARIANTS: list[tuple[HeadName, dict[str, Any]]] = [
    ("fcos", {"strides": (4, 8), "options": {"giou": True}, "backbone_channels": (8, 8, 16, 24)}),
    ("gfl", {"options": {"reg_max": 8, "anchor_scale": 6.0}}),
    ("retinanet", {"options": {"anchor_scales": (6.0, 8.5)}}),
    ("vfnet", {"backbone": "resnet50", "backbone_style": "caffe", "towers": Towers(depth=1, deformable=True)}),
]


@pytest.mark.parametrize(("head", "changes"), VARIANTS)
def test_options_and_layouts_come_back(head: HeadName, changes: dict[str, Any], tmp_path: Path) -> None:
    detector = tiny_detector(head, **changes).to(memory_format=torch.channels_last)
    save_detector(detector, tmp_path)
    loaded = load_detector(tmp_path)
    assert loaded.architecture == detector.architecture
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = detector.to(memory_format=torch.contiguous_format)(images)
        assert torch.equal(loaded(images).predictions.boxes(), expected.predictions.boxes())


def test_torchvision_detectors_come_back(tmp_path: Path) -> None:
    detector = TorchvisionDetector.from_architecture(
        TorchvisionArchitecture("fcos_resnet50_fpn", frozen_norm_eps=0.0), CLASSES
    ).eval()
    detector.postprocessing = dataclasses.replace(detector.postprocessing, max_detections=7)
    save_detector(detector, tmp_path)
    loaded = load_detector(tmp_path)
    assert isinstance(loaded, type(detector))
    assert (loaded.architecture, loaded.classes) == (detector.architecture, CLASSES)
    assert loaded.postprocessing == detector.postprocessing
    assert not loaded.training
    state = loaded.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in detector.state_dict().items())
    describe(tmp_path, architecture={"name": "retinanet_resnet50_fpn_v2", "frozen_norm_eps": 0.0})
    with pytest.raises(DetdistillError, match=r"model\.json does not describe a detector: .* no frozen batch norms"):
        load_detector(tmp_path)
    describe(tmp_path, architecture={"name": "retinanet_resnet50_fpn"})
    with pytest.raises(DetdistillError, match=r"model\.safetensors does not fit the architecture"):
        load_detector(tmp_path)


def test_what_is_known_of_the_detector_stands_beside_it(tmp_path: Path) -> None:
    size = ImageSize(short_side=320, long_side=512)
    provenance = {"teacher": {"sha256": "ab"}, "epochs": 12}
    save_detector(tiny_detector(), tmp_path, image_size=size, thresholds={"cell": 0.25}, provenance=provenance)
    description = read_description(tmp_path)
    assert description.input.size == size
    assert description.score_thresholds == {"cell": 0.25}
    assert description.provenance["teacher"] == {"sha256": "ab"}
    assert description.provenance["versions"]["torch"] == torch.__version__.partition("+")[0]
    store_thresholds(tmp_path, {"cell": 0.5, "other": 0.75})
    changed = dataclasses.replace(description, score_thresholds={"cell": 0.5, "other": 0.75})
    assert read_description(tmp_path) == changed


def test_loading_draws_no_random_number(saved: Path) -> None:
    before = torch.random.get_rng_state()
    load_detector(saved)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_import_detdistill_stays_light() -> None:
    code = "import sys, detdistill; assert callable(detdistill.load) and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_failed_save_leaves_the_old_detector(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {path.name: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(DetdistillError, match=r"model\.safetensors cannot be written: No space left"):
        save_detector(tiny_detector(seed=1), run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_weights_without_their_description_are_no_detector(run: Path) -> None:
    (run / "model.json").unlink()
    with pytest.raises(DetdistillError, match=r"run holds no model\.json.*detdistill import"):
        load_detector(run)


def test_a_file_is_not_a_run_folder(run: Path) -> None:
    with pytest.raises(DetdistillError, match=r"safetensors holds no model\.json.*give the folder.*detdistill import"):
        load_detector(run / "model.safetensors")


def test_new_weights_beside_an_old_description_are_refused(saved: Path, run: Path) -> None:
    save_detector(tiny_detector(seed=1), run)
    shutil.copy(saved / "model.json", run)
    with pytest.raises(DetdistillError, match=r"not the file that model\.json beside it was written for"):
        load_detector(run)


def test_other_precisions_are_refused_when_saved(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"float32, but .* are torch\.bfloat16.*\.float\(\)"):
        save_detector(tiny_detector().bfloat16(), tmp_path)


def test_provenance_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match="not JSON: Object of type Path"):
        save_detector(tiny_detector(), tmp_path, provenance={"file": object.__new__(type("Path", (), {}))})


def test_thresholds_of_unknown_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match="thresholds for dog, which are not among the classes cell, platelet"):
        save_detector(tiny_detector(), tmp_path, thresholds={"dog": 0.5})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 6}, r"format 6 .* reads up to 5: .*newer version.*pip install --upgrade"),
        ({"format": None}, "format is"),
        ({"format": 0}, "format is"),
        ({"kind": "transformer"}, "kind: 'transformer' is none of dense, torchvision"),
        ({"kind": ["dense"]}, "is none of dense, torchvision"),
        ({"kind": "torchvision"}, "architecture.kind must be one of torchvision, not 'gfl'"),
        ({"classes": []}, "classes must be names"),
        ({"classes": ["a", "a", "b"]}, "classes must be names that differ"),
        ({"classes": ["a"]}, r"thresholds for cell"),
        ({"classes": ["cell"]}, r"does not fit the architecture.*head\.class_predictor\.weight: \(3, 16, 3, 3\)"),
        ({"architecture": {"kind": "yolo"}}, "architecture.kind must be one of .*, not 'yolo'"),
        ({"architecture": {"backbone": "resnet19"}}, "no detector that can be built: no backbone is called 'resnet19'"),
        (
            {"architecture": {"pyramid": {"channels": -1}}},
            "does not describe a detector: architecture.pyramid.channels must",
        ),
        ({"architecture": {"options": {"reg_max": 0}}}, "no detector that can be built: reg_max must be at least 1"),
        ({"postprocessing": {"score_threshold": 1}}, "does not describe a detector: postprocessing.score_threshold"),
        (
            {"input": {"normalization": {"mean": [0, 0, 0], "std": [1, 0, 1]}}},
            "describe a detector: input.normalization.std.1. must be greater than 0",
        ),
        ({"architecture": {"pyramid": {"extra_levels": 10**9}}}, "architecture.pyramid.extra_levels"),
        ({"architecture": {"towers": {"depth": 10**9}}}, "architecture.towers.depth"),
        ({"architecture": {"towers": {"depth": MOST_LAYERS}}}, "does not fit the architecture"),
        ({"architecture": {"options": {"giou": True}}}, "no detector that can be built: head gfl has no option giou"),
        ({"architecture": {"pyramid": {"channels": 10**7}}}, "architecture.pyramid.channels"),
        ({"architecture": {"pyramid": {"channels": MOST_CHANNELS}}}, "does not fit the architecture"),
        ({"architecture": {"backbone_width": 1e300}}, "architecture.backbone_width"),
        ({"architecture": {"strides": [8] * 10_000}}, "architecture.strides"),
        ({"architecture": {"options": {"reg_max": 2**70}}}, "architecture.options.reg_max"),
        ({"postprocessing": {"max_detections": 2**70}}, "postprocessing.max_detections"),
        ({"input": {"multiple": 0}}, "input.multiple"),
        ({"input": {"canvas": [10**9, 32]}}, r"input.canvas\[0\]"),
        *[
            ({"input": {"size": {key: side}}}, f"input.size.{key}")
            for key in ("short_side", "long_side", "letterbox")
            for side in (0, -1, 20_000, 10**6, 10**9, 2**70)
        ],
        ({"classes": ["a\ud800"]}, r"classes\[0\]"),
        ({"provenance": {"data": ["\ud800"]}}, r"provenance.data\[0\]"),
        ({"weights_sha256": 5}, "weights_sha256 must be text, not 5"),
        ({"color": "red"}, "there is no key 'color'"),
    ],
)
def test_a_description_that_does_not_hold_is_named(run: Path, changes: dict[str, Any], said: str) -> None:
    describe(run, **changes)
    with pytest.raises(DetdistillError, match=rf"(?s)model\.(json|safetensors).*{said}|{said}"):
        load_detector(run)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("PK\x03\x04", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 5000, "is not JSON"),
        ("[1, 2]", "expected a JSON object"),
        ('{"images": []}', "not a detdistill model"),
        ('{"format": 1, "kind": "dense"}', "architecture is missing"),
    ],
)
def test_a_foreign_description_is_refused(run: Path, content: str, said: str) -> None:
    (run / "model.json").write_text(content)
    with pytest.raises(DetdistillError, match=rf"model\.json.*{said}"):
        load_detector(run)


def drop(state: dict[str, Tensor]) -> None:
    del state["head.class_predictor.bias"]


def drop_backbone(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if name.startswith("backbone.")]:
        del state[name]


def add(state: dict[str, Tensor]) -> None:
    state["optimizer"] = torch.zeros(3)


def reshape(state: dict[str, Tensor]) -> None:
    state["head.class_predictor.bias"] = torch.zeros(4)


def halve(state: dict[str, Tensor]) -> None:
    state["head.class_predictor.bias"] = torch.zeros(3, dtype=torch.float16)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop, r"head\.class_predictor\.bias: missing"),
        (add, "optimizer: not part of the detector"),
        (
            reshape,
            r"head\.class_predictor\.bias: \(4,\) torch\.float32; the architecture asks for \(3,\) torch\.float32",
        ),
        (halve, r"head\.class_predictor\.bias: \(3,\) torch\.float16; the architecture asks for \(3,\) torch\.float32"),
        (drop_backbone, r"backbone\.network\.conv1\.weight: missing.*… and .* more"),
    ],
)
def test_weights_of_another_architecture_are_listed(
    run: Path, change: Callable[[dict[str, Tensor]], None], said: str
) -> None:
    reweigh(run, change)
    with pytest.raises(DetdistillError, match=rf"(?s)model\.safetensors does not fit .*{said}"):
        load_detector(run)


def test_missing_weights_are_named(run: Path) -> None:
    (run / "model.safetensors").unlink()
    with pytest.raises(DetdistillError, match=r"model\.safetensors cannot be read: No such file"):
        load_detector(run)


def test_a_header_that_claims_terabytes_costs_no_memory(run: Path) -> None:
    path = run / "model.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (len(header).to_bytes(8, "little") + header, (2**62).to_bytes(8, "little") + header):
        path.write_bytes(content)
        bless(run)
        with pytest.raises(DetdistillError, match=r"model\.safetensors is no safetensors file"):
            load_detector(run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def load_damaged(saved: Path, run: Path, seed: int) -> None:
    """Damages a copy at random and loads it: that works or is our error."""
    shutil.copytree(saved, run)
    chance = random.Random(seed)
    path = run / chance.choice(("model.json", "model.safetensors"))
    content = bytearray(path.read_bytes())
    # The header's bytes are few: half of the flips go there, where they do more than change a weight.
    end = len(content) if chance.random() < 0.5 else min(len(content), 4000)
    if chance.random() < 0.3:
        del content[chance.randrange(len(content)) :]
    else:
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(end)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    if path.name == "model.safetensors":
        with pytest.raises(DetdistillError, match=r"model\.safetensors is not the file"):
            load_detector(run)
        bless(run)
    # Bits that were flipped in a weight or a name leave a detector that loads.
    with contextlib.suppress(DetdistillError):
        assert len(load_detector(run).classes) == len(CLASSES)


def test_damaged_files_are_our_errors(saved: Path, tmp_path: Path) -> None:
    for seed in range(200):
        load_damaged(saved, tmp_path / "run", seed)
        shutil.rmtree(tmp_path / "run")


@pytest.mark.slow
def test_many_damaged_files_are_our_errors(saved: Path, tmp_path: Path) -> None:
    for seed in range(200, 5_000):
        load_damaged(saved, tmp_path / "run", seed)
        shutil.rmtree(tmp_path / "run")
