from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import Detections
from detdistill.report.drawn_images import DrawnImages, drawing_names


def drawn(out: Path, names: list[str], image_format: Literal["jpg", "png"] | None = None) -> dict[str, str | None]:
    """Names and formats of the drawings of such images."""
    files = [Path(name) for name in names]
    drawings = DrawnImages(out, files, (), image_format)
    for file in files:
        drawings.draw(file, np.zeros((64, 64, 3), np.uint8), Detections())
    formats = {}
    for path in out.iterdir():
        with Image.open(path) as image:
            formats[path.name] = image.format
    return formats


def test_photographs_are_drawn_as_jpeg_unless_asked_otherwise(tmp_path: Path) -> None:
    names = ["a.jpg", "b.webp", "c.bmp", "d.png", "e.gif", "d.jpg"]
    assert drawn(tmp_path / "each", names) == {
        **dict.fromkeys(["a.jpg", "b.jpg", "c.jpg", "d.jpg"], "JPEG"),
        **dict.fromkeys(["d.png", "e.png"], "PNG"),
    }
    assert drawn(tmp_path / "png", names, "png") == dict.fromkeys(
        ["a.png", "b.png", "c.png", "d.png", "d_2.png", "e.png"], "PNG"
    )


def test_names_that_differ_in_case_only_do_not_overwrite_one_another(tmp_path: Path) -> None:
    assert set(drawn(tmp_path / "out", ["a/x.png", "b/X.png"])) == {"x.png", "X_2.png"}


NAMES = st.lists(st.sampled_from(["a", "A", "a_2", "a_3", "b"]), min_size=1, max_size=12)


@given(NAMES)
def test_names_of_drawings_differ_in_more_than_case(stems: list[str]) -> None:
    names = drawing_names([Path(str(number), f"{stem}.bmp") for number, stem in enumerate(stems)])
    assert len({name.lower() for name in names}) == len(stems)
    assert all(name.startswith(stem) for name, stem in zip(names, stems, strict=True))
    assert names[0] == f"{stems[0]}.jpg"


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("kept")
    with pytest.raises(DetdistillError, match=r"--out .*out: this is not a folder"):
        DrawnImages(tmp_path / "out", [], ())
    assert (tmp_path / "out").read_text() == "kept"
