from __future__ import annotations

import torch

from detdistill.core.structures import Assignment
from detdistill.distill.terms.channel_wise import ChannelWise
from detdistill.distill.view import View
from detdistill.losses.features import channel_wise_divergence
from support.term_cases import bound, grid, objects, output

OF = grid((4, 6), (2, 3), anchors=((0, 0, 16, 16), (0, 0, 16, 8)))
NOTHING = Assignment(torch.full((2, 60), -1))


def maps(channels: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(2, channels, *size, generator=generator) for size in OF.sizes)


def test_class_logits_are_maps_of_anchors_times_classes() -> None:
    logits, goals = (maps(2 * 3, seed) for seed in (0, 1))
    own, other = (output(OF, (), OF.flatten(each)) for each in (logits, goals))
    term = bound(ChannelWise(compare="class", temperature=2.0), own, other)
    assert not list(term.parameters())
    loss = term(View(own, other, NOTHING, objects([], images=2)))
    torch.testing.assert_close(loss["classification"], channel_wise_divergence(logits, goals, 2.0))


def test_a_narrower_student_gets_a_convolution() -> None:
    own, other = (output(OF, maps(channels, 0), torch.zeros(2, 60, 1)) for channels in (4, 6))
    term = ChannelWise()
    bound(term, own, other)
    assert [tuple(weight.shape) for weight in term.adapters.parameters() if weight.dim() == 4] == [(6, 4, 1, 1)] * 2
    loss = term(View(own, other, NOTHING, objects([], images=2)))["features"]
    torch.testing.assert_close(loss, channel_wise_divergence(term.adapters(own.features.maps), other.features.maps))
