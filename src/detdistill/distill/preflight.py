"""What fits between a teacher and a student, before the first step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from detdistill.core.modules import untouched
from detdistill.core.structures import Targets
from detdistill.distill.compared import DETECTION
from detdistill.distill.distiller import Distiller
from detdistill.distill.opinion_correspondence import left_out

HEADING = (
    "losses of the first batch, before they are weighted; gradient: its length at the student's pyramid features; "
    "auto: a first guess, which follows the gradients until the warm-up is over"
)


@dataclass(frozen=True)
class Loss:
    """One line of the table.

    Attributes:
        name: `detection`, or a term.
        value: of the first batch, before it is weighted.
        gradient: its length at the student's pyramid features, before it is weighted.
        weight: the term's; None for the detection loss, which has none.
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
        """What will hardly work, and what to do."""
        warnings = []
        for loss in self.losses:
            if not (math.isfinite(loss.value) and math.isfinite(loss.gradient)):
                warnings.append(
                    f"{loss.name} is not finite in the first batch: training would stop at once. Is the teacher "
                    "trained, and are its inputs right? Try machine.precision float32"
                )
            elif loss.gradient == 0 and (loss.is_automatic or loss.weight != 0):
                warnings.append(
                    f"{loss.name} gives no gradient in the first batch, so that the student learns nothing from it. "
                    "Are there objects in the batch, do the compared levels and classes have some of them, and do "
                    "teacher and student differ? If all is so, leave it out"
                )
        return tuple(warnings)

    def __str__(self) -> str:
        width = max(len(loss.name) for loss in self.losses)
        lines = [*self.notes, HEADING, f"  {'':{width}} {'loss':>9} {'gradient':>9} {'weight':>9}"]
        for loss in self.losses:
            weight = 1.0 if loss.weight is None else loss.weight
            row = f"  {loss.name:{width}} {loss.value:9.3g} {loss.gradient:9.3g} {weight:9.3g}"
            lines.append(f"{row} (auto, at first)" if loss.is_automatic else row)
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
    matched = compared.matches[compared.output.final].matched
    notes = dict.fromkeys(
        line for view in compared.views if view.by_opinion for line in left_out(view, matched, compared.targets)
    )
    for name, value in compared.terms.items():
        own = distiller.weighting.terms[name]
        options = own.options
        found = own.ratio * detection.gradient / lengths[name] if lengths[name] else 0.0
        weight = found if options.value is None else options.value
        losses.append(Loss(name, float(value.detach()), lengths[name], weight, is_automatic=options.value is None))
    return Preflight((*distiller.notes, *notes), tuple(losses))
