from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from conftest import Golden
from detdistill.core.boxes import (
    LARGEST_LOG_SCALE,
    aligned_intersection,
    aligned_iou,
    box_area,
    box_centers,
    box_sides,
    boxes_to_distances,
    clip_boxes,
    decode_deltas,
    distances_to_boxes,
    encode_deltas,
    pairwise_iou,
)
from support.box_strategies import boxes
from support.golden_losses import as_tensor

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def assert_pixels(actual: Tensor, expected: np.ndarray) -> None:
    tolerance = 2e-5 if actual.dtype == torch.float64 else 1e-3
    rounding_of_the_stored_value = 2.0**-24
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rounding_of_the_stored_value, atol=tolerance)


@pytest.mark.golden
class TestGolden:
    @DTYPES
    @pytest.mark.parametrize(("name", "stds"), [("std1", (1.0, 1.0, 1.0, 1.0)), ("std0102", (0.1, 0.1, 0.2, 0.2))])
    def test_deltas(
        self, golden: Golden, dtype: torch.dtype, name: str, stds: tuple[float, float, float, float]
    ) -> None:
        arrays = golden("coders")
        priors, gt_boxes, deltas = (as_tensor(arrays[key], dtype) for key in ("priors", "gt_boxes", "deltas"))
        decoded = decode_deltas(priors, deltas, stds)
        assert_pixels(encode_deltas(priors, gt_boxes, stds), arrays[f"{name}_encoded"])
        assert_pixels(decoded, arrays[f"{name}_decoded"])
        assert_pixels(clip_boxes(decoded, torch.from_numpy(arrays["img_hw"])), arrays[f"{name}_decoded_clipped"])

    @DTYPES
    def test_distances(self, golden: Golden, dtype: torch.dtype) -> None:
        arrays = golden("coders")
        points, gt_boxes, distances = (as_tensor(arrays[key], dtype) for key in ("points", "gt_boxes", "distances"))
        decoded = distances_to_boxes(points, distances)
        assert_pixels(decoded, arrays["distance2bbox"])
        assert_pixels(clip_boxes(decoded, torch.from_numpy(arrays["img_hw"])), arrays["distance2bbox_clipped"])
        assert_pixels(boxes_to_distances(points, gt_boxes), arrays["bbox2distance"])

    @DTYPES
    def test_overlaps(self, golden: Golden, dtype: torch.dtype) -> None:
        arrays = golden("coders")
        a, b = as_tensor(arrays["ov_a"], dtype), as_tensor(arrays["ov_b"], dtype)
        foreground = aligned_intersection(a[:, None], b) / box_area(a)[:, None].clamp(min=1e-6)
        for actual, name in (
            (pairwise_iou(a, b), "ov_iou"),
            (aligned_iou(a, b[: len(a)]), "ov_iou_aligned"),
            (foreground, "ov_iof"),
        ):
            np.testing.assert_allclose(actual.numpy(), arrays[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_centers_sides_and_area_by_hand() -> None:
    box = torch.tensor([1.0, 2.0, 4.0, 8.0])
    assert box_centers(box).tolist() == [2.5, 5.0]
    assert box_sides(box).tolist() == [3.0, 6.0]
    assert box_area(box).item() == 18.0


def test_deltas_by_hand() -> None:
    prior = torch.tensor([0.0, 0.0, 10.0, 20.0], dtype=torch.float64)
    box = torch.tensor([5.0, 0.0, 15.0, 40.0], dtype=torch.float64)
    expected = torch.tensor([0.5, 0.5, 0.0, 2.0], dtype=torch.float64)
    expected[3] = expected[3].log()
    torch.testing.assert_close(encode_deltas(prior, box), expected)
    torch.testing.assert_close(
        encode_deltas(prior, box, (0.1, 0.2, 1.0, 0.5)), expected / expected.new_tensor([0.1, 0.2, 1, 0.5])
    )


def test_iou_by_hand() -> None:
    a = torch.tensor([0.0, 0.0, 2.0, 2.0])
    b = torch.tensor([1.0, 1.0, 3.0, 3.0])
    assert aligned_intersection(a, b).item() == 1.0
    assert aligned_iou(a, b).item() == pytest.approx(1 / 7)


@given(boxes(smallest_side=1), boxes(smallest_side=1, largest_side=50), st.floats(0.05, 2), st.floats(0.05, 2))
def test_deltas_round_trip(priors: Tensor, objects: Tensor, offset_std: float, scale_std: float) -> None:
    # Sides within a factor of 62 of the prior's; beyond it, decoding is limited on purpose.
    centers, sides = box_centers(objects), box_sides(objects)
    sides = torch.minimum(torch.maximum(sides, box_sides(priors) / 62), box_sides(priors) * 62)
    objects = torch.cat((centers - sides / 2, centers + sides / 2), dim=-1)
    stds = (offset_std, offset_std, scale_std, scale_std)
    decoded = decode_deltas(priors, encode_deltas(priors, objects, stds), stds)
    torch.testing.assert_close(decoded, objects, rtol=0, atol=1e-8)


@given(boxes(smallest_side=1))
def test_zero_deltas_are_the_prior(priors: Tensor) -> None:
    torch.testing.assert_close(decode_deltas(priors, torch.zeros_like(priors)), priors)


def test_decoded_sides_are_limited() -> None:
    prior = torch.tensor([0.0, 0.0, 16.0, 16.0])
    sides = box_sides(decode_deltas(prior, torch.tensor([[0.0, 0.0, 1e4, 5.0], [0.0, 0.0, -1e4, -5.0]])))
    torch.testing.assert_close(sides, torch.tensor([[1000.0, 1000.0], [0.256, 0.256]]))


@given(boxes(), boxes())
def test_distances_round_trip(priors: Tensor, objects: Tensor) -> None:
    points = box_centers(priors)
    distances = boxes_to_distances(points, objects)
    torch.testing.assert_close(distances_to_boxes(points, distances), objects, rtol=0, atol=1e-9)
    inside = ((points >= objects[:, :2]) & (points <= objects[:, 2:])).all(dim=-1)
    assert torch.equal((distances >= 0).all(dim=-1), inside)


@given(boxes(count=12), st.integers(1, 1500), st.integers(1, 1500))
def test_clipped_boxes_lie_in_their_image(all_boxes: Tensor, height: int, width: int) -> None:
    batch = all_boxes.reshape(2, 6, 4)
    sizes = torch.tensor([[[height, width]], [[width, height]]])
    clipped = clip_boxes(batch, sizes)
    assert (clipped >= 0).all()
    assert (clipped[0] <= torch.tensor([width, height, width, height])).all()
    assert (clipped[1] <= torch.tensor([height, width, height, width])).all()
    inside = (batch == clipped).all(dim=-1)
    limits = sizes.flip(-1)
    assert torch.equal(inside, ((batch >= 0) & (batch <= torch.cat((limits, limits), dim=-1))).all(dim=-1))
    assert torch.equal(clip_boxes(clipped, sizes), clipped)


@given(boxes(), boxes())
def test_iou_is_a_symmetric_share(a: Tensor, b: Tensor) -> None:
    iou = pairwise_iou(a, b)
    assert ((iou >= 0) & (iou <= 1)).all()
    assert torch.equal(iou, pairwise_iou(b, a).T)
    assert torch.equal(iou.diagonal(), aligned_iou(a, b))
    assert (aligned_intersection(a, b) <= torch.minimum(box_area(a), box_area(b))).all()


@given(boxes(smallest_side=1 / 64))
def test_a_box_with_area_overlaps_itself_wholly(a: Tensor) -> None:
    assert torch.equal(aligned_iou(a, a), torch.ones(len(a), dtype=a.dtype))


@given(boxes(smallest_side=1), boxes(smallest_side=1), st.integers(-4096, 4096), st.sampled_from([0.25, 2.0, 8.0]))
def test_iou_does_not_depend_on_place_and_scale(a: Tensor, b: Tensor, shift: int, scale: float) -> None:
    iou = pairwise_iou(a, b)
    torch.testing.assert_close(pairwise_iou(a + shift, b + shift), iou, rtol=0, atol=1e-12)
    torch.testing.assert_close(pairwise_iou(a * scale, b * scale), iou, rtol=0, atol=1e-12)


def test_iou_of_boxes_without_area_is_zero_with_a_finite_gradient() -> None:
    point = torch.tensor([3.0, 4.0, 3.0, 4.0], requires_grad=True)
    line = torch.tensor([3.0, 4.0, 9.0, 4.0])
    iou = aligned_iou(point.expand(2, 4), torch.stack((point.detach(), line)))
    assert iou.tolist() == [0.0, 0.0]
    (gradient,) = torch.autograd.grad(iou.sum(), point)
    assert gradient.isfinite().all()


def test_deltas_of_boxes_without_area_are_finite() -> None:
    point = torch.tensor([3.0, 4.0, 3.0, 4.0])
    box = torch.tensor([0.0, 0.0, 1e5, 1.0])
    assert encode_deltas(box, point).isfinite().all()
    assert encode_deltas(point, box).isfinite().all()


TWO_BOX_FUNCTIONS = pytest.mark.parametrize(
    "function",
    [encode_deltas, decode_deltas, aligned_intersection, aligned_iou],
    ids=lambda function: function.__name__,
)


def some_boxes(*leading: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(*leading, 2, generator=generator, dtype=torch.float64) * 20
    sides = torch.rand(*leading, 2, generator=generator, dtype=torch.float64) * 20 + 5
    return torch.cat((corners, corners + sides), dim=-1)


@TWO_BOX_FUNCTIONS
def test_gradients_are_those_of_finite_differences(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = some_boxes(6, seed=1).requires_grad_(), some_boxes(6, seed=2)
    # As deltas, 5 to 40 is beyond the limit of the log scales, where the gradient is zero on both sides.
    b = (b / 20 if function is decode_deltas else b).requires_grad_()
    assert torch.autograd.gradcheck(function, (a, b))


def test_distance_and_clipping_gradients() -> None:
    points, targets = some_boxes(6)[:, :2].clone().requires_grad_(), some_boxes(6, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(boxes_to_distances, (points, targets))
    assert torch.autograd.gradcheck(distances_to_boxes, (points, targets))
    assert torch.autograd.gradcheck(lambda boxes: clip_boxes(boxes, torch.tensor([20, 20])), (targets,))


@TWO_BOX_FUNCTIONS
def test_leading_dimensions_broadcast(function: Callable[[Tensor, Tensor], Tensor]) -> None:
    one, many = some_boxes(5), some_boxes(3, 5, seed=1) / 10
    expected = torch.stack([function(one, image) for image in many])
    assert torch.equal(function(one, many), expected)
    assert function(one[:0], many[:, :0]).shape[:2] == (3, 0)


def test_distances_and_pairs_broadcast() -> None:
    points, many = some_boxes(5)[:, :2], some_boxes(3, 5, seed=1)
    distances = boxes_to_distances(points, many)
    assert distances.shape == (3, 5, 4)
    torch.testing.assert_close(distances_to_boxes(points, distances), many)
    assert pairwise_iou(some_boxes(7), many).shape == (3, 7, 5)
    assert pairwise_iou(some_boxes(0), some_boxes(5)).shape == (0, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(dtype: torch.dtype) -> None:
    # 1,000 px squared is beyond float16; the sums of areas are beyond bfloat16's 8 bits.
    a, b = (some_boxes(5) * 32).to(dtype), (some_boxes(5, seed=1) * 32).to(dtype)
    deltas = torch.full((5, 4), 0.3, dtype=dtype)
    assert torch.equal(pairwise_iou(a, b), pairwise_iou(a.float(), b.float()))
    assert torch.equal(encode_deltas(a, b), encode_deltas(a.float(), b.float()))
    assert torch.equal(decode_deltas(a, deltas), decode_deltas(a.float(), deltas.float()))
    assert torch.equal(boxes_to_distances(a[:, :2], b), boxes_to_distances(a[:, :2].float(), b.float()))
    assert torch.equal(distances_to_boxes(a[:, :2], b), distances_to_boxes(a[:, :2].float(), b.float()))
    assert clip_boxes(a, torch.tensor([100, 100])).dtype == torch.float32


def test_log_scale_limit_is_the_published_one() -> None:
    assert pytest.approx(4.135166556742356) == LARGEST_LOG_SCALE
