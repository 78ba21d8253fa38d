from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import detdistill
from detdistill.cli import main
from detdistill.core.image_options import ImageSize
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.storage import read_description
from detdistill.teachers.loading import load_teacher
from detdistill.teachers.onnx.onnx_card import CardInput
from detdistill.teachers.onnx.onnx_teacher import OnnxTeacher
from support import effdet_files
from support.effdet_files import narrow
from support.evaluation_datasets import no_objects
from support.mmdet_files import checkpoint, mmdet_state, saved, small
from support.onnx_files import constants, f32, one_hot_logits


def test_a_checkpoint_becomes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = small("atss")
    path = saved(tmp_path, checkpoint(expected))
    assert main(["import", str(path), "--out", str(tmp_path / "run"), "--iou-threshold", "0.55"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "iou_threshold: 0.55 (the config says 0.7) (given)" in said
    assert "backbone: resnet18, channels (8, 16, 32, 64) (weights)" in said
    detector = detdistill.load(tmp_path / "run")
    assert isinstance(detector, DenseDetector)
    assert detector.postprocessing.iou_threshold == 0.55
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(detector(images).predictions.class_logits, expected(images).predictions.class_logits)
    description = read_description(tmp_path / "run")
    assert description.input.size == ImageSize(800, 1333)
    assert description.provenance["imported_from"] == "checkpoint.pth"


def test_a_run_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, checkpoint(small("atss")))
    assert main(["import", str(path), "--out", str(tmp_path)]) == 1
    assert "exists already; name another folder" in capsys.readouterr().err
    assert not (tmp_path / "model.json").exists()


def test_what_is_open_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, mmdet_state(small("retinanet")))
    words = ["import", str(path), "--out", str(tmp_path / "run"), "--classes", "[cat,dog]"]
    assert main(words) == 1
    assert "--head" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    words += ["--head", "retinanet", "--mean", "[1,2,3]", "--std", "[1,1,1]", "--no-bgr"]
    words += ["--extra-source", "output", "--extra-relu"]
    words += ["--anchor-scales", "[4,5.04,6.35]", "--anchor-ratios", "[0.5,1,2]"]
    words += ["--score-threshold", "0.05", "--iou-threshold", "0.5"]
    assert main(words) == 1
    assert "candidates_per_level" in capsys.readouterr().err
    assert main([*words, "--candidates-per-level", "1000", "--max-detections", "100"]) == 0
    assert detdistill.load(tmp_path / "run").classes == ("cat", "dog")


