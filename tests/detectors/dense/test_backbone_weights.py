"""Local files of weights into backbones: every way that a file can be named, and every way that it can be broken."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import resnet18, resnet34

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.backbone_weights import BackboneMismatchError, load_backbone_weights
from detdistill.detectors.dense.backbones import Backbone, build_backbone
from detdistill.detectors.dense.detector import DenseDetector
from support.tiny_detector import layers

State = dict[str, Tensor]
WIDTH = 0.125


def backbone_of(seed: int, name: str = "resnet18", width: float = WIDTH) -> Backbone:
    torch.manual_seed(seed)
    backbone = build_backbone(name, width=width)
    with torch.no_grad():
        for tensor in backbone.state_dict().values():
            tensor.add_(torch.rand_like(tensor) if tensor.is_floating_point() else 0)
    return backbone


def state_of(backbone: Backbone) -> State:
    return {name: tensor.clone() for name, tensor in backbone.network.state_dict().items()}


def weights_of(backbone: Backbone) -> State:
    return {name: tensor for name, tensor in state_of(backbone).items() if not name.endswith("num_batches_tracked")}


def assert_equal(first: State, second: State) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_deformable_convolutions_start_from_plain_weights(tmp_path: Path) -> None:
    source = backbone_of(0, "resnet50")
    file = tmp_path / "weights.pth"
    torch.save(state_of(source), file)
    target = build_backbone("resnet50", width=WIDTH, deformable=(4,))
    report = load_backbone_weights(target, file)
    deformed = target.network.get_parameter("layer4.1.conv2.conv.weight")
    assert torch.equal(deformed, source.network.get_parameter("layer4.1.conv2.weight"))
    assert {name.rpartition(".")[0] for name in report.missing} == {
        f"layer4.{block}.conv2.sampling" for block in range(3)
    }


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "model.backbone.body."])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_names_below_any_prefix(tmp_path: Path, prefix: str, ending: str) -> None:
    source, target = backbone_of(0), backbone_of(1)
    state = {f"{prefix}{name}": tensor for name, tensor in state_of(source).items()}
    state[f"{prefix}fc.weight"] = torch.zeros(10, 64)
    file = tmp_path / f"weights{ending}"
    save_file(state, file) if ending == ".safetensors" else torch.save(state, file)
    report = load_backbone_weights(target, file)
    assert_equal(weights_of(target), weights_of(source))
    assert report.prefix == prefix
    assert report.unused == (f"{prefix}fc.weight",)
    assert not report.missing
    assert not report.misfits


@pytest.mark.parametrize("wrap", ["state_dict", "model"])
def test_wrapped_and_into_a_detector(tmp_path: Path, wrap: str) -> None:
    source = backbone_of(0)
    torch.manual_seed(1)
    detector = DenseDetector(layers(backbone_width=WIDTH, channels=16), ("a",))
    head = {name: tensor.clone() for name, tensor in detector.head.state_dict().items()}
    torch.save({wrap: state_of(source), "epoch": 3}, tmp_path / "checkpoint.pth")
    load_backbone_weights(detector, tmp_path / "checkpoint.pth")
    assert_equal(weights_of(detector.backbone), weights_of(source))
    assert_equal(head, dict(detector.head.state_dict()))


def test_torchvisions_resnet_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = resnet18(weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    backbone = build_backbone("resnet18").eval()
    report = load_backbone_weights(backbone, tmp_path / "resnet18.pth")
    assert report.unused == ("fc.bias", "fc.weight")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        first = model.layer2(model.layer1(stem))
        expected = [first, model.layer3(first), model.layer4(model.layer3(first))]
        for ours, theirs in zip(backbone(images), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv2_050", "tf_efficientnet_lite0"])
def test_timms_whole_model(tmp_path: Path, name: str) -> None:
    """timm renames the modules that it unwraps when it makes a feature network of a model."""
    torch.manual_seed(0)
    model: Any = timm.create_model(name).eval()
    torch.save(model.state_dict(), tmp_path / "model.pth")
    backbone = build_backbone(name).eval()
    report = load_backbone_weights(backbone, tmp_path / "model.pth")
    assert not report.missing
    assert not report.misfits
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model.forward_intermediates(images, intermediates_only=True)[-1]
        torch.testing.assert_close(backbone(images)[-1], expected)


def test_half_precision_file_keeps_the_backbones_precision(tmp_path: Path) -> None:
    source, target = backbone_of(0), backbone_of(1)
    save_file({name: tensor.half() for name, tensor in weights_of(source).items()}, tmp_path / "half.safetensors")
    load_backbone_weights(target, tmp_path / "half.safetensors")
    assert_equal(weights_of(target), {name: tensor.half().float() for name, tensor in weights_of(source).items()})


def test_report_says_what_was_left(tmp_path: Path) -> None:
    source, target = backbone_of(0), backbone_of(1)
    before, state = weights_of(target), weights_of(source)
    del state["layer4.0.conv1.weight"]
    state["layer4.1.conv1.weight"] = torch.zeros(3, 4)
    state["layer4.1.conv2.weight"] = state["layer4.1.conv2.weight"].to(torch.int8)
    torch.save(state, tmp_path / "part.pth")
    report = load_backbone_weights(target, tmp_path / "part.pth")
    left = {"layer4.0.conv1.weight", "layer4.1.conv1.weight", "layer4.1.conv2.weight"}
    assert report.missing == ("layer4.0.conv1.weight",)
    assert set(report.misfits) == left - set(report.missing)
    after = weights_of(target)
    assert_equal({name: after[name] for name in left}, {name: before[name] for name in left})
    assert set(report.loaded) == before.keys() - left
    text = str(report)
    assert "1 not in the file" in text
    assert "layer4.1.conv1.weight: (3, 4) in the file, (64, 64, 3, 3) in the backbone" in text
    assert "torch.int8 in the file, torch.float32 in the backbone" in text


@pytest.mark.parametrize(
    ("state", "holds"),
    [
        ({"encoder.weight": torch.zeros(3), "decoder.weight": torch.zeros(3)}, "encoder.weight"),
        (state_of(backbone_of(0, width=0.25)), "resnet18 with the channels (16, 32, 64, 128)"),
        (state_of(backbone_of(0, "resnet50")), "resnet50 with the channels (8, 16, 32, 64)"),
    ],
    ids=["other names", "another width", "other blocks"],
)
def test_refuses_weights_of_something_else(tmp_path: Path, state: State, holds: str) -> None:
    target = backbone_of(1)
    before = weights_of(target)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(BackboneMismatchError, match=r"other\.pth") as raised:
        load_backbone_weights(target, tmp_path / "other.pth")
    assert holds in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.report.total == len(before)
    assert_equal(weights_of(target), before)


def test_refuses_to_choose_between_two_networks(tmp_path: Path) -> None:
    target = backbone_of(1)
    state = state_of(backbone_of(0))
    torch.save(
        {f"{owner}.{name}": tensor for owner in ("first", "second") for name, tensor in state.items()},
        tmp_path / "a.pth",
    )
    with pytest.raises(DetdistillError, match=r"a\.pth holds two networks .*'first\.' and under 'second\.'"):
        load_backbone_weights(target, tmp_path / "a.pth")


def test_of_a_student_and_a_teacher_the_student_is_taken(tmp_path: Path) -> None:
    source, target = backbone_of(0), backbone_of(1)
    state = {f"student.{name}": tensor for name, tensor in state_of(source).items()}
    state |= {f"teacher.{name}": torch.zeros_like(tensor) for name, tensor in state_of(source).items()}
    torch.save(state, tmp_path / "a.pth")
    report = load_backbone_weights(target, tmp_path / "a.pth")
    assert_equal(weights_of(target), weights_of(source))
    assert len(report.notes) == 1
    assert not report.unused


def test_compiled_parts_inside_of_a_backbone(tmp_path: Path) -> None:
    source, target = backbone_of(0), backbone_of(1)
    state = {name.replace("layer1.", "layer1._orig_mod."): tensor for name, tensor in state_of(source).items()}
    torch.save(state, tmp_path / "a.pth")
    load_backbone_weights(target, tmp_path / "a.pth")
    assert_equal(weights_of(target), weights_of(source))


def test_a_file_that_fills_the_backbone_is_one_line(tmp_path: Path) -> None:
    state = state_of(backbone_of(0)) | {f"fc.{name}": torch.zeros(1) for name in ("weight", "bias")}
    torch.save(state, tmp_path / "a.pth")
    lines = str(load_backbone_weights(backbone_of(1), tmp_path / "a.pth")).splitlines()
    assert len(lines) == 1
    assert "2 others not used (fc)" in lines[0]


def test_a_deeper_network_is_noted(tmp_path: Path) -> None:
    torch.save(resnet34().state_dict(), tmp_path / "resnet34.pth")
    report = load_backbone_weights(build_backbone("resnet18"), tmp_path / "resnet34.pth")
    assert any("resnet34" in note and "resnet18" in note for note in report.notes)


def test_not_finite(tmp_path: Path) -> None:
    state = state_of(backbone_of(0))
    state["layer1.0.bn1.weight"][0] = torch.nan
    for file in (tmp_path / "nan.pth", tmp_path / "nan.safetensors"):
        torch.save(state, file) if file.suffix == ".pth" else save_file(state, file)
        with pytest.raises(DetdistillError, match=rf"{file.name}[\s\S]*layer1\.0\.bn1\.weight: NaN"):
            load_backbone_weights(backbone_of(1), file)


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    """A byte changed in the head (safetensors' header, the archive's directory and pickle) or anywhere."""
    damaged = bytearray(content)
    place = chance.randrange(min(2000, len(content))) if chance.random() < 0.5 else chance.randrange(len(content))
    damaged[place] ^= chance.randrange(1, 256)
    return bytes(damaged)


@pytest.mark.parametrize("damage", [truncated, flipped])
@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_damaged_files(tmp_path: Path, damage: Callable[[bytes, random.Random], bytes], ending: str) -> None:
    """Our error that names the file, or weights that load whole: a byte of a safetensors' tensor has no checksum."""
    whole, broken = tmp_path / f"whole{ending}", tmp_path / f"broken{ending}"
    state = state_of(backbone_of(0))
    save_file(state, whole) if ending == ".safetensors" else torch.save(state, whole)
    content = whole.read_bytes()
    target = backbone_of(1)
    refused = loaded = 0
    for seed in range(60):
        broken.write_bytes(damage(content, random.Random(seed)))
        try:
            load_backbone_weights(target, broken)
            loaded += 1
        except DetdistillError as error:
            refused += broken.name in str(error)
    assert refused + loaded == 60
    assert loaded == 0 if damage is truncated else refused > 10


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code(tmp_path: Path, legacy: bool) -> None:
    witness, file = tmp_path / "witness", tmp_path / "malicious.pth"
    state = state_of(backbone_of(0))
    content = {**state, "layer1.0.conv1.weight": Malicious(witness)}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DetdistillError, match=r"malicious\.pth"):
        load_backbone_weights(backbone_of(1), file)
    assert not witness.exists()
    file.write_bytes(pickle.dumps(Malicious(witness)))
    with pytest.raises(DetdistillError, match=r"malicious\.pth"):
        load_backbone_weights(backbone_of(1), file)
    assert not witness.exists()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_no_such_file(tmp_path: Path, ending: str) -> None:
    with pytest.raises(DetdistillError, match=rf"absent{ending} cannot be read: No such file"):
        load_backbone_weights(backbone_of(1), tmp_path / f"absent{ending}")
