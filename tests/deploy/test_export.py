from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from detdistill.cli import main
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.onnx_runtime import session
from detdistill.core.structures import Detections
from detdistill.data.opening import open_dataset
from detdistill.data.source import DatasetSource
from detdistill.deploy.export import export
from detdistill.deploy.onnx import METADATA, Form, export_onnx
from detdistill.deploy.verify import is_excused, partners, verify
from detdistill.detectors.dense.architecture import BiFeaturePyramid, TorchvisionArchitecture
from detdistill.detectors.dense.choices import HeadName, NetworkName
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import load_detector, read_description
from detdistill.training.run import train
from support.exports import export_once
from support.pairs import confident
from support.small_runs import TINY, small_recipe, write_boxes
from support.tiny_detector import tiny_detector

SQUARE = ImageSize(letterbox=64)
pytestmark = pytest.mark.usefixtures("exported_once")


def write_run(
    folder: Path,
    head: HeadName = "gfl",
    *,
    size: ImageSize | None = SQUARE,
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A run of two pyramid levels; with a letterbox, whose canvas is fixed, it is exported in half the time."""
    few: dict[str, Any] = {"strides": (16, 32), "extra_levels": 0}
    detector = tiny_detector(head, ("green", "red"), seed=seed, **few, **changes)
    save_detector(confident(detector), folder, image_size=size)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and its file."""
    folder = tmp_path_factory.mktemp("exported")
    run = write_run(folder / "run", size=ImageSize(64, 64))
    export_once(run, folder / "model.onnx")
    return run, folder / "model.onnx"


def test_the_file_tells_all_that_a_program_needs(exported: tuple[Path, Path]) -> None:
    _, file = exported
    assert [path.name for path in file.parent.iterdir() if path.is_file()] == ["model.onnx"], "one file"
    runner = session(file)
    metadata = json.loads(runner.get_modelmeta().custom_metadata_map[METADATA])
    assert metadata["classes"] == ["green", "red"]
    assert metadata["canvas"] == "any multiples of 32"
    assert metadata["resize"] == {"short_side": 64, "long_side": 64, "letterbox": None, "canvas": None}
    assert [output.name for output in runner.get_outputs()] == metadata["outputs"]
    assert [given.name for given in runner.get_inputs()] == ["images", "sizes"]


def test_a_file_of_other_weights_is_refused(exported: tuple[Path, Path], tmp_path: Path) -> None:
    """Verification can fail: the file is of one detector, and another one is beside it."""
    run, file = exported
    other = load_detector(write_run(tmp_path / "other", seed=1)).eval()
    batch = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.tensor([[64, 64], [48, 64]])
    found = verify(other, file, "end_to_end", read_description(run).postprocessing, [batch])
    assert found.problems
    with pytest.raises(DetdistillError, match=r"model.onnx is not what PyTorch computes:\n  image 0: only"):
        found.check(file)


@pytest.mark.parametrize(
    ("head", "size"), [("gfl", ImageSize(64, 64)), pytest.param("retinanet", SQUARE, marks=pytest.mark.slow)]
)
def test_real_images_on_any_canvas(tmp_path: Path, head: HeadName, size: ImageSize) -> None:
    dataset = open_dataset(write_boxes(tmp_path / "data"), "val")
    found = export(write_run(tmp_path / "run", head, size=size), tmp_path / "m.onnx", any_size=True, dataset=dataset)
    assert found.canvas is None
    assert found.verification.images == 4
    assert found.verification.detections > 0
    assert found.verification.problems == []
    assert found.change is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that has learned something, and its data set."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_boxes(folder / "data")
    # The coarsest level is one cell at 32 px.
    few = replace(TINY, strides=(16,), pyramid=replace(TINY.pyramid, extra_levels=1))
    train(small_recipe(data, epochs=40, detector=few), folder / "run")
    return folder / "run", data


@pytest.mark.parametrize(("precision", "form"), [("fp16", "raw"), ("int8", "end_to_end")])
def test_narrow_files_are_smaller_and_scored(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str, form: str
) -> None:
    run, data = trained
    command = ["export", str(run), "--data", str(data), "--split", "val", "--form", form, "--out"]
    assert main([*command, str(tmp_path / "whole.onnx"), "--score"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"AP \d+\.\d on 4 images, \+0\.0 beside PyTorch's", said), said
    narrow = tmp_path / "narrow.onnx"
    assert main([*command, str(narrow), "--precision", precision, "--ap-drop", "100"]) == 0
    said = capsys.readouterr().out
    assert f"MiB, {precision}\ncanvas: 64x64\nverified in fp32 on 4 images" in said
    assert re.search(r"AP \d+\.\d on 4 images, [+-]\d+\.\d beside PyTorch's", said), said
    assert ("calibrated on 8 images of" in said) == (precision == "int8")
    assert narrow.stat().st_size < 0.8 * (tmp_path / "whole.onnx").stat().st_size
    metadata = json.loads(session(narrow).get_modelmeta().custom_metadata_map[METADATA])
    assert metadata["precision"] == precision
    assert metadata["classes"] == ["green", "red"]
    assert main([*command, str(narrow), "--precision", precision, "--ap-drop", "-101"]) == 1
    assert "lost more than it may (-101 AP)" in capsys.readouterr().err


@pytest.mark.slow
def test_int8_on_any_canvas(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = trained
    command = ["export", str(run), "--data", str(data), "--split", "val", "--out", str(tmp_path / "m.onnx")]
    assert main([*command, "--any-size", "--precision", "int8", "--ap-drop", "100"]) == 0
    for number, side in ((1, 32), (2, 192)):  # at 32 px the coarsest level is one cell
        images, sizes = np.zeros((number, 3, side, side), np.uint8), np.full((number, 2), side)
        _, scores, *_ = session(tmp_path / "m.onnx").run(None, {"images": images, "sizes": sizes})
        assert np.isfinite(scores).all()


@pytest.mark.slow
def test_a_backbone_that_pads_by_its_input_on_any_canvas(tmp_path: Path) -> None:
    """EfficientNets and MobileNetV3 from TensorFlow: sizes of sizes of sizes."""
    run = write_run(tmp_path / "run", backbone="tf_mobilenetv3_small_minimal_100", backbone_width=1.0)
    assert export(run, tmp_path / "m.onnx", any_size=True).verification.problems == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "int8 needs --data"),
        (["--score"], "--score needs --data"),
    ],
)
def test_what_is_scored_needs_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["export", str(write_run(tmp_path / "run")), "--out", str(tmp_path / "m.onnx"), *options]) == 1
    assert message in capsys.readouterr().err


