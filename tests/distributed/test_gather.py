from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, DetdistillError
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.gather import score_together
from detdistill.evaluation.results import Results, to_xywh
from detdistill.evaluation.voc_metrics import voc_metrics
from support.evaluation_datasets import dataset, record
from support.processes import run_two

WORLD = 2


def example(num_images: int) -> tuple[DetectionDataset, Results]:
    """Objects of two classes, and detections near them; many scores are tied."""
    random = np.random.default_rng(0)
    images, parts = [], []
    for index in range(num_images):
        corners = random.integers(0, 200, (6, 2))
        boxes = np.concatenate((corners, corners + random.integers(8, 120, (6, 2))), axis=1).astype(float)
        labels = random.integers(0, 2, 6)
        images.append(record(index * 7, boxes.tolist(), labels.tolist()))
        moved = np.repeat(boxes, 3, axis=0) + random.uniform(-6, 6, (18, 4))
        scores = random.integers(1, 6, 18) / 5
        parts.append(Results(np.full(18, index), to_xywh(moved), scores, np.repeat(labels, 3)))
    return dataset(["cat", "dog"], images), Results.join(parts)


def share(results: Results, indices: range) -> Results:
    own = np.isin(results.image, list(indices))
    return Results(results.image[own], results.xywh[own], results.scores[own], results.labels[own])


def both_metrics(truth: DetectionDataset, results: Results) -> dict[str, Any]:
    voc = voc_metrics(truth, results, interpolation="all-point")
    return {"coco": asdict(coco_metrics(truth, results)), "voc": asdict(voc), "detections": len(results)}


def score_share(rank: int, num_images: int) -> dict[str, Any]:
    truth, results = example(num_images)
    own = share(results, range(rank, num_images, WORLD))
    return score_together(own, lambda gathered: both_metrics(truth, gathered))


def score_with_repeated_image(rank: int) -> str:
    with pytest.raises(DetdistillError) as refused:
        score_together(share(example(3)[1], range(rank, rank + 2)), len)
    return str(refused.value)


def score_badly(rank: int) -> str:
    def fail(_: Results) -> None:
        raise DataError("no metric")

    with pytest.raises(DataError) as failed:
        score_together(share(example(2)[1], range(rank, rank + 1)), fail)
    return str(failed.value)


def process(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    said = {
        "seven images": score_share(rank, 7),
        "one image": score_share(rank, 1),
        "repeated image": score_with_repeated_image(rank),
        "bad metric": score_badly(rank),
    }
    (folder / f"{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two gloo processes has to say."""
    folder = tmp_path_factory.mktemp("gloo")
    assert run_two(process, folder) == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(WORLD)]


@pytest.mark.parametrize(("case", "num_images"), [("seven images", 7), ("one image", 1)])
def test_two_processes_score_as_one(case: str, num_images: int, two_processes: list[dict[str, Any]]) -> None:
    """An odd number of images; and one image, which leaves the second process none."""
    alone = both_metrics(*example(num_images))
    assert 0 < alone["coco"]["AP"] < 1
    assert [said[case] for said in two_processes] == [alone, alone]


def test_an_image_in_two_processes_is_refused_in_both(two_processes: list[dict[str, Any]]) -> None:
    for said in two_processes:
        assert said["repeated image"].startswith("1 images were evaluated by more than one process, the first at index")


def test_an_error_of_the_metric_reaches_both(two_processes: list[dict[str, Any]]) -> None:
    assert [said["bad metric"] for said in two_processes] == ["no metric"] * 2


def test_one_process_needs_no_group() -> None:
    truth, results = example(3)
    assert score_together(results, lambda all_of_it: both_metrics(truth, all_of_it)) == both_metrics(truth, results)
