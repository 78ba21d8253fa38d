from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

import detdistill
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.image_options import ImageSize
from detdistill.detectors.running import InferenceOptions
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import store_thresholds
from detdistill.evaluation.predict_images import ClassCount, predict_images
from support.pairs import confident
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    detector = confident(tiny_detector("gfl", ("green", "red"), strides=(16, 32), extra_levels=0))
    save_detector(detector, folder, image_size=ImageSize(short_side=64, long_side=64))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_boxes(tmp_path / "data") / "val"


def content(folder: Path) -> dict[str, bytes | None]:
    """All files below a folder; links are told apart from files."""
    return {
        str(path.relative_to(folder)): None if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_counts_drawings_and_entries_are_those_of_the_detector(run: Path, images: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "found.json"
    found = predict_images(run, images, out=out, json=file, threshold=0.2, options=InferenceOptions(batch_size=3))
    files = sorted(images.iterdir())
    expected = detdistill.load(run).predict(files, threshold=0.2)
    assert (found.images, found.unreadable) == (4, {})
    for label, name in enumerate(("green", "red")):
        per_image = [one.labels.tolist().count(label) for one in expected]
        assert found.counts[name] == ClassCount(sum(per_image), sum(count > 0 for count in per_image))
    entries = json.loads(file.read_text())
    assert len(entries) == found.detections == sum(map(len, expected)) > 0
    assert [Path(entry["file_name"]) for entry in entries] == [
        path for path, one in zip(files, expected, strict=True) for _ in range(len(one))
    ]
    assert [entry["score"] for entry in entries] == pytest.approx(
        [score for one in expected for score in one.scores.tolist()], abs=1e-5
    )
    assert sorted(path.name for path in out.iterdir()) == [path.name for path in files]


def test_the_thresholds_of_the_run_count_unless_one_is_given(run: Path, images: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict"
    save_detector(detdistill.load(run), strict, image_size=ImageSize(short_side=64, long_side=64))
    store_thresholds(strict, {"green": 0.9999, "red": 0.9999})
    assert predict_images(strict, images).detections == 0
    assert predict_images(strict, images, threshold=0.0).detections > 0


def test_unreadable_images_are_returned_and_the_rest_goes_on(run: Path, images: Path, tmp_path: Path) -> None:
    broken = images / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    os.mkfifo(images / "pipe.png")
    found = predict_images(run, [images], out=tmp_path / "out", json=tmp_path / "found.json")
    assert found.images == 3
    assert list(found.unreadable) == [broken]
    assert "1.png" in found.unreadable[broken]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png", "3.png"]


def test_names_that_are_not_utf8_work_to_the_end(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    names = [os.fsdecode(b"\xff.png"), "\N{SNOWMAN}.png", os.fsdecode(b"a\xed\xa0\x80.png")]
    for name in names:
        Image.new("RGB", (64, 64), "green").save(folder / name)
    found = predict_images(run, folder, out=tmp_path / "out", json=tmp_path / "found.json", threshold=0.0)
    assert found.detections > 0
    entries = json.loads((tmp_path / "found.json").read_bytes())
    assert {entry["file_name"] for entry in entries} == {str(folder / name) for name in names}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


def linked_folder(images: Path) -> Path:
    link = images.parent / "link"
    link.symlink_to(images.name)
    return link


@pytest.mark.parametrize("inputs", ["folder", "pattern", "nested", "linked images"])
@pytest.mark.parametrize("out", ["itself", "dots", "relative", "link"])
def test_no_drawing_replaces_an_image(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch, inputs: str, out: str
) -> None:
    paths = [str(images)]
    if inputs == "pattern":
        paths = [f"{images}/*.png"]
    if inputs == "nested":
        paths = [str(images.parent)]
    if inputs == "linked images":
        (images.parent / "links").mkdir()
        for file in images.iterdir():
            (images.parent / "links" / file.name).symlink_to(file)
        paths = [str(images.parent / "links")]
    monkeypatch.chdir(images.parent)
    folder = {
        "itself": images,
        "dots": images / ".." / images.name,
        "relative": Path(images.name),
        "link": linked_folder(images),
    }[out]
    before = content(images.parent)
    with pytest.raises(DetdistillError, match="--out"):
        predict_images(run, paths, out=folder)
    assert content(images.parent) == before


@pytest.mark.parametrize("place", ["link", "hard link"])
def test_a_drawing_that_is_another_name_of_an_image_is_refused(
    run: Path, images: Path, tmp_path: Path, place: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if place == "link":
        (out / "2.png").symlink_to(images / "0.png")
    else:
        (out / "2.png").hardlink_to(images / "0.png")
    before = content(tmp_path)
    with pytest.raises(DetdistillError, match=r"--out .*2\.png: this would replace the input .*0\.png"):
        predict_images(run, images, out=out)
    assert content(tmp_path) == before


@pytest.mark.parametrize("place", ["image", "link", "hard link", "target", "model", "folder", "absent", "drawing"])
def test_no_file_of_detections_replaces_an_input(run: Path, images: Path, tmp_path: Path, place: str) -> None:
    link, hard = tmp_path / "link.json", tmp_path / "hard.json"
    link.symlink_to(images / "0.png")
    hard.hardlink_to(images / "0.png")
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "only.png").symlink_to(images / "0.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0.png").write_bytes(b"an earlier drawing")
    paths = [images] if place != "target" else [tmp_path / "shown"]
    json_file = {
        "image": images / ".." / images.name / "0.png",
        "link": link,
        "hard link": hard,
        "target": images / "0.png",
        "model": run / "model.json",
        "folder": images,
        "absent": tmp_path / "absent" / "found.json",
        "drawing": tmp_path / "out" / "0.png",
    }[place]
    before = content(tmp_path), content(run)
    with pytest.raises(DetdistillError, match="--json"):
        predict_images(run, paths, json=json_file, out=tmp_path / "out" if place == "drawing" else None)
    assert (content(tmp_path), content(run)) == before


def test_an_error_on_the_way_leaves_an_earlier_file(
    run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "found.json"
    file.write_text("earlier")

    def full(*_: object) -> None:
        raise DetdistillError("No space left on device")

    monkeypatch.setattr("detdistill.evaluation.predict_images.DrawnImages.draw", full)
    with pytest.raises(DetdistillError, match="No space left"):
        predict_images(run, images, json=file, out=tmp_path / "out", threshold=0.0)
    assert file.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["found.json"]


def test_mistakes_are_told(run: Path, images: Path) -> None:
    with pytest.raises(DetdistillError, match="between 0 and 1, not 2"):
        predict_images(run, images, threshold=2)
    with pytest.raises(DetdistillError, match="there is no such file"):
        predict_images(run, images / "absent.png")
    with pytest.raises(SettingsError, match="canvas"):
        predict_images(run, images, canvas=(60, 64))
    with pytest.raises(DetdistillError, match="device 'toaster'"):
        predict_images(run, images, device="toaster")