def test_a_checkpoint_of_effdet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = narrow(("cat", "dog"))
    path = effdet_files.saved(tmp_path, effdet_files.effdet_state(expected))
    words = ["import", str(path), "--out", str(tmp_path / "run"), "--classes", "[cat,dog]"]
    assert main(words) == 1
    assert "--effdet.preset" in capsys.readouterr().err
    words += ["--effdet.backbone", "lcnet_035", "--effdet.anchor-scale", "4", "--effdet.activation", "silu"]
    words += ["--effdet.mean", "[123.675,116.28,103.53]", "--effdet.std", "[58.395,57.12,57.375]"]
    assert main([*words, "--groups", "4"]) == 1
    assert main([*words, "--effdet.preset", "d9"]) == 2
    assert not (tmp_path / "run").exists()
    assert main([*words, "--effdet.side", "256"]) == 0
    said = capsys.readouterr().out
    assert "pyramid: BiFPN, 16 channels, 2 cells, fast fusion" in said
    assert "anchor_scale: 4" in said
    detector = detdistill.load(tmp_path / "run")
    assert (detector.classes, detector.input.size) == (("cat", "dog"), ImageSize(letterbox=256))
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(detector(images).predictions.logits, expected(images).predictions.logits)


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "architecture.", "ema.", "student."])
def test_wrapped_weights_are_imported(wrapper: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = small("gfl")
    content = checkpoint(expected)
    state = content.pop("state_dict")
    content["model_state_dict"] = {f"{wrapper}{name}": tensor for name, tensor in state.items()}
    content["model_state_dict"] |= {f"teacher.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
    assert main(["import", str(saved(tmp_path, content)), "--out", str(tmp_path / "run")]) == 0
    assert "teacher." in capsys.readouterr().out
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = detdistill.load(tmp_path / "run")(images)
        assert torch.equal(found.predictions.class_logits, expected(images).predictions.class_logits)


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's FCOS of a background column and two classes, with frozen batch norms."""
    path = tmp_path_factory.mktemp("torchvision") / "fcos.pth"
    detector = TorchvisionDetector.from_architecture(
        TorchvisionArchitecture("fcos_resnet50_fpn", 1e-5), ("background", "cat", "dog")
    )
    torch.save(detector.network.state_dict(), path)
    return path


def test_wrapped_safetensors_of_torchvision(
    torchvision_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(torchvision_file, weights_only=True)
    wrapped = {f"student.module.{name}": tensor.half() for name, tensor in state.items()}
    save_file(wrapped | {"teacher.weight": torch.ones(1)}, tmp_path / "wrapped.safetensors")
    words = ["import", str(tmp_path / "wrapped.safetensors"), "--out", str(tmp_path / "run"), "--number-classes"]
    assert main(words) == 0
    assert "teacher." in capsys.readouterr().out
    assert detdistill.load(tmp_path / "run").classes == ("class_0", "class_1", "class_2")


def test_an_onnx_file_becomes_a_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = {"logits": one_hot_logits(2, 2), "pred_boxes": f32([[0.5, 0.5, 0.5, 0.25], [0.25, 0.25, 0.5, 0.5]])}
    path = constants(tmp_path / "MODEL.ONNX", outputs, extra={"target": ["N", 2]})
    words = ["import", str(path), "--out", str(tmp_path / "teacher"), "--classes", "[cat,dog]"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert all(option in said for option in ("--card.mean", "--card.std", "--card.resize", "--card.extra-inputs"))
    assert not (tmp_path / "teacher").exists()
    words += ["--card.mean", "[0.5,0.5,0.5]", "--card.std", "[1,1,1]", "--card.resize", "letterbox"]
    words += ["--card.pad-color", "[114,114,114]", "--card.extra-inputs", "{target: input_wh}", "--card.bgr"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "resize: letterbox (given)" in lines
    assert "score_kind: logit (transformers)" in lines
    teacher = load_teacher(str(tmp_path / "teacher"), no_objects(1, 2))
    assert isinstance(teacher, OnnxTeacher)
    assert teacher.card.input == CardInput(
        image="images",
        size=(64, 64),
        pixel_range="0..1",
        mean=(0.5, 0.5, 0.5),
        std=(1, 1, 1),
        bgr=True,
        resize="letterbox",
        pad_color=(114, 114, 114),
        extra_inputs={"target": "input_wh"},
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--card.resize", "squeeze"],
        ["--card.size", "[64]"],
        ["--card.dropped", "cat"],
        ["--card.extra-inputs", "{target: size}"],
        ["--card.resizes", "pad"],
    ],
)
def test_wrong_values_of_a_card_name_their_option(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = constants(tmp_path / "model.onnx", {"dets": f32([[0.5, 0.5, 1, 1]]), "labels": one_hot_logits(1, 2)})
    assert main(["import", str(path), "--out", str(tmp_path / "teacher"), "--classes", "[cat]", *words]) == 2
    assert words[0] in capsys.readouterr().err


def test_options_of_one_kind_of_file_are_refused_for_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = constants(tmp_path / "model.onnx", {"dets": f32([[0.5, 0.5, 1, 1]]), "labels": one_hot_logits(1, 2)})
    words = ["import", str(onnx), "--out", str(tmp_path / "out"), "--classes", "[cat]"]
    assert main([*words, "--head", "gfl"]) == 1
    assert "model.onnx" in capsys.readouterr().err
    checkpoint_file = saved(tmp_path, checkpoint(small("atss")))
    assert main(["import", str(checkpoint_file), "--out", str(tmp_path / "out"), "--card.resize", "pad"]) == 1
    assert "--card" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
