"""`detdistill data convert` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.cli import main
from detdistill.data import find_splits, open_dataset
from support.small_datasets import WRITERS, write_coco, write_voc

FORMATS = ("coco", "voc", "yolo")


def counts(folder: Path) -> dict[str, tuple[int, int]]:
    """Images and objects of each split."""
    parts = {split.name: open_dataset(folder, split.name) for split in find_splits(folder)}
    return {name: (len(part.images), sum(len(r.labels) for r in part.images)) for name, part in parts.items()}


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("to", FORMATS)
def test_every_format_becomes_every_other(
    source: str, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = WRITERS[source](tmp_path / "set", ".png")
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "convert", str(folder), "--to", to, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'out'}: train: 3 images, 4 objects" in out
    assert counts(tmp_path / "out") == {"train": (3, 4)}
    assert open_dataset(tmp_path / "out").classes == ("cat", "dog")
    assert [path for path in sorted(tmp_path.rglob("*")) if not path.is_relative_to(tmp_path / "out")] == before


def test_losses_are_reported_with_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path / "set")
    assert main(["data", "convert", str(tmp_path / "set"), "--to", "yolo", "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("warning: 1 object: the flag 'difficult'") for line in lines) == 1


def test_one_split_or_all(tmp_path: Path) -> None:
    write_voc(tmp_path / "set")
    (tmp_path / "set/ImageSets/Main/val.txt").write_text("one\n")
    arguments = ["data", "convert", str(tmp_path / "set"), "--to", "coco"]
    assert main([*arguments, "--out", str(tmp_path / "all")]) == 0
    assert main([*arguments, "--split", "valid", "--out", str(tmp_path / "one")]) == 0
    assert counts(tmp_path / "all") == {"train": (3, 4), "val": (1, 2)}
    assert counts(tmp_path / "one") == {"val": (1, 2)}


def test_a_split_into_three_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_coco(tmp_path / "set")
    arguments = ["data", "convert", str(folder), "--val", "0.34", "--test", "0.33", "--seed", "4", "--link"]
    for to in ("voc", "yolo"):
        assert main([*arguments, "--to", to, "--out", str(tmp_path / to)]) == 0
        assert f"{tmp_path / to}: test: 1 image (33.3 %)" in capsys.readouterr().out
    stems = {
        to: {
            split.name: open_dataset(tmp_path / to, split.name).images[0].path.stem
            for split in find_splits(tmp_path / to)
        }
        for to in ("voc", "yolo")
    }
    assert stems["voc"] == stems["yolo"]
    assert set(stems["voc"]) == {"train", "val", "test"}
    assert set(stems["voc"].values()) == {"one", "two", "three"}


def test_explicit_paths(tmp_path: Path) -> None:
    write_coco(tmp_path / "set")
    (tmp_path / "set/train.json").rename(tmp_path / "odd.json")
    (tmp_path / "set/images").rename(tmp_path / "pictures")
    paths = ["--annotations", str(tmp_path / "odd.json"), "--images", str(tmp_path / "pictures")]
    assert main(["data", "convert", str(tmp_path), *paths, "--to", "voc", "--out", str(tmp_path / "out")]) == 0
    assert counts(tmp_path / "out") == {"odd": (3, 4)}


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["--to", "coco", "--out", "set"], 1),
        (["--to", "coco", "--out", "empty"], 1),
        (["--to", "coco", "--out", "set/images/out"], 1),
        (["--to", "coco", "--out", "out", "--val", "0.7", "--test", "0.3"], 1),
        (["--to", "coco", "--out", "out", "--val", "-0.1"], 1),
        (["--to", "coco", "--out", "out", "--split", "test"], 1),
        (["--to", "coco", "--out", "set/train.json/out"], 1),
        (["--to", "tfrecord", "--out", "out"], 2),
        (["--to", "coco"], 2),
        (["--out", "out"], 2),
    ],
)
def test_wrong_input_changes_nothing(
    options: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "set")
    (tmp_path / "empty").mkdir()
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    try:
        code = main(["data", "convert", "set", *options])
    except SystemExit as error:
        code = int(error.code or 0)
    assert code == status
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_convert_in_the_dataset_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["data", "convert", ".", "--to", "yolo", "--out", "yolo"]) == 0
    assert counts(Path("yolo")) == {"train": (3, 4)}
    assert Path("yolo/images/train/one.png").read_bytes() == Path("images/one.png").read_bytes()
