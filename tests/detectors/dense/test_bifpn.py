from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import BiFeaturePyramid
from detdistill.detectors.dense.bifpn import FUSION_EPS, BiFpn, Cell, Node, halving
from detdistill.detectors.dense.choices import Fusion, Padding
from detdistill.detectors.dense.pyramid import build_pyramid

CHANNELS, STRIDES = (4, 6, 8), (8, 16, 32)
# Inputs of the nodes of a cell of five levels, in the order of their computation; 0 to 4 are the cell's own maps.
PUBLISHED_NODES = [(3, 4), (2, 5), (1, 6), (0, 7), (1, 7, 8), (2, 6, 9), (3, 5, 10), (4, 11)]


def settings_of(fusion: Fusion = "fast", padding: Padding = "symmetric", repeats: int = 2) -> BiFeaturePyramid:
    return BiFeaturePyramid(kind="bifpn", channels=5, repeats=repeats, fusion=fusion, padding=padding)


def maps_of(height: int, width: int) -> list[Tensor]:
    """Backbone maps of a canvas, each half the one before, rounded up."""
    torch.manual_seed(0)
    sizes = [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
    return [torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, sizes, strict=True)]


def shaken(pyramid: BiFpn) -> BiFpn:
    """With weights and statistics as training leaves them, some fusion weights below 0."""
    torch.manual_seed(1)
    for name, tensor in pyramid.state_dict().items():
        if name.endswith("weights"):
            torch.nn.init.uniform_(tensor, -0.5, 1.5)
        elif name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.5, 2)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            torch.nn.init.normal_(tensor)
    return pyramid.eval()


@settings(max_examples=20)
@given(st.integers(17, 200), st.integers(17, 200), st.sampled_from(["symmetric", "same"]))
def test_levels_are_halved_with_rounding_up(height: int, width: int, padding: Padding) -> None:
    pyramid = build_pyramid(settings_of(padding=padding, repeats=1), CHANNELS, STRIDES).eval()
    assert pyramid.strides == (8, 16, 32, 64, 128)
    with torch.no_grad():
        sizes = [tuple(level.shape[1:]) for level in pyramid(maps_of(height, width))]
    rows, columns = -(-height // 8), -(-width // 8)
    expected = []
    for _ in range(5):
        expected.append((5, rows, columns))
        rows, columns = -(-rows // 2), -(-columns // 2)
    assert sizes == expected


def plain_halving(features: Tensor, padding: Padding) -> Tensor:
    """Maxima of 3 x 3 cells at every second cell; TensorFlow pads the far side first."""
    before = [1 if padding == "symmetric" else size % 2 for size in features.shape[-2:]]
    rows, columns = (range(-(-size // 2)) for size in features.shape[-2:])
    windows = [
        [
            features[
                ...,
                max(2 * row - before[0], 0) : 2 * row - before[0] + 3,
                max(2 * column - before[1], 0) : 2 * column - before[1] + 3,
            ].amax(dim=(-2, -1))
            for column in columns
        ]
        for row in rows
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in windows], dim=-2)


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 4), (1, 1), (3, 2)])
def test_halving_is_the_plain_form(padding: Padding, size: tuple[int, int]) -> None:
    features = torch.randn(2, 3, *size)
    assert torch.equal(halving(settings_of(padding=padding))(features), plain_halving(features, padding))


def plain_node(node: Node, inputs: list[Tensor]) -> Tensor:
    """The paper's fusion, weight by weight."""
    inputs = [project(each) for project, each in zip(node.projections, inputs, strict=True)]
    size = inputs[0].shape[-2:]
    neighbour = inputs[-1]
    inputs[-1] = F.interpolate(neighbour, size=size) if node.halve is None else node.halve(neighbour)
    if node.weights is None:
        fused = torch.stack(inputs).sum(dim=0)
    else:
        weights = [max(float(weight), 0) for weight in node.weights]
        fused = torch.stack([weight * each for weight, each in zip(weights, inputs, strict=True)]).sum(dim=0)
        fused = fused / (sum(weights) + FUSION_EPS)
    result: Tensor = node.norm(node.conv(F.silu(fused)))
    return result


@pytest.mark.parametrize("fusion", ["fast", "sum"])
def test_a_cell_computes_the_published_nodes(fusion: Fusion) -> None:
    pyramid = build_pyramid(settings_of(fusion), CHANNELS, STRIDES)
    assert isinstance(pyramid, BiFpn)
    shaken(pyramid)
    with torch.no_grad():
        features = maps_of(96, 160)
        levels = [*features, pyramid.halve(pyramid.coarsest(features[-1]))]
        levels.append(pyramid.halve(levels[-1]))
        for cell in pyramid.cells:
            assert isinstance(cell, Cell)
            held = list(levels)
            for node, sources in zip([*cell.down, *cell.up], PUBLISHED_NODES, strict=True):
                assert isinstance(node, Node)
                held.append(plain_node(node, [held[source] for source in sources]))
            levels = held[8:]  # the last of the way down, and the way up
        for found, expected in zip(pyramid(features), levels, strict=True):
            torch.testing.assert_close(found, expected)


def test_only_maps_of_other_channels_are_convolved_each_by_its_node() -> None:
    pyramid = build_pyramid(settings_of(), (4, 5, 8), STRIDES)
    assert isinstance(pyramid, BiFpn)
    places = [name for name, _ in pyramid.named_parameters() if "projections" in name and name.endswith("conv.weight")]
    # Of the backbone's maps, those of 4 and of 8 channels; the latter by two nodes.
    expected = ["down.1.projections.0", "down.3.projections.0", "up.1.projections.0"]
    assert places == [f"cells.0.{place}.conv.weight" for place in expected]


def test_without_extra_levels_and_with_strides_of_small_objects() -> None:
    pyramid = build_pyramid(BiFeaturePyramid("bifpn", 5, extra_levels=0, repeats=2), CHANNELS, STRIDES)
    assert pyramid.strides == STRIDES
    assert [tuple(each.shape[1:]) for each in pyramid(maps_of(96, 64))] == [(5, 12, 8), (5, 6, 4), (5, 3, 2)]
    four = build_pyramid(BiFeaturePyramid("bifpn", 5, extra_levels=1, repeats=1), (3, *CHANNELS), (4, *STRIDES))
    assert four.strides == (4, 8, 16, 32, 64)


def test_a_single_level_is_refused() -> None:
    with pytest.raises(DetdistillError, match=r"bifpn .*stride 8; .*detector.strides.*extra_levels"):
        build_pyramid(BiFeaturePyramid("bifpn", 5, extra_levels=0), (4,), (8,))


def test_a_coarsest_level_of_one_cell_of_one_image_trains() -> None:
    pyramid = build_pyramid(settings_of(), CHANNELS, STRIDES).train()
    levels = pyramid([each[:1] for each in maps_of(128, 128)])
    assert levels[-1].shape == (1, 5, 1, 1)
    torch.autograd.backward(torch.stack([each.square().mean() for each in levels]).sum())
    assert all(part.grad is not None and part.grad.isfinite().all() for part in pyramid.parameters())
