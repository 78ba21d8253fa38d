from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.normalization import Normalization
from detdistill.detectors.dense.architecture import FeaturePyramid, Towers
from detdistill.detectors.dense.choices import MmdetHeadName
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.detectors.importing.mmdet import import_mmdet
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from detdistill.detectors.postprocess import PostProcessing
from support.mmdet_files import CLASSES, IMAGENET_INPUT, checkpoint, config_text, mmdet_state, saved, small

Golden = Callable[[str], dict[str, NDArray[Any]]]


def assert_close(name: str, found: torch.Tensor, expected: NDArray[Any]) -> None:
    assert found.shape == expected.shape, name
    assert np.abs(found.numpy() - expected).max() <= 1e-4 * np.abs(expected).max(), name


@pytest.mark.golden
def test_golden_outputs(golden: Golden, golden_folder: Path) -> None:
    checkpoints = sorted((golden_folder / "mmdet_checkpoints").glob("*.pth"))
    assert checkpoints
    for path in checkpoints:
        # In float64: in float32 the rounding of some processors' convolutions comes close to the tolerance.
        detector = import_mmdet(path, settings=IMAGENET_INPUT).detector.double()
        data = golden(f"mmdet_checkpoints/{re.sub('_(training|v2)$', '', path.stem)}")
        with torch.no_grad():
            output = detector(torch.from_numpy(data["image"]).double())
        regression = output.predictions.regression
        if detector.architecture.kind == "fcos" and detector.architecture.options["normalize_boxes"]:
            regression = regression * output.predictions.grid.prior_strides[:, None]
        branches = [output.predictions.class_logits, regression]
        if output.predictions.quality_logits is not None:
            branches.append(output.predictions.quality_logits[..., None])
        for level, features in enumerate(output.features.maps):
            assert_close(f"{path.name} feature_l{level}", features, data[f"feature_l{level}"])
        for branch, flat in enumerate(branches):
            for level, maps in enumerate(output.predictions.grid.unflatten(flat)):
                assert_close(f"{path.name} out{branch}_l{level}", maps, data[f"out{branch}_l{level}"])
        held = {name for name in data if re.match(r"(feature|out\d)_l", name)}
        assert len(held) == len(output.features.maps) * (1 + len(branches)), path.name


def assert_same_weights(path: Path, detector: torch.nn.Module, expected: torch.nn.Module) -> None:
    for (name, tensor), (other, wanted) in zip(
        detector.state_dict().items(), expected.state_dict().items(), strict=True
    ):
        assert name == other
        assert name.endswith("num_batches_tracked") or torch.equal(tensor, wanted), f"{path}: {name}"


@pytest.mark.parametrize("head", get_args(MmdetHeadName))
def test_layers_are_read_off_the_weights_and_the_rest_from_the_config(head: MmdetHeadName, tmp_path: Path) -> None:
    expected = small(head)
    path = saved(tmp_path, checkpoint(expected))
    imported = import_mmdet(path)
    detector = imported.detector
    assert isinstance(detector, DenseDetector)
    pyramid = detector.architecture.pyramid
    assert isinstance(pyramid, FeaturePyramid)
    assert not detector.training
    assert_same_weights(path, detector, expected)
    assert detector.classes == CLASSES
    assert pyramid.extra_relu
    assert detector.input.normalization == Normalization((123.675, 116.28, 103.53), (3.0, 2.0, 1.0), bgr=True)
    assert detector.postprocessing == PostProcessing(0.1, 0.7, 500, 50)
    assert imported.image_size == ImageSize(800, 1333)
    assert imported.provenance["mmdet_version"] == "3.3.0"
    sources = {finding.what: finding.source for finding in imported.findings}
    assert sources["backbone"] == "weights"
    assert sources["score_threshold"] == "config"
    if head == "fcos":
        assert dict(detector.architecture.options) == {
            "normalize_boxes": True,
            "centerness_on_box_tower": False,
            "center_sampling": True,
            "giou": True,
        }
        assert sources["centerness_on_box_tower"] == "mmdetection's default"


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "resnet50", "backbone_style": "caffe"},
        {"backbone": "resnet50", "backbone_deformable": (2, 3, 4)},
        {"backbone": "resnet34", "strides": (4, 8, 16, 32), "extra_levels": 1},
        {"channels": 8, "extra_source": "input", "extra_levels": 3},
        {"towers": Towers(depth=3, channels=24, groups=2, bias=True)},
        {"towers": Towers(depth=3, groups=2, deformable=True)},
        {"towers": Towers(depth=1, norm="batch")},
        {"towers": Towers(depth=0)},
        {"options": {"reg_max": 7}},
    ],
    ids=str,
)
def test_other_layers(changes: dict[str, Any], tmp_path: Path) -> None:
    expected = small("gfl", **changes)
    text = config_text("gfl", style=changes.get("backbone_style", "pytorch"))
    strides = str(list(expected.pyramid.strides))
    path = saved(tmp_path, checkpoint(expected, text.replace("[8, 16, 32, 64, 128]", strides)))
    detector = import_mmdet(path).detector
    assert_same_weights(path, detector, expected)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(detector(images).predictions.regression, expected(images).predictions.regression)


