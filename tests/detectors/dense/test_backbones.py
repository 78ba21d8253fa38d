from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.backbones import build_backbone


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (128, 256, 512)),
        ("resnet34", (128, 256, 512)),
        ("resnet50", (512, 1024, 2048)),
        ("resnet101", (512, 1024, 2048)),
        ("resnet152", (512, 1024, 2048)),
        ("mobilenetv2", (32, 96, 320)),
        ("efficientnet_b0", (40, 112, 320)),
    ],
)
def test_channels_of_the_usual_levels(name: str, channels: tuple[int, ...]) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
    assert backbone.channels == channels
    assert backbone.strides == (8, 16, 32)


def test_maps_have_the_promised_shapes() -> None:
    backbone = build_backbone("resnet18", (4, 8, 16, 32), width=0.25)
    assert backbone.channels == (16, 32, 64, 128)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape) for level in maps] == [(1, 16, 16, 24), (1, 32, 8, 12), (1, 64, 4, 6), (1, 128, 2, 3)]


def test_networks_that_put_the_channels_last_are_turned_round() -> None:
    backbone = build_backbone("mambaout_femto", (16, 32))
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape) for level in maps] == [(1, 192, 4, 6), (1, 288, 2, 3)]
    assert backbone.channels == (192, 288)


def test_channels_override_the_width() -> None:
    backbone = build_backbone("resnet50", channels=(8, 8, 16, 24))
    assert backbone.channels == (32, 64, 96)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_stem_is_as_narrow_as_the_first_stage(name: str) -> None:
    backbone = build_backbone(name, (2, 4, 8), channels=(16, 24, 32, 40))
    maps = backbone(torch.zeros(1, 3, 64, 64))
    assert backbone.channels == tuple(level.shape[1] for level in maps)
    assert maps[0].shape[1] == 16


def test_mobilenet_comes_in_its_own_widths() -> None:
    assert build_backbone("mobilenetv2", width=0.5).channels == (16, 48, 160)
    with pytest.raises(DetdistillError, match=r"widths 0.5, 1.0, 1.4, not 0.3"):
        build_backbone("mobilenetv2", width=0.3)


def test_deformable_bottlenecks_start_as_half_of_the_plain_ones() -> None:
    torch.manual_seed(0)
    plain = build_backbone("resnet50", width=0.125, style="caffe")
    torch.manual_seed(0)
    deformable = build_backbone("resnet50", width=0.125, style="caffe", deformable=(3,))
    images = torch.randn(1, 3, 64, 64)
    inside: list[torch.Tensor] = []
    for backbone in (plain, deformable):
        block = backbone.network.get_submodule("layer3.0.conv2")
        block.register_forward_hook(lambda _module, _inputs, output: inside.append(output))
        shapes = [tuple(level.shape) for level in backbone.eval()(images)]
        assert shapes == [(1, 64, 8, 8), (1, 128, 4, 4), (1, 256, 2, 2)]
    torch.testing.assert_close(inside[1], 0.5 * inside[0], rtol=1e-4, atol=1e-6)


def test_levels_are_read_in_ascending_order() -> None:
    assert build_backbone("resnet18", (32, 8), width=0.125).strides == (8, 32)


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        (("resnet19",), {}, "no backbone is called 'resnet19'; close to it: .*resnet18"),
        (("mobilenetv3",), {}, "close to it: mobilenetv2, (?!.*mobilenetv2,)"),
        (("resnet18", (8, 64)), {}, r"has levels of the strides .*, not \[64\]"),
        (("resnet18", ()), {}, "not none"),
        (("efficientnet_b0",), {"width": 0.5}, "choose a narrower model than efficientnet_b0"),
        (("resnet18",), {"deformable": (4,)}, "resnet18 has no bottlenecks in a stage 4"),
        (("resnet50",), {"deformable": (5,)}, "resnet50 has no bottlenecks in a stage 5"),
        (("mobilenetv2",), {"channels": (8, 8, 8, 8)}, "channels work for the plain ResNets"),
        (("resnet18",), {"width": 0.5, "pretrained": True}, "resnet18 exist in its full width only"),
    ],
)
def test_wrong_requests_say_what_there_is(
    arguments: tuple[object, ...], keywords: dict[str, object], message: str
) -> None:
    with pytest.raises(DetdistillError, match=message):
        build_backbone(*arguments, **keywords)  # type: ignore[arg-type]


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(name: str, *, pretrained: bool = False, **options: Any) -> nn.Module:
        if pretrained:
            raise FileNotFoundError("no connection")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(DetdistillError, match=r"resnet18 pretrained weights \(no connection\): load a local file"):
        build_backbone("resnet18", pretrained=True)


def test_caffe_style_halves_the_map_in_the_first_convolution() -> None:
    backbone = build_backbone("resnet50", width=0.125, style="caffe")
    strides = {name: module.stride for name, module in backbone.named_modules() if name.endswith(("conv1", "conv2"))}
    assert strides["network.layer2.0.conv1"] == (2, 2)
    assert strides["network.layer2.0.conv2"] == (1, 1)
    assert strides["network.layer2.1.conv1"] == strides["network.layer1.0.conv1"] == (1, 1)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[2:]) for level in maps] == [(8, 12), (4, 6), (2, 3)]
    with pytest.raises(DetdistillError, match="resnet18 has no bottlenecks"):
        build_backbone("resnet18", style="caffe")
