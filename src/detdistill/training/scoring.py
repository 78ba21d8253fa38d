"""How a run works through the images that it is scored on."""

from __future__ import annotations

from detdistill.detectors.running import InferenceOptions
from detdistill.training.recipe import Recipe


def inference_options(recipe: Recipe) -> InferenceOptions:
    """As fast as training is; in bfloat16 where it trains in it. A precision that is still `auto` is float32."""
    machine = recipe.machine
    return InferenceOptions(
        recipe.evaluation.batch_size,
        machine.workers,
        bf16=machine.precision == "bf16",
        channels_last=machine.channels_last,
    )
