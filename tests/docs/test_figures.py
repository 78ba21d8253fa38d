from __future__ import annotations

import json
from pathlib import Path

import torch
from defusedxml.ElementTree import parse
from docs.generate.figures import STUDENTS, median_object, rank_losses, same_first, write
from PIL import Image

from detdistill.analysis.pairing import Candidates
from detdistill.core.image_options import ImageSize
from detdistill.detectors.saving import save_detector
from support.small_runs import write_boxes
from support.tiny_detector import tiny_detector


def test_figures_and_record_are_made_of_runs(tmp_path: Path) -> None:
    for seed, name in enumerate(("teacher", *STUDENTS)):
        detector = tiny_detector("retinanet", ("green", "red"), seed=seed)
        save_detector(detector, tmp_path / name, image_size=ImageSize(64, 64))
    data = write_boxes(tmp_path / "data", test=4)
    write(tmp_path, data, tmp_path / "figures", tmp_path / "record.json")
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["pictures"] == 4
    assert record["objects"] > 0
    assert set(record["rank_mimicking"]) == set(STUDENTS)
    texts = [element.text or "" for element in parse(tmp_path / "figures" / "rank_mimicking.svg").iter()]
    assert [sum(text == title for text in texts) for title in ("teacher", *STUDENTS.values())] == [1, 1, 1]
    with Image.open(tmp_path / "figures" / "prediction_guided.png") as picture:
        assert len(picture.getcolors(picture.width * picture.height) or []) > 50


def lists(own: list[float], other: list[float], objects: list[int]) -> Candidates:
    nothing = torch.zeros(len(own))
    boxes, places = torch.zeros(len(own), 4), (nothing.long(), torch.arange(len(own)))
    scores = torch.tensor(own), torch.tensor(other)
    return Candidates(torch.tensor(objects), places, *scores, boxes, boxes, nothing, nothing)


def test_what_is_said_of_objects() -> None:
    found = lists([2.0, 0.0, 1.0, 1.0, 3.0], [2.0, 0.0, 0.0, 1.0, 5.0], [0, 0, 2, 2, 5])
    losses = rank_losses(found)
    assert list(losses) == [0, 2, 5]
    assert losses[0] == losses[5] == 0
    assert losses[2] > 0
    assert same_first(found) == 2 / 3
    gains = {"baseline": {0: 0.3, 2: 0.9, 5: 0.1}, "student": {0: 0.1, 2: 0.1, 5: 0.1}}
    assert median_object(found, gains) == 0