def test_names_of_the_layers_that_no_golden_file_has() -> None:
    towers = Towers(depth=2, norm="batch", deformable=True)
    names = mmdet_state(small("gflv2", backbone="resnet50", backbone_deformable=(4,), towers=towers))
    for name in (
        "bbox_head.reg_conf.0.weight",
        "bbox_head.reg_conf.2.bias",
        "bbox_head.cls_convs.0.bn.running_mean",
        "bbox_head.cls_convs.0.conv.weight",
        "bbox_head.reg_convs.1.conv.weight",
        "bbox_head.reg_convs.1.conv.conv_offset.weight",
        "backbone.layer4.2.conv2.weight",
        "backbone.layer4.2.conv2.conv_offset.bias",
        "bbox_head.reg_convs.1.conv.conv_offset.bias",
    ):
        assert name in names


def test_a_bare_state_dict_needs_everything_said(tmp_path: Path) -> None:
    expected = small("fcos", options={"normalize_boxes": True}, backbone="resnet50", backbone_style="caffe")
    path = saved(tmp_path, mmdet_state(expected))
    with pytest.raises(DetdistillError) as refused:
        import_mmdet(path)
    listed = re.findall(r"^  (\w+):", str(refused.value), re.MULTILINE)
    assert listed == [
        *("head", "mean", "std", "bgr", "backbone_style", "extra_source", "extra_relu", "groups"),
        *("normalize_boxes", "centerness_on_box_tower", "center_sampling", "giou"),
        *("score_threshold", "iou_threshold", "candidates_per_level", "max_detections"),
    ]
    assert "it may be fcos, but others have the same layers" in str(refused.value)
    settings = MmdetSettings(
        head="fcos",
        mean=(1, 2, 3),
        std=(1, 1, 1),
        bgr=False,
        backbone_style="caffe",
        extra_source="output",
        extra_relu=True,
        groups=2,
        normalize_boxes=True,
        centerness_on_box_tower=False,
        center_sampling=False,
        giou=False,
        score_threshold=0.2,
        iou_threshold=0.3,
        candidates_per_level=4,
        max_detections=5,
    )
    with pytest.raises(DetdistillError, match="does not name its 2 classes"):
        import_mmdet(path, settings=settings)
    imported = import_mmdet(path, settings=settings, number_classes=True)
    assert imported.detector.classes == ("class_0", "class_1")
    assert_same_weights(path, imported.detector, expected)
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            imported.detector(images).predictions.regression, expected(images).predictions.regression
        )
    with pytest.raises(DetdistillError, match=r"2 classes.* 3 names \(a, b, c\)"):
        import_mmdet(path, settings=settings, classes=["a", "b", "c"])


