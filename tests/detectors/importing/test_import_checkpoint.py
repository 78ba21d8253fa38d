from __future__ import annotations

from pathlib import Path

import pytest
import torch

import detdistill
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.detectors.importing.import_checkpoint import import_checkpoint
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from detdistill.detectors.storage import read_description
from support.mmdet_files import checkpoint, saved, small


def test_a_checkpoint_of_mmdetection(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint(small("atss")))
    imported = import_checkpoint(path, tmp_path / "run", settings=MmdetSettings(iou_threshold=0.55))
    assert imported.name == "atss"
    assert {finding.what for finding in imported.findings} > {"backbone", "classes", "iou_threshold"}
    assert imported.provenance["imported_from"] == "checkpoint.pth"
    loaded = detdistill.load(tmp_path / "run")
    assert loaded.postprocessing.iou_threshold == 0.55
    assert loaded.classes == imported.detector.classes


@pytest.fixture(scope="module")
def torchvision_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's FCOS of a background column and two classes, with frozen batch norms."""
    path = tmp_path_factory.mktemp("torchvision") / "fcos.pth"
    detector = TorchvisionDetector.from_architecture(
        TorchvisionArchitecture("fcos_resnet50_fpn", 1e-5), ("background", "cat", "dog")
    )
    torch.save(detector.network.state_dict(), path)
    return path


def test_a_checkpoint_of_torchvision(torchvision_file: Path, tmp_path: Path) -> None:
    imported = import_checkpoint(torchvision_file, tmp_path / "run", classes=["cat", "dog"])
    assert imported.name == "fcos_resnet50_fpn"
    assert [(one.what, one.value) for one in imported.findings][1] == ("classes", "cat, dog")
    assert imported.image_size == ImageSize(800, 1333)
    assert read_description(tmp_path / "run").provenance["imported_from"] == "fcos.pth"


def test_options_of_the_other_library_and_a_folder_in_the_way_are_refused(
    torchvision_file: Path, tmp_path: Path
) -> None:
    mmdet = saved(tmp_path, checkpoint(small("atss")))
    with pytest.raises(DetdistillError, match="is of torchvision, which fixes all settings"):
        import_checkpoint(torchvision_file, tmp_path / "run", settings=MmdetSettings(head="fcos"))
    with pytest.raises(DetdistillError, match="leave --frozen-norm-eps out"):
        import_checkpoint(mmdet, tmp_path / "run", frozen_norm_eps=0.0)
    assert not (tmp_path / "run").exists()
    before = mmdet.read_bytes()
    with pytest.raises(DetdistillError, match="exists already"):
        import_checkpoint(mmdet, mmdet)
    assert mmdet.read_bytes() == before
