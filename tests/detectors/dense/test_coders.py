from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from conftest import Golden
from detdistill.core.boxes import box_centers, decode_deltas, encode_deltas
from detdistill.core.output import BoxCoder
from detdistill.detectors.dense.coders import DeltaCoder, DistanceCoder, DistributionCoder
from support.box_strategies import boxes
from support.golden_losses import as_tensor

STRIDES = torch.tensor([8.0, 8.0, 16.0, 16.0, 32.0, 32.0, 64.0, 128.0], dtype=torch.float64)


@pytest.mark.golden
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 2e-5)])
def test_distribution_targets_are_clamped_as_in_the_golden_vectors(
    golden: Golden, dtype: torch.dtype, tolerance: float
) -> None:
    # The golden points and boxes were divided by 8 and their distances limited to 16 bins.
    arrays = golden("coders")
    points, gt_boxes = as_tensor(arrays["points"], dtype), as_tensor(arrays["gt_boxes"], dtype)
    priors = torch.cat((points, points), dim=-1)
    encoded = DistributionCoder(bins=17).encode(priors, points.new_full((len(points),), 8.0), gt_boxes)
    torch.testing.assert_close(encoded, as_tensor(arrays["bbox2distance_max16"], dtype), rtol=0, atol=tolerance)


@given(boxes(smallest_side=8), boxes(smallest_side=8))
def test_delta_coder_uses_its_deviations(priors: Tensor, objects: Tensor) -> None:
    stds = (0.1, 0.1, 0.2, 0.2)
    coder = DeltaCoder(stds)
    deltas = coder.encode(priors, STRIDES, objects)
    assert torch.equal(deltas, encode_deltas(priors, objects, stds))
    assert torch.equal(coder.decode(priors, STRIDES, deltas), decode_deltas(priors, deltas, stds))


@given(boxes(), boxes(), st.sampled_from(["pixel", "stride"]))
def test_distances_round_trip(priors: Tensor, objects: Tensor, unit: str) -> None:
    coder = DistanceCoder("pixel") if unit == "pixel" else DistanceCoder("stride")
    decoded = coder.decode(priors, STRIDES, coder.encode(priors, STRIDES, objects))
    torch.testing.assert_close(decoded, objects, rtol=0, atol=1e-8)


def test_distances_by_hand() -> None:
    prior, strides = torch.tensor([[8.0, 16.0, 16.0, 24.0]]), torch.tensor([8.0])
    regression = torch.tensor([[1.0, 2.0, 3.0, 0.5]])
    assert DistanceCoder("pixel").decode(prior, strides, regression).tolist() == [[11.0, 18.0, 15.0, 20.5]]
    assert DistanceCoder("stride").decode(prior, strides, regression).tolist() == [[4.0, 4.0, 36.0, 24.0]]


def test_distributions_are_read_side_by_side() -> None:
    prior, strides, bins = torch.tensor([[8.0, 16.0, 16.0, 24.0]]), torch.tensor([8.0]), 5
    logits = torch.full((1, 4, bins), -1e4)
    for side, distance in enumerate((1, 2, 3, 0)):
        logits[0, side, distance] = 0.0
    decoded = DistributionCoder(bins).decode(prior, strides, logits.reshape(1, 4 * bins))
    assert decoded.tolist() == [[4.0, 4.0, 36.0, 20.0]]


@given(boxes(), boxes(largest_side=300))
def test_distribution_targets_lie_between_two_bins(priors: Tensor, objects: Tensor) -> None:
    encoded = DistributionCoder(bins=9).encode(priors, STRIDES, objects)
    assert ((encoded >= 0) & (encoded < 8)).all()
    distances = DistanceCoder("stride").encode(priors, STRIDES, objects)
    held = (distances >= 0) & (distances <= 7.9)
    assert torch.equal(encoded[held], distances[held])


@pytest.mark.parametrize(
    ("coder", "depth"),
    [(DeltaCoder(), 4), (DistanceCoder("pixel"), 4), (DistanceCoder("stride"), 4), (DistributionCoder(bins=6), 24)],
    ids=str,
)
class TestEveryCoder:
    def test_a_batch_shares_its_priors(self, coder: BoxCoder, depth: int) -> None:
        priors, strides = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 64.0, 32.0]]), torch.tensor([8.0, 16.0])
        regression = torch.rand(3, 2, depth, generator=torch.Generator().manual_seed(0))
        decoded = coder.decode(priors, strides, regression)
        expected = torch.stack([coder.decode(priors, strides, image) for image in regression])
        torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)
        assert coder.decode(priors[:0], strides[:0], regression[:, :0]).shape == (3, 0, 4)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_widened_first(self, coder: BoxCoder, depth: int, dtype: torch.dtype) -> None:
        priors, strides = torch.tensor([[1000.0, 1000.0, 1008.0, 1008.0]]), torch.tensor([8.0])
        regression = torch.rand(1, depth, generator=torch.Generator().manual_seed(0)).to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = coder.decode(priors, strides, regression)
        assert decoded.dtype == torch.float32
        assert torch.equal(decoded, coder.decode(priors, strides, regression.float()))

    def test_gradients_are_those_of_finite_differences(self, coder: BoxCoder, depth: int) -> None:
        priors, strides = torch.tensor([[0.0, 0.0, 8.0, 8.0]], dtype=torch.float64), STRIDES[:1]
        regression = torch.rand(1, depth, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda raw: coder.decode(priors, strides, raw), (regression.requires_grad_(),))


def test_distribution_targets_start_at_the_prior_s_centre() -> None:
    priors = torch.tensor([[0.0, 0.0, 16.0, 32.0]])
    objects = torch.cat((box_centers(priors) - 8, box_centers(priors) + 16), dim=-1)
    assert DistributionCoder().encode(priors, torch.tensor([8.0]), objects).tolist() == [[1.0, 1.0, 2.0, 2.0]]