def test_what_is_given_wins_over_the_config(tmp_path: Path) -> None:
    path = saved(tmp_path, checkpoint(small("atss")))
    imported = import_mmdet(path, settings=MmdetSettings(iou_threshold=0.4), classes=["x", "y"])
    assert imported.detector.postprocessing.iou_threshold == 0.4
    assert imported.detector.classes == ("x", "y")
    finding = next(finding for finding in imported.findings if finding.what == "iou_threshold")
    assert (finding.value, finding.source) == ("0.4 (the config says 0.7)", "given")


def test_class_agnostic_nms_is_read(tmp_path: Path) -> None:
    content = checkpoint(small("atss"))
    content["meta"]["cfg"] = content["meta"]["cfg"].replace(
        "iou_threshold=0.7", "iou_threshold=0.7, class_agnostic=True"
    )
    assert import_mmdet(saved(tmp_path, content)).detector.postprocessing.class_agnostic
    assert not import_mmdet(saved(tmp_path, checkpoint(small("atss")))).detector.postprocessing.class_agnostic


def test_wrappers_averages_and_old_names_are_understood(tmp_path: Path) -> None:
    expected = small("fcos", options={"normalize_boxes": True})
    state = mmdet_state(expected)
    old = {re.sub(r"\.conv_(cls|reg|centerness)\.", r".fcos_\1.", name): tensor for name, tensor in state.items()}
    raw = {f"ema_{name.replace('.', '_')}": torch.zeros(1) for name in state}
    classifier = {"backbone.fc.weight": torch.zeros(2, 2)}
    whole = checkpoint(expected)
    for number, variant in enumerate(
        (
            {f"module.{name}": tensor for name, tensor in state.items()},
            {f"ema_{name}": tensor for name, tensor in state.items()},
            state | raw | classifier,
            old,
            {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name},
            {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
        )
    ):
        path = saved(tmp_path, whole | {"state_dict": variant}, f"{number}.pth")
        detector = import_mmdet(path).detector
        for (name, tensor), wanted in zip(detector.state_dict().items(), expected.state_dict().values(), strict=True):
            torch.testing.assert_close(tensor, wanted, rtol=1e-3, atol=1e-3, msg=f"{number} {name}", check_dtype=True)


def test_class_names_that_do_not_fit_name_both_options(tmp_path: Path) -> None:
    content = checkpoint(small("atss"))
    content["meta"]["dataset_meta"] = {"classes": tuple(f"c{index}" for index in range(80))}
    path = saved(tmp_path, content)
    for classes in (None, ["a"], ["a", "a"]):
        with pytest.raises(DetdistillError) as refused:
            import_mmdet(path, classes=classes)
        assert "--classes" in str(refused.value)
        assert "--number-classes" in str(refused.value)
        assert "c79" not in str(refused.value)
    assert import_mmdet(path, number_classes=True).detector.classes == ("class_0", "class_1")
    assert import_mmdet(path, number_classes=True, classes=["a", "b"]).detector.classes == ("a", "b")


def test_a_file_of_torchvision_is_not_denied(tmp_path: Path) -> None:
    key = "head.classification_head.cls_logits.weight"
    with pytest.raises(DetdistillError, match="import_torchvision"):
        import_mmdet(saved(tmp_path, {f"module.{key}": torch.zeros(1)}))


def test_misfits_are_all_listed(tmp_path: Path) -> None:
    content = checkpoint(small("gfl"))
    state = content["state_dict"]
    del state["neck.fpn_convs.1.conv.bias"]
    state["bbox_head.gfl_reg.weight"] = torch.zeros(68, 5, 3, 3)
    state["backbone.bn1.weight"] = torch.ones(8, dtype=torch.int64)
    state["bbox_head.extra.weight"] = torch.zeros(1)
    with pytest.raises(DetdistillError) as refused:
        import_mmdet(saved(tmp_path, content))
    assert str(refused.value).splitlines()[1:] == [
        "  backbone.bn1.weight is of the type torch.int64; expected floating-point numbers",
        "  neck.fpn_convs.1.conv.bias is missing",
        "  bbox_head.gfl_reg.weight has the shape (68, 5, 3, 3); expected (68, 16, 3, 3)",
        "  bbox_head.extra.weight is not part of such a detector",
    ]


def test_absurd_shapes_allocate_nothing(tmp_path: Path) -> None:
    content = checkpoint(small("gfl"))
    state = content["state_dict"]
    wide = 200_000
    for stage in range(1, 5):
        state[f"backbone.layer{stage}.0.conv1.weight"] = torch.zeros(wide, 1, 1, 1)
    with pytest.raises(
        DetdistillError, match=r"backbone_channels\[0\] must be less than or equal to 16384, not 200000"
    ):
        import_mmdet(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type='GFLHead'", "type='PAAHead'", "the detector Any with the head PAAHead"),
        ("type='ResNet'", "type='SwinTransformer'", "the backbone SwinTransformer; ResNet and ResNeXt are supported"),
        ("style=", "dcn=dict(type='DCN', deform_groups=1), style=", "model.backbone.dcn.type='DCN'; only 'DCNv2' is"),
        ("neck=dict(", "neck=dict(norm_cfg=dict(type='BN'), ", r"model.neck.norm_cfg=a dict; only None"),
        ("'on_output'", "'on_lateral'", "add_extra_convs='on_lateral'"),
        ("type='FPN'", "type='NASFPN'", "the neck NASFPN; FPN is supported"),
        ("strides=[8, 16, 32, 64, 128]", "strides=[4, 8, 16, 32, 64]", r"strides \[4, 8, 16, 32, 64\], but the weig"),
        ("octave_base_scale=8", "octave_base_scale=-8", "do not make the weights' 1 per cell"),
        ("score_thr=0.1", "score_thr=7.0", "score_threshold is 7.0, not 0 to 1"),
        ("nms_pre=500", "nms_pre='all'", "candidates_per_level must be an integer or null, not 'all'"),
        ("num_groups=2", "num_groups=3", "16 tower channels do not divide into 3 groups"),
        ("type='nms'", "type='soft_nms'", "iou_threshold: Overlap that NMS suppresses"),
    ],
)
def test_configs_that_ask_for_what_we_do_not_have(old: str, new: str, message: str, tmp_path: Path) -> None:
    text = config_text("gfl")
    assert old in text
    with pytest.raises(DetdistillError, match=message):
        import_mmdet(saved(tmp_path, checkpoint(small("gfl"), text.replace(old, new))))


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("roi_head.bbox_head.fc_cls.weight", "two-stage detector"),
        ("bbox_head.multi_level_conv_cls.0.weight", "YOLOX"),
        ("backbone.stem.0.weight", "deep stem"),
    ],
)
def test_other_networks_are_named(key: str, what: str, tmp_path: Path) -> None:
    state = mmdet_state(small("gfl")) | {key: torch.zeros(1, 1, 1, 1)}
    with pytest.raises(DetdistillError, match=what):
        import_mmdet(saved(tmp_path, {"state_dict": state}))


def test_foreign_weights_are_described(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"none of RetinaNet.*names start with features\.0, fc\.weight"):
        import_mmdet(saved(tmp_path, {"features.0.weight": torch.zeros(1), "fc.weight": torch.zeros(1)}))


def test_version_1_is_refused(tmp_path: Path) -> None:
    content = checkpoint(small("gfl"))
    content["meta"]["mmdet_version"] = "1.2.0+abc"
    with pytest.raises(DetdistillError, match="upgrade_model_version"):
        import_mmdet(saved(tmp_path, content))


def test_the_same_layers_under_another_head_are_no_atss(tmp_path: Path) -> None:
    content = checkpoint(small("atss"))
    del content["meta"]["cfg"]
    settings = replace(IMAGENET_INPUT, extra_source="output", extra_relu=True, groups=2)
    with pytest.raises(DetdistillError, match=r"may be atss.*\n  head: "):
        import_mmdet(saved(tmp_path, content), settings=settings)
