"""Tables of boxes: which headers are read, and what their numbers mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.errors import DataError
from detdistill.data import open_dataset
from detdistill.data.csv_table import read_columns
from support.small_datasets import SIZES, write_images

TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path


def write(folder: Path, header: str, *rows: str, encoding: str = "utf-8") -> Path:
    (folder / "train.csv").write_text("\n".join([header, *rows, ""]), encoding=encoding)
    return folder


@pytest.mark.parametrize(
    ("header", "row", "box"),
    [
        (TENSORFLOW, "one.png,60,40,dog,11,6,30,25", [10, 5, 30, 25]),
        (TENSORFLOW, "one.png,60,40,dog,0,0,30,25", [0, 0, 30, 25]),
        ("image_id,xmin,ymin,xmax,ymax,label", "one,11,6,30,25,dog", [10, 5, 30, 25]),
        ("path,x1,y1,x2,y2,label", "images/one.png,10,5,30,25,dog", [10, 5, 30, 25]),
        ("image_path,x_min,y_min,x_max,y_max,class_name", "one.png,11,6,30,25,dog", [10, 5, 30, 25]),
        ("File;Left;Top;Right;Bottom;Category", "ONE.PNG;10;5;30;25;dog", [10, 5, 30, 25]),
        ("img\tx0\ty0\tx1\ty1\tclass\tscore", "data\\images\\one.png\t10\t5\t30\t25\tdog\t1", [10, 5, 30, 25]),
    ],
)
def test_a_header_decides_what_the_columns_mean(header: str, row: str, box: list[float], folder: Path) -> None:
    dataset = open_dataset(write(folder, header, row))
    (image,) = dataset.images
    assert (image.image_id, image.file_name, image.height, image.width) == ("one", "one.png", 40, 60)
    assert image.boxes.tolist() == [box]
    assert (dataset.classes, dataset.category_ids) == (("dog",), (1,))


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("filename,class,x,y,width,height", "corners"),
        ("image_id,width,height,bbox,source", "class"),
        ("filename,xmin,ymin,xmax,ymax", "class"),
        ("class,xmin,ymin,xmax,ymax", "image"),
        ("filename,path,class,xmin,ymin,xmax,ymax", "several columns for the image"),
        ("filename,class,label,xmin,ymin,xmax,ymax", "several columns for the class"),
        ("filename,class,xmin,ymin,xmax,ymax,x1,y1,x2,y2", "several columns for the corners"),
        ("filename,class,xmin,xmin,ymin,xmax,ymax", "twice"),
        ("images/one.png,10,5,30,25,dog", "image"),
        ("", "image"),
    ],
)
def test_other_headers_are_refused_with_what_was_found_and_expected(header: str, word: str, folder: Path) -> None:
    write(folder, header)
    for given in (folder, folder / "train.csv"):
        with pytest.raises(DataError, match=r"train\.csv") as caught:
            open_dataset(given)
        assert word in str(caught.value)
        assert header in str(caught.value)
        assert "xmin, ymin, xmax, ymax" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("one.png,60,40,,1,1,9,9", "no class"),
        ("one.png,60,40,dog,1,1,9", "four finite numbers"),
        ("one.png,60,40,dog,nan,1,9,9", "four finite numbers"),
        ("one.png,60,40,dog,a,1,9,9", "four finite numbers"),
    ],
)
def test_an_unusable_row_is_left_out_and_reported(row: str, word: str, folder: Path) -> None:
    dataset = open_dataset(write(folder, TENSORFLOW, row, "one.png,60,40,dog,1,1,9,9"), accept_left_out=True)
    assert len(dataset.images[0].labels) == 1
    problem = dataset.problems[0]
    assert problem.where.endswith("train.csv:2")
    assert word in problem.what


def test_a_row_without_class_and_corners_is_an_image_without_objects(folder: Path) -> None:
    dataset = open_dataset(write(folder, TENSORFLOW, "two.png,50,50,,,,,", "", "one.png,60,40,dog,1,1,9,9"))
    assert [len(image.labels) for image in dataset.images] == [0, 1]


def test_images_without_a_row_are_counted(folder: Path) -> None:
    (problem,) = open_dataset(write(folder, TENSORFLOW, "one.png,60,40,dog,1,1,9,9")).problems
    assert "not read: 2 ('three.png', 'two.png')" in problem.what


@pytest.mark.parametrize("size", ["0,0", "x,40", ","])
def test_an_impossible_size_is_the_images_own(size: str, folder: Path) -> None:
    dataset = open_dataset(write(folder, TENSORFLOW, f"one.png,{size},dog,1,1,9,9"))
    assert (dataset.images[0].height, dataset.images[0].width) == SIZES["one"]


def test_sizes_that_differ_are_the_images_own_and_reported(folder: Path) -> None:
    rows = ("one.png,60,40,dog,1,1,9,9", "one.png,61,40,dog,1,1,9,9")
    dataset = open_dataset(write(folder, TENSORFLOW, *rows))
    assert (dataset.images[0].height, dataset.images[0].width) == SIZES["one"]
    assert any("no size" in problem.what for problem in dataset.problems)


@pytest.mark.parametrize("name", ["nine.png", "../secret.png", "/etc/passwd", ""])
def test_an_image_that_is_not_there_or_outside_is_fatal(name: str, folder: Path) -> None:
    write(folder, TENSORFLOW, "one.png,60,40,dog,1,1,9,9", f"{name},60,40,dog,1,1,9,9", f"{name},60,40,cat,1,1,9,9")
    with pytest.raises(DataError, match=r"train\.csv:3") as caught:
        open_dataset(folder)
    assert sum(problem.fatal for problem in caught.value.problems) == 1


def test_missing_images_do_not_matter_where_they_are_not_needed(folder: Path) -> None:
    write(folder, TENSORFLOW, "nine.png,60,40,dog,1,1,9,9")
    assert len(open_dataset(folder, check_images=False).images) == 1


def test_two_names_that_mean_one_file_are_fatal(folder: Path) -> None:
    write(folder, TENSORFLOW, "/a/one.png,60,40,dog,1,1,9,9", "/b/one.png,60,40,dog,1,1,9,9")
    with pytest.raises(DataError, match=r"both taken for 'one\.png'"):
        open_dataset(folder)


def test_names_in_another_encoding_decide_it(folder: Path) -> None:
    (folder / "images" / "one.png").rename(folder / "images" / "图像一.png")
    write(folder, TENSORFLOW, "图像一.png,60,40,狗,1,1,9,9", encoding="gbk")
    assert open_dataset(folder).classes == ("狗",)
    write(folder, TENSORFLOW, "two.png,60,40,狗,1,1,9,9", encoding="gbk")
    with pytest.raises(DataError, match=r"train\.csv.*UTF-8"):
        open_dataset(folder)


def test_images_of_one_stem_are_told_apart_by_their_names(folder: Path) -> None:
    write_images(folder / "images", ".bmp")
    rows = ("one.png,60,40,dog,1,1,9,9", "one.bmp,60,40,dog,1,1,9,9")
    assert [image.image_id for image in open_dataset(write(folder, TENSORFLOW, *rows)).images] == ["one.png", "one.bmp"]
    with pytest.raises(DataError, match=r"could mean one\.bmp or one\.png"):
        open_dataset(write(folder, TENSORFLOW, "one,60,40,dog,1,1,9,9"))


def test_a_table_that_is_not_csv_is_an_error(folder: Path) -> None:
    (folder / "train.csv").write_text(f'{TENSORFLOW}\n"{"x" * 200_000}",60,40,dog,1,1,9,9\n')
    with pytest.raises(DataError, match=r"train\.csv: line 2 is not CSV"):
        open_dataset(folder / "train.csv")


def test_columns_are_found_in_any_case_and_order(folder: Path) -> None:
    columns = read_columns(write(folder, " YMax ,Class,XMin,YMin,XMax,FileName") / "train.csv")
    assert (columns.image, columns.corners, columns.size) == ("FileName", ("XMin", "YMin", "XMax", "YMax"), None)
    assert columns.counts_from_1
