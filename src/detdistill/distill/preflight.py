"""What fits between a teacher and a student, before the first step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from detdistill.distill.distiller import DETECTION, Distiller
from detdistill.modules import untouched
from detdistill.structures import Targets


@dataclass(frozen=True)
class Loss:
    """One line of the table.

    Attributes:
        name: `detection`, or a term.
        value: of the first batch, before it is weighted.
        gradient: its length at the student's pyramid features.
        weight: the term's; None for the detection loss.
        is_automatic: the weight was found here, and will be found anew in training.
    """

    name: str
    value: float
    gradient: float
    weight: float | None = None
    is_automatic: bool = False


@dataclass(frozen=True)
class Preflight:
    """What fits, what was adapted, and how large the losses are; as a string, in plain words.

    Attributes:
        notes: a line each.
        losses: of one batch.
    """

    notes: tuple[str, ...]
    losses: tuple[Loss, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What will hardly work."""
        return tuple(
            f"{loss.name} gives no gradient in the first batch: nothing of it reaches the student"
            for loss in self.losses
            if loss.gradient == 0 and loss.weight != 0
        )

    def __str__(self) -> str:
        width = max(len(loss.name) for loss in self.losses)
        lines = [*self.notes, f"{'loss of the first batch':{width + 8}} value  gradient  weight"]
        for loss in self.losses:
            weight = "" if loss.weight is None else f"{loss.weight:8.3g}{' (auto)' if loss.is_automatic else ''}"
            lines.append(f"  {loss.name:{width}} {loss.value:11.3g} {loss.gradient:9.3g} {weight}".rstrip())
        return "\n".join([*lines, *(f"WARNING: {warning}" for warning in self.warnings)])


def preflight(distiller: Distiller, images: Tensor, targets: Targets) -> Preflight:
    """Compares teacher and student on one batch, in training mode; both are left as they were.

    Args:
        distiller: built for the pair: what cannot fit was an error there.
        images: `(N, 3, H, W)` RGB, 0 to 255.
        targets: their objects.
    """
    with untouched(distiller):
        distiller.train()
        compared = distiller.compare(images, targets)
        lengths = {name: float(square.sqrt()) for name, square in compared.squared_lengths().items()}
    detection = Loss(DETECTION, sum(float(value.detach()) for value in compared.detection.values()), lengths[DETECTION])
    losses = [detection]
    for name, value in compared.terms.items():
        weight = distiller.weighting.terms[name].options
        found = weight.ratio * detection.gradient / lengths[name] if lengths[name] else 0.0
        is_automatic = weight.value is None
        losses.append(
            Loss(
                name,
                float(value.detach()),
                lengths[name],
                found if weight.value is None else weight.value,
                is_automatic,
            )
        )
    return Preflight(tuple(distiller.notes), tuple(losses))