def test_a_file_never_replaces_an_input(tmp_path: Path) -> None:
    run, data = write_run(tmp_path / "run"), write_boxes(tmp_path / "data")
    names = {"soft.onnx": run / "model.safetensors", "described.onnx": run / "model.json"}
    for name, target in names.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "image.onnx").hardlink_to(data / "val" / "0.png")
    before = {path: path.read_bytes() for folder in (run, data) for path in folder.rglob("*") if path.is_file()}
    for name in (*names, "image.onnx"):
        with pytest.raises(DetdistillError, match=r"--out .*\.onnx: this would replace the input"):
            export(run, tmp_path / name, dataset=DatasetSource(data, "val"))
    assert {path: path.read_bytes() for path in before} == before


def test_arguments_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for arguments in ({"any_size": True, "size": (64, 64)}, {"precision": "fp16"}, {"scored": True}):
        with pytest.raises(DetdistillError, match=r"exclude each other|needs --data"):
            export(run, tmp_path / "m.onnx", **arguments)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("network", ["retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"])
def test_torchvision_detectors(tmp_path: Path, network: NetworkName) -> None:
    torch.manual_seed(0)
    detector = TorchvisionDetector.from_architecture(TorchvisionArchitecture(network), ("cat", "dog"))
    save_detector(detector.eval(), tmp_path / "run", image_size=ImageSize(short_side=128, long_side=128))
    found = export(tmp_path / "run", tmp_path / "m.onnx", images=4)
    assert found.verification.images == 4


