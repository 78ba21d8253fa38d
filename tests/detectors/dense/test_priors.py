from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from conftest import Golden
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.detectors.dense.priors import (
    ASPECTS,
    KEPT_GRIDS,
    FittedLayout,
    PriorLayout,
    anchor_boxes,
    cell_boxes,
    centered_anchors,
)

CPU = torch.device("cpu")
RETINANET_SCALES = [4 * 2 ** (k / 3) for k in range(3)]

positive = st.floats(0.1, 16)


@pytest.mark.golden
def test_base_anchors_are_mmdetections(golden: Golden) -> None:
    vectors = golden("anchors")
    strides = vectors["strides"].tolist()
    layouts = {
        "retina": anchor_boxes(strides, RETINANET_SCALES, (0.5, 1, 2)),
        "atss": anchor_boxes(strides, (8,), (1,)),
    }
    for name, anchors in layouts.items():
        for level, ours in enumerate(anchors):
            torch.testing.assert_close(
                ours, torch.from_numpy(vectors[f"{name}_base_anchors_l{level}"]), atol=1e-3, rtol=0
            )


@pytest.mark.golden
@pytest.mark.parametrize("image", ["imgA", "imgB", "imgB_pad32"])
def test_priors_of_all_cells_are_mmdetections(golden: Golden, image: str) -> None:
    vectors = golden("anchors")
    strides = vectors["strides"].tolist()
    sizes = [(height, width) for height, width in vectors[f"{image}_feat_sizes"].tolist()]

    def grid(base_anchors: Sequence[Tensor]) -> Grid:
        return PriorLayout(strides, base_anchors).grid(sizes, CPU)

    atss = grid(anchor_boxes(strides, (8,), (1,)))
    ours = {
        "retina_anchors": grid(anchor_boxes(strides, RETINANET_SCALES, (0.5, 1, 2))).priors,
        "atss_anchors": atss.priors,
        "fcos_points": grid(cell_boxes(strides)).centers,
        "offset0_points": atss.centers,
    }
    for name, priors in ours.items():
        levels = [vectors.get(f"{image}_{name}_l{level}") for level in range(len(strides))]
        if levels[0] is not None:
            reference = torch.cat([torch.from_numpy(level) for level in levels])
            torch.testing.assert_close(priors, reference, atol=1e-3, rtol=0)


@given(st.lists(st.integers(1, 256), min_size=1, max_size=6), st.lists(positive, min_size=1, max_size=4), positive)
def test_anchors_have_the_area_and_ratio_asked_for(strides: list[int], scales: list[float], ratio: float) -> None:
    anchors = torch.stack(anchor_boxes(strides, scales, (ratio,))).double()
    width, height = (anchors[..., 2:] - anchors[..., :2]).unbind(-1)
    sides = torch.tensor(strides).double()[:, None] * torch.tensor(scales).double()
    torch.testing.assert_close(width * height, sides**2, rtol=1e-5, atol=0)
    torch.testing.assert_close(height / width, torch.full_like(width, ratio), rtol=1e-5, atol=0)
    torch.testing.assert_close(anchors[..., :2], -anchors[..., 2:])


def test_cells_tile_the_canvas() -> None:
    grid = PriorLayout((4, 8), cell_boxes((4, 8))).grid([(2, 3), (1, 2)], CPU)
    assert grid.priors[:3].tolist() == [[0, 0, 4, 4], [4, 0, 8, 4], [8, 0, 12, 4]]
    assert grid.priors[6:].tolist() == [[0, 0, 8, 8], [8, 0, 16, 8]]
    assert grid.strides == ((4, 4), (8, 8))


def test_a_grid_is_made_once_per_size_and_only_the_last_ones_are_kept() -> None:
    layout = PriorLayout((8,), cell_boxes((8,)))
    first = layout.grid([(1, 1)], CPU)
    for width in range(2, KEPT_GRIDS + 1):
        layout.grid([(1, width)], CPU)
    assert layout.grid([(1, 1)], CPU) is first
    second = layout.grid([(1, 2)], CPU)
    for width in range(3, KEPT_GRIDS + 3):
        layout.grid([(2, width)], CPU)
    assert layout.grid([(1, 2)], CPU) is not second
    assert len(layout._grids) == KEPT_GRIDS


