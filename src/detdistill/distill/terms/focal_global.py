"""FGD: focal and global knowledge distillation (Yang et al., CVPR 2022, arXiv 2111.11837)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detdistill.core.grid import Grid
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Targets
from detdistill.distill.adapters import FeatureTerm
from detdistill.distill.regions import ignored_cells, largest_by_image
from detdistill.distill.term import FEATURES, Method, Pair, check_temperature
from detdistill.distill.view import View
from detdistill.losses.features import channel_attention, spatial_attention


class FocalGlobal(FeatureTerm):
    """The student imitates the teacher's features, objects and background apart, where the teacher's are strong.

    Per level: squared differences weighted by the teacher's attention over cells and over channels, once by a mask of
    the objects and once by one of the background; the absolute difference of the two detectors' attentions; and the
    squared difference of the maps after a global context block of each detector's own has been added, which learns
    along with the student. All are summed over the map and averaged over images. Published weights are the authors' α,
    of the foreground; the other parts are given relative to it. Their code has γ 1e-3 as its default and 5e-4 in its
    configurations; their paper is said to have 1e-3 and, for anchor-free heads, 8e-3.

    Args:
        background: β / α.
        attention: γ / α.
        relation: λ / α, of the global part.
        temperature: T, above 0, of both attentions; the authors take 0.8 for FCOS.
        box_scale: a box is brought onto the map by the ratio of map and `image` size, as in the authors' code, or of
            map and `canvas`. The first shifts boxes in images that are padded.

    Raises:
        DetdistillError: the temperature is not above 0.
    """

    method = Method(
        paper="Yang et al., CVPR 2022, arXiv 2111.11837",
        compares="pyramid features in objects and in the background, their attention, their global context",
        needs="pyramid features",
        teacher=(FEATURES,),
        weights={"retinanet": 1e-3, "fcos": 1.6e-3, "gfl": 1e-3},
        sources="the authors' configurations (FCOS with temperature 0.8)",
        reported="RetinaNet R50 37.4 to 39.6, FCOS R50 38.5 to 42.1, teachers R101 (the authors)",
    )

    def __init__(
        self,
        *,
        background: float = 0.5,
        attention: float = 0.5,
        relation: float = 0.005,
        temperature: float = 0.5,
        box_scale: Literal["image", "canvas"] = "image",
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.background, self.attention, self.relation = background, attention, relation
        self.temperature, self.box_scale = temperature, box_scale
        self.student_contexts, self.teacher_contexts = nn.ModuleList(), nn.ModuleList()

    def bind(self, pair: Pair) -> list[str]:
        """Makes the adapters and the global context blocks."""
        widths = [level.shape[1] for level in pair.teacher_output.features.maps]
        self.student_contexts = nn.ModuleList(GlobalContext(channels) for channels in widths)
        self.teacher_contexts = nn.ModuleList(GlobalContext(channels) for channels in widths)
        return super().bind(pair)

    def forward(self, view: View) -> dict[str, Tensor]:
        """`foreground`, `background`, `attention` and `relation`."""
        grid = view.student.predictions.grid
        own, other = self.maps(view)
        levels = zip(
            own,
            other,
            object_weights(grid, view.targets, self.box_scale),
            ignored_cells(grid, view.targets),
            self.student_contexts,
            self.teacher_contexts,
            strict=True,
        )
        sums = torch.stack([self._level(*level) for level in levels]).sum(dim=0)
        parts = sums / view.reduce_sum(sums.new_tensor(view.targets.num_images))
        foreground, background, attention, relation = parts.unbind()
        return {
            "foreground": foreground,
            "background": self.background * background,
            "attention": self.attention * attention,
            "relation": self.relation * relation,
        }

    def _level(
        self,
        student: Tensor,
        teacher: Tensor,
        foreground: Tensor,
        ignored: Tensor,
        student_context: nn.Module,
        teacher_context: nn.Module,
    ) -> Tensor:
        """`(4,)` the sums of one level, over the images."""
        places, channels = (
            attention(teacher, self.temperature) for attention in (spatial_attention, channel_attention)
        )
        own_places = spatial_attention(student, self.temperature)
        own_channels = channel_attention(student, self.temperature)
        difference = F.mse_loss(at_least_float32(student), at_least_float32(teacher), reduction="none")
        focus = (difference * channels[:, :, None, None]).sum(dim=1) * places
        own_view, other_view = student_context(student), teacher_context(teacher)
        return torch.stack(
            (
                (focus * foreground).sum(),
                (focus * background_weights(foreground, ignored)).sum(),
                F.l1_loss(own_places, places, reduction="sum") + F.l1_loss(own_channels, channels, reduction="sum"),
                F.mse_loss(at_least_float32(own_view), at_least_float32(other_view), reduction="sum"),
            )
        )


class GlobalContext(nn.Module):
    """Adds to every cell what a learned, softmax-weighted mean over all cells says (Cao et al., GCNet, ICCVW 2019).

    Args:
        channels: of the maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, 1, 1)
        self.transform = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1),
            nn.LayerNorm((channels // 2, 1, 1)),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 2, channels, 1),
        )
        nn.init.kaiming_normal_(self.weigh.weight, nonlinearity="relu")
        assert self.weigh.bias is not None
        nn.init.zeros_(self.weigh.bias)
        for parameter in self.transform[-1].parameters():
            nn.init.zeros_(parameter)  # at first the block adds nothing

    def forward(self, features: Tensor) -> Tensor:
        """Maps `(N, Q, H, W)` to maps of the same shape."""
        weights = self.weigh(features).flatten(2).softmax(dim=-1)
        context = features.flatten(2) @ weights.transpose(1, 2).to(features.dtype)
        result: Tensor = features + self.transform(context[..., None])
        return result


def object_weights(grid: Grid, targets: Targets, box_scale: Literal["image", "canvas"]) -> list[Tensor]:
    """L x `(N, H, W)` weights of cells in objects: 1 / (cells of the box), the largest where boxes overlap, else 0.

    A box spans from the cell it begins in to the one after the cell it ends in, as in the authors' code: one row and
    one column more than it touches.

    Args:
        grid: the cells.
        targets: the objects.
        box_scale: what the size of the map stands for, see `FocalGlobal`.
    """
    sizes = targets.sizes[targets.image].to(targets.boxes).flip(-1).repeat(1, 2)  # (G, 4) width, height, twice
    maps = []
    for (height, width), (step_y, step_x) in zip(grid.sizes, grid.strides, strict=True):
        if box_scale == "image":
            boxes = targets.boxes / sizes * sizes.new_tensor((width, height, width, height))
        else:
            boxes = targets.boxes / sizes.new_tensor((step_x, step_y, step_x, step_y))
        first, last = boxes[:, :2].floor(), boxes[:, 2:].ceil()
        (left, top), (right, bottom) = first[..., None].unbind(dim=1), last[..., None].unbind(dim=1)  # (G, 1) each
        y, x = (torch.arange(length, device=boxes.device) for length in (height, width))
        rows, columns = (top <= y) & (y <= bottom), (left <= x) & (x <= right)  # (G, H), (G, W)
        inside = rows[:, :, None] & columns[:, None, :]
        weights = inside / (last - first + 1).prod(dim=-1)[:, None, None]
        maps.append(largest_by_image(weights, targets))
    return maps


def background_weights(foreground: Tensor, ignored: Tensor) -> Tensor:
    """`(N, H, W)`: 1 / (cells of the image that are in no object and not ignored) at those cells, else 0."""
    background = ((foreground == 0) & ~ignored).to(foreground.dtype)
    return background / background.sum(dim=(1, 2), keepdim=True).clamp(min=1)
