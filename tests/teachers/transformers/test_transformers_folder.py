from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from detdistill.core import allocation
from detdistill.core.errors import DetdistillError
from detdistill.teachers.loading import load_teacher, origin_of
from detdistill.teachers.transformers import transformers_folder
from detdistill.teachers.transformers.transformers_folder import local_folder, read_folder
from support.evaluation_datasets import no_objects

DATASET: Any = no_objects(1, 3)
NAMES = {"0": "cat", "1": "dog"}


def folder(path: Path, **config: Any) -> Path:
    """A folder whose configurations are right, but for what is given; its weights are empty."""
    path.mkdir(exist_ok=True)
    content = {"model_type": "rt_detr", "id2label": NAMES} | config
    (path / "config.json").write_text(json.dumps(content))
    (path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "RTDetrImageProcessor"}))
    (path / "model.safetensors").write_bytes(b"1234")
    return path


def test_a_right_folder(tmp_path: Path) -> None:
    found = read_folder(folder(tmp_path, id2label={"1": "cat", "0": "N/A", "2": "dog", "3": " n/a "}))
    assert found.family.name == "rt_detr"
    assert (found.classes, found.columns, found.slots) == (("cat", "dog"), (1, 2), 4)
    assert found.weights == (tmp_path / "model.safetensors",)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model_type": "bert"}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"model_type": ["rt_detr"]}, "model_type"),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "id2label"),
        ({"id2label": {"0": "cat", "1": "LABEL_1"}}, "id2label"),
        ({"id2label": {"0": "cat", "1": " "}}, "id2label"),
        ({"id2label": {"0": "cat", "2": "dog"}}, "id2label"),
        ({"id2label": {"1": "cat", "2": "dog"}}, "id2label"),
        ({"id2label": {"0": "cat", "1": "cat"}}, "id2label"),
        ({"id2label": {"0": "N/A", "1": "N/A"}}, "id2label"),
        ({"id2label": {"0": "cat", "1": 7}}, "id2label"),
        ({"id2label": {}}, "id2label"),
        ({"id2label": None}, "id2label"),
        ({"id2label": ["cat", "dog"]}, "id2label"),
    ],
)
def test_a_wrong_configuration_names_file_and_field(changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    with pytest.raises(DetdistillError) as refused:
        read_folder(folder(tmp_path, **changes))
    assert str(refused.value).startswith(f"{tmp_path / 'config.json'}: {field}")


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    (folder(tmp_path) / name).unlink()
    with pytest.raises(DetdistillError, match=name.replace(".", r"\.")):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["preprocessor_config.json", "config.json"])
@pytest.mark.parametrize("text", ["{", "[]", '"rt_detr"', "\xff"])
def test_a_damaged_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (folder(tmp_path) / name).write_text(text, encoding="latin-1")
    with pytest.raises(DetdistillError, match=name.replace(".", r"\.")):
        read_folder(tmp_path)


def test_weights_in_several_files(tmp_path: Path) -> None:
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = folder(tmp_path) / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": names[1], "b": names[0], "c": names[1]}}))
    (tmp_path / names[0]).write_bytes(b"1")
    with pytest.raises(DetdistillError, match=names[1]):
        read_folder(tmp_path)
    (tmp_path / names[1]).write_bytes(b"2")
    assert [file.name for file in read_folder(tmp_path).weights] == names
    index.write_text("{}")
    with pytest.raises(DetdistillError, match="weights"):
        read_folder(tmp_path)


def test_weights_larger_than_memory_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder(tmp_path)
    for free, is_enough in ((3, False), (4, True), (None, True)):
        monkeypatch.setattr(transformers_folder, "available_memory", lambda free=free: free)
        if is_enough:
            read_folder(tmp_path)
        else:
            with pytest.raises(DetdistillError, match=r"model\.safetensors.*memory"):
                read_folder(tmp_path)


