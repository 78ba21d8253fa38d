from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import Golden
from detdistill.core.grid import Grid
from detdistill.core.output import Output
from detdistill.core.structures import Assignment, Targets
from detdistill.distill.terms.focal_global import FocalGlobal, GlobalContext, background_weights, object_weights
from detdistill.distill.view import View
from support.golden_losses import Arrays, as_tensor
from support.term_cases import bound, grid, objects, output

NOTHING = Assignment(torch.zeros(0, 0, dtype=torch.int64))
SCALES: tuple[Literal["canvas", "image"], ...] = ("canvas", "image")


def one_level(features: Tensor, sizes: Tensor) -> Output:
    """On a canvas as large as the largest image."""
    height, width = features.shape[2:]
    step = int(sizes[:, 0].max()) // height, int(sizes[:, 1].max()) // width
    return output(Grid(((height, width),), (step,), tuple(torch.zeros(1, 1, 4))), (features,), torch.zeros(2, 1, 1))


def golden_term(data: Arrays, dtype: torch.dtype) -> FocalGlobal:
    alpha = float(data["alpha_fgd"])
    term = FocalGlobal(
        background=float(data["beta_fgd"]) / alpha,
        attention=float(data["gamma_fgd"]) / alpha,
        relation=float(data["lambda_fgd"]) / alpha,
        temperature=float(data["temp"]),
    )
    features = one_level(as_tensor(data["student"], dtype), torch.from_numpy(data["img_hw"]))
    bound(term, features, features)
    for side, blocks in (("s", term.student_contexts), ("t", term.teacher_contexts)):
        names = {"weigh": f"conv_mask_{side}", **{f"transform.{n}": f"channel_add_conv_{side}_{n}" for n in (0, 1, 3)}}
        blocks[0].load_state_dict(
            {
                f"{ours}.{kind}": torch.from_numpy(data[f"w_{theirs}_{kind}"])
                for ours, theirs in names.items()
                for kind in ("weight", "bias")
            }
        )
    return term.to(dtype)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestGolden:
    def targets(self, data: Arrays, count: int) -> Targets:
        """With the objects of the first `count` images."""
        boxes = [torch.from_numpy(data[f"gt_boxes_img{image}"])[: None if image < count else 0] for image in range(2)]
        labels = [torch.zeros(len(each), dtype=torch.int64) for each in boxes]
        return Targets.from_images(boxes, labels, torch.from_numpy(data["img_hw"]))

    def test_masks(self, golden: Golden, dtype: torch.dtype) -> None:
        data = golden("distill_fgd")
        targets = self.targets(data, 2)
        of = one_level(as_tensor(data["student"], dtype), targets.sizes).predictions.grid
        (foreground,) = object_weights(of, targets, "image")
        np.testing.assert_allclose(foreground.numpy(), data["fg_mask"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            background_weights(foreground, torch.zeros_like(foreground, dtype=torch.bool)).numpy(),
            data["bg_mask"],
            rtol=1e-5,
            atol=1e-6,
        )

    @pytest.mark.parametrize(("prefix", "count"), [("", 2), ("img1empty_", 1)])
    def test_parts_and_gradient(self, golden: Golden, dtype: torch.dtype, prefix: str, count: int) -> None:
        data = golden("distill_fgd")
        term, targets = golden_term(data, dtype), self.targets(data, count)
        student = as_tensor(data["student"], dtype).requires_grad_()
        teacher = one_level(as_tensor(data["teacher"], dtype), targets.sizes)
        parts = term(View(one_level(student, targets.sizes), teacher, NOTHING, targets))
        raw = {
            "fg": parts["foreground"],
            "bg": parts["background"] / term.background,
            "mask": parts["attention"] / term.attention,
            "rela": parts["relation"] / term.relation,
        }
        for name, value in raw.items():
            if f"{prefix}{name}_loss_raw" in data:
                np.testing.assert_allclose(
                    value.item(), data[f"{prefix}{name}_loss_raw"], rtol=1e-5, atol=1e-6, err_msg=name
                )
        loss = float(data["alpha_fgd"]) * torch.stack(tuple(parts.values())).sum()
        np.testing.assert_allclose(loss.item(), data[f"{prefix}loss"], rtol=1e-5, atol=1e-6)
        if not prefix:
            (gradient,) = torch.autograd.grad(loss, student)
            expected = data["grad_student"]
            assert np.abs(gradient.numpy() - expected).max() < 2e-5 * np.abs(expected).max()


def test_the_foreground_by_hand() -> None:
    """|F| = (1, 3), T = .5, both cells in an object of half the weight each: .5 · 1.964028 · (1 - 3)²."""
    teacher, student = torch.tensor([[[[1.0, 3.0]]]]), torch.ones(1, 1, 1, 2)
    of, targets = grid((1, 2)), objects([[1, 0, 7, 0]])
    (weights,) = object_weights(of, targets, "canvas")
    assert weights.tolist() == [[[0.5, 0.5]]]
    own, other = output(of, (student,), torch.zeros(1, 2, 1)), output(of, (teacher,), torch.zeros(1, 2, 1))
    term = FocalGlobal(box_scale="canvas")
    term.student_contexts, term.teacher_contexts = (torch.nn.ModuleList([torch.nn.Identity()]) for _ in range(2))
    term.adapters.levels.append(torch.nn.Identity())
    parts = term(View(own, other, NOTHING, targets))
    assert parts["foreground"].item() == pytest.approx(3.928055, abs=1e-6)
    assert parts["background"].item() == 0
    assert parts["relation"].item() == pytest.approx(0.005 * 4)


def test_the_smallest_box_wins_and_edges_are_inclusive() -> None:
    of = grid((4, 4))
    (weights,) = object_weights(of, objects([[0, 0, 32, 32], [8, 8, 16, 16]], side=32), "canvas")
    assert weights[0, 0, 0].item() == pytest.approx(1 / 25)  # cells 0 to 4, of which the last is outside
    assert weights[0, 1:3, 1:3].tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert weights[0, 3].tolist() == pytest.approx([1 / 25] * 4)
    assert not object_weights(of, objects([], side=32), "image")[0].any()


def test_box_scale_differs_only_in_padded_images() -> None:
    of = grid((4, 4))
    for side, cells in ((32, (4, 4)), (16, (4, 9))):
        targets = objects([[0, 0, 7, 7]], side=side)
        counts = [int((object_weights(of, targets, scale)[0] > 0).sum()) for scale in SCALES]
        assert tuple(counts) == cells


def test_a_fresh_context_adds_nothing() -> None:
    features = torch.randn(2, 8, 3, 4)
    assert torch.equal(GlobalContext(8)(features), features)