@pytest.mark.slow
@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("head", get_args(HeadName))
def test_every_head_is_what_pytorch_computes(tmp_path: Path, head: HeadName, form: Form) -> None:
    found = export(write_run(tmp_path / "run", head), tmp_path / "m.onnx", form=form, size=(64, 96), images=6)
    assert found.verification.images == 6
    assert found.verification.detections > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": (60, 64)}, "canvas 60x64: expected sides that are multiples of 32 pixels"),
        ({}, r"model\.json: no image_size; .*give the canvas with --height"),
    ],
)
def test_canvases_that_cannot_be(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DetdistillError, match=message):
        export_onnx(write_run(tmp_path / "run", size=None), tmp_path / "m.onnx", **changes)


def test_a_pyramid_that_pads_by_its_maps_needs_a_canvas(tmp_path: Path) -> None:
    pyramid = BiFeaturePyramid(kind="bifpn", channels=16, repeats=1, padding="same")
    tiny_detector("gfl", pyramid=pyramid).save(tmp_path, image_size=ImageSize(64, 96))
    for any_size in (True, False):
        with pytest.raises(DetdistillError, match=r"padding same.*--height and --width"):
            export(tmp_path, tmp_path / "model.onnx", any_size=any_size)
    assert not (tmp_path / "model.onnx").exists()


def test_the_verb(trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _ = trained
    assert main(["export", str(run), "--out", str(tmp_path / "m.onnx"), "--form", "raw", "--verify-images", "3"]) == 0
    said = capsys.readouterr().out
    assert "MiB" in said
    assert "verified in fp32 on 3 images" in said
    assert main(["export", str(run), "--out", str(tmp_path / "m.onnx"), "--height", "64"]) == 1
    assert "--height and --width belong together" in capsys.readouterr().err


def program_of_the_documentation(folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Run the program beside a file and `image.png`, and return its function `detect`."""
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text()
    program = next(block for block in page.split("```") if "InferenceSession" in block).removeprefix("python\n")
    monkeypatch.chdir(folder)
    shutil.copy(file, "student.onnx")
    names: dict[str, Any] = {}
    exec(compile(program, "docs/deploy.md", "exec"), names)
    detect: Callable[[str], Any] = names["detect"]
    return detect


def write_images(folder: Path) -> list[str]:
    """Landscape, portrait, large, small, upright only by EXIF, of one ratio that does not divide, grey, with alpha."""
    random = np.random.default_rng(0)
    names = []
    for number, (height, width) in enumerate([(50, 100), (100, 50), (300, 400), (20, 30), (120, 90), (47, 131)]):
        coarse = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if number == 4 else 1
        names.append(f"{number}.jpg")
        image.save(folder / names[-1], exif=exif)
    for mode in ("L", "RGBA"):
        names.append(f"{mode}.png")
        image.convert(mode).save(folder / names[-1])
    image.save(folder / "image.png")
    return names


@pytest.mark.parametrize("canvas", [None, (32, 64)])
def test_the_program_of_the_documentation_finds_what_predict_finds(
    exported: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    canvas: tuple[int, int] | None,
) -> None:
    run, file = exported
    if canvas is not None:
        file = tmp_path / "fixed.onnx"
        export_onnx(run, file, size=canvas)
    names = write_images(tmp_path)
    detect = program_of_the_documentation(tmp_path, file, monkeypatch)
    detector = load_detector(run)
    (shown,) = detector.predict(["image.png"], threshold=0.3, size=ImageOptions(64, 64, canvas=canvas))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(shown) > 0
    assert printed[0].split()[0] == detector.classes[int(shown.labels[0])]
    for name in names:
        (expected,) = detector.predict([name], threshold=0.0, size=ImageOptions(64, 64, canvas=canvas))
        boxes, scores, labels = (torch.from_numpy(np.asarray(found)) for found in detect(name))
        found = Detections(boxes, scores, labels)
        pairs = partners(expected, found)
        alone = set(range(len(expected))) - {one for one, _ in pairs}
        assert all(is_excused(expected, place, found, detector.postprocessing) for place in alone), name
        assert len(pairs) > 0.8 * len(expected) > 0, name