def test_available_memory_is_what_the_system_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "meminfo"
    monkeypatch.setattr(allocation, "MEMINFO", file)
    assert allocation.available_memory() is None
    file.write_text("MemTotal:  8 kB\nMemAvailable:       3 kB\n")
    assert allocation.available_memory() == 3072
    file.write_text("MemAvailable: much\n")
    assert allocation.available_memory() is None


def test_the_hash_is_of_everything_that_decides_predictions(tmp_path: Path) -> None:
    before = read_folder(folder(tmp_path)).sha256()
    assert read_folder(tmp_path).sha256() == before
    assert origin_of(str(tmp_path)) == {"source": str(tmp_path), "sha256": before}
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        file = tmp_path / name
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        assert read_folder(tmp_path).sha256() != before
        file.write_bytes(content)


def test_a_model_of_a_hub_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options["allow_patterns"]))
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert local_folder("hf://some-body/rt.detr_r18") == tmp_path
    assert asked == [("some-body/rt.detr_r18", ["*.json", "*.safetensors"])]

    def refuse(_name: str, **_: Any) -> str:
        raise hub.errors.LocalEntryNotFoundError("no network")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(DetdistillError, match=r"hf://a/b.*no network"):
        load_teacher("hf://a/b", DATASET)


@pytest.mark.parametrize("source", ["hf://", "hf://a", "hf://a/b/c", "hf://a/../b", "hf:///b"])
def test_a_wrong_name_on_a_hub_is_refused(source: str) -> None:
    with pytest.raises(DetdistillError, match="hf://owner/name"):
        load_teacher(source, DATASET)


def test_without_transformers_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DetdistillError, match=r"pip install 'detdistill\[transformers\]'"):
        load_teacher(str(folder(tmp_path)), DATASET)


def test_a_folder_of_no_known_kind_names_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"model\.json(?s:.)*config\.json"):
        load_teacher(str(tmp_path), DATASET)


def test_load_teacher_takes_a_folder(saved: Callable[[str], Path]) -> None:
    source = str(saved("yolos"))
    teacher = load_teacher(source, DATASET)
    assert teacher.kind == "yolos"
    assert teacher.origin == origin_of(source)
    assert teacher.origin["source"] == source


def test_weights_in_half_precision_are_run_in_full(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved("yolos")
    (tmp_path / "preprocessor_config.json").write_bytes((source / "preprocessor_config.json").read_bytes())
    content = (source / "config.json").read_text()
    assert '"dtype": "float32"' in content
    (tmp_path / "config.json").write_text(content.replace('"dtype": "float32"', '"dtype": "float16"'))
    tensors = {name: value.half() for name, value in load_file(source / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    teacher: Any = load_teacher(str(tmp_path), DATASET)
    assert {parameter.dtype for parameter in teacher._model.parameters()} == {torch.float32}


def test_damaged_weights_are_an_error(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved("yolos")
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    weights = tmp_path / "model.safetensors"
    whole = (source / "model.safetensors").read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DetdistillError, match="cannot load the model"):
        load_teacher(str(tmp_path), DATASET)
    tensors = load_file(source / "model.safetensors")
    lost = next(name for name in tensors if "class_labels" in name)
    save_file({name: value for name, value in tensors.items() if name != lost}, weights, {"format": "pt"})
    with pytest.raises(DetdistillError) as refused:
        load_teacher(str(tmp_path), DATASET)
    assert lost in str(refused.value)
    weights.write_bytes(whole)
    (tmp_path / "config.json").write_text(
        (source / "config.json").read_text().replace('"2": "other"', '"2": "a", "3": "b"')
    )
    with pytest.raises(DetdistillError, match=r"config\.json|cannot load"):
        load_teacher(str(tmp_path), DATASET)


def test_an_unknown_image_processor_names_the_file(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved("yolos")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuchProcessor", "size": "x"}')
    with pytest.raises(DetdistillError, match=r"preprocessor_config\.json"):
        load_teacher(str(tmp_path), DATASET)