def test_priors_of_an_inference_step_serve_a_training_step() -> None:
    layout = PriorLayout((8,), cell_boxes((8,)))
    with torch.inference_mode():
        layout.grid([(2, 2)], CPU)
    deltas = torch.ones(4, 4, requires_grad=True)
    grid = layout.grid([(2, 2)], CPU)
    (gradient,) = torch.autograd.grad((deltas * grid.priors * grid.prior_strides[:, None]).sum(), deltas)
    torch.testing.assert_close(gradient, grid.priors * 8)


def test_an_export_leaves_no_fake_priors_behind() -> None:
    layout = PriorLayout((8,), cell_boxes((8,)))

    class Shift(torch.nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            height, width = features.shape[-2:]
            return features.flatten() + layout.grid([(height, width)], features.device).centers[:, 0]

    features = torch.zeros(2, 3)
    exported = torch.export.export(Shift(), (features,))
    expected = torch.tensor([4.0, 12, 20, 4, 12, 20])
    torch.testing.assert_close(exported.module()(features), expected)
    torch.testing.assert_close(Shift()(features), expected)


def test_levels_that_do_not_fit_are_named() -> None:
    with pytest.raises(DetdistillError, match=r"2 strides \(8, 16\) but base anchors for 1 levels"):
        PriorLayout((8, 16), cell_boxes((8,)))
    with pytest.raises(DetdistillError, match="1 feature maps but priors for 2 levels"):
        PriorLayout((8, 16), cell_boxes((8, 16))).grid([(4, 4)], CPU)


def test_several_threads_may_ask_for_grids() -> None:
    layout = PriorLayout((8,), anchor_boxes((8,), (1.0,), (1.0,)))
    sizes = [(1 + number % (KEPT_GRIDS + 5), 2) for number in range(400)]
    with ThreadPoolExecutor(8) as threads:
        grids = list(threads.map(lambda size: layout.grid([size], torch.device("cpu")), sizes))
    assert [grid.num_priors for grid in grids] == [height * width for height, width in sizes]


LEVELS = (8, 16, 32, 64, 128)


def plain_efficientdet_anchors(canvas: tuple[int, int], sizes: Sequence[tuple[int, int]], scale: float) -> Tensor:
    """Level by level, cell by cell, octave by octave, aspect by aspect."""
    boxes = []
    for rows, columns in sizes:
        step_y, step_x = canvas[0] / rows, canvas[1] / columns
        for row in range(rows):
            for column in range(columns):
                y, x = (row + 0.5) * step_y, (column + 0.5) * step_x
                for octave in range(3):
                    for width, height in ASPECTS:
                        w, h = (scale * 2 ** (octave / 3) * side / 2 for side in (width * step_x, height * step_y))
                        boxes.append((x - w, y - h, x + w, y + h))
    return torch.tensor(boxes)


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([3.0, 4.0, 5.0]))
def test_efficientdets_anchors_on_canvases_of_any_multiple_of_32(rows: int, columns: int, scale: float) -> None:
    canvas = (32 * rows, 32 * columns)
    sizes = [tuple(-(-side // stride) for side in canvas) for stride in LEVELS]
    grid = FittedLayout(LEVELS, centered_anchors(3, scale)).grid(sizes, CPU)  # type: ignore[arg-type]
    expected = plain_efficientdet_anchors(canvas, sizes, scale)  # type: ignore[arg-type]
    torch.testing.assert_close(grid.priors, expected, atol=1e-3, rtol=0)
    for (height, width), steps, stride in zip(sizes, grid.strides, LEVELS, strict=True):
        assert steps == (canvas[0] / height, canvas[1] / width)
        if canvas[0] % stride == canvas[1] % stride == 0:
            assert steps == (stride, stride)


@pytest.mark.parametrize(("octaves", "scale"), [(0, 4.0), (3, 0.0), (3, -1.0)])
def test_anchors_without_size_are_refused(octaves: int, scale: float) -> None:
    with pytest.raises(DetdistillError, match=r"octaves.*scale"):
        centered_anchors(octaves, scale)
