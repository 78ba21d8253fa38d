from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.core.run_names import names_of


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["runs/a/0"], ["a/0"]),
        (["runs/a/0", "runs/b/0"], ["a/0", "b/0"]),
        (["runs/a/0", "runs/a/1"], ["a/0", "a/1"]),
        (["x/a/0", "y/a/0"], ["x/a/0", "y/a/0"]),
        (["/r/a", "/r/a/a/a", "/r/a/a/a/a"], ["r/a", "r/a/a/a", "a/a/a/a"]),
    ],
)
def test_students_are_told_apart_by_as_little_as_can_be(folders: list[str], names: list[str]) -> None:
    assert names_of([Path(folder) for folder in folders]) == names


@pytest.mark.parametrize("second", ["runs/a", "runs/../runs/a", "runs/./a", "link"])
def test_the_same_folder_twice_is_refused(second: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("runs/a")
    with pytest.raises(DetdistillError, match=f"runs/a and {second}: the same folder"):
        names_of([Path("runs/a"), "runs/b", second])


PARTS = st.lists(st.sampled_from(["a", "b", "0", "1"]), min_size=1, max_size=4)


@given(st.lists(PARTS.map("/".join), min_size=1, max_size=5, unique=True))
def test_names_are_ends_of_the_paths_and_tell_all_apart(folders: list[str]) -> None:
    names = names_of([f"/runs/x/{folder}" for folder in folders])
    assert len(set(names)) == len(folders)
    assert all(f"/runs/x/{folder}".endswith(f"/{name}") for folder, name in zip(folders, names, strict=True))
    assert not any(name.isdigit() for name in names)
