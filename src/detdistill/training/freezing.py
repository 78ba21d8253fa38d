"""The state in which a detector is trained: parts of it can be left as they are."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detdistill.core.errors import DetdistillError
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.backbones import Backbone, feature_info
from detdistill.training.recipe import Recipe, Start
from detdistill.training.task import Task


def make_ready(task: Task, recipe: Recipe, device: torch.device) -> None:
    """Put a task into the state in which it is trained: in training mode but for what is frozen, on its device.

    Args:
        task: Is changed.
        recipe: Of the run.
        device: Where it is trained.

    Raises:
        DetdistillError: As in `freeze`.
    """
    task.train()
    for module in freeze(task.detector, recipe.start):
        module.training = False
    if recipe.machine.channels_last:
        task.detector.to(memory_format=torch.channels_last)
    task.to(device)


def freeze(detector: Detector, start: Start) -> tuple[nn.Module, ...]:
    """Takes the frozen parameters out of training.

    Args:
        detector: is changed.
        start: what is frozen.

    Returns:
        The modules that must stay in evaluation mode, each by itself, whatever mode the detector is put in.

    Raises:
        DetdistillError: more stages than the backbone has, or it is none whose stages are known.
    """
    norms: list[nn.Module] = [module for module in detector.modules() if isinstance(module, _BatchNorm)]
    if start.batch_norm == "frozen":
        for norm in norms:
            norm.requires_grad_(requires_grad=False)
    still = norms if start.batch_norm in ("eval", "frozen") else []
    return (*still, *_freeze_stages(detector, start.frozen_stages))


def _freeze_stages(detector: Detector, stages: int) -> list[nn.Module]:
    if stages == 0:
        return []
    backbone = detector.backbone_module
    if not isinstance(backbone, Backbone):
        raise DetdistillError(
            f"start.frozen_stages is {stages}, and the stages of this {detector.kind}'s backbone are not known; set it "
            "to 0, or lower optimization.backbone_factor"
        )
    network = backbone.network
    ends = {info["reduction"]: info["module"] for info in feature_info(network).info}
    if 2 * 2**stages not in ends:
        raise DetdistillError(
            f"start.frozen_stages is {stages}, and the backbone has no map of stride {2 * 2**stages}; it has those of "
            f"the strides {', '.join(map(str, ends))}"
        )
    end = ends[2 * 2**stages]
    # timm flattens `stages.0` to `stages_0` where it unwraps a network; modules are registered in their order of use.
    ending = (end, end.replace(".", "_"))

    def is_within(name: str) -> bool:
        return any(name == module or name.startswith(f"{module}.") for module in ending)

    parameters, modules = list(network.named_parameters()), list(network.named_modules())
    last = max(index for index, (name, _) in enumerate(parameters) if is_within(name))
    for _, parameter in parameters[: last + 1]:
        parameter.requires_grad = False
    last = max(index for index, (name, _) in enumerate(modules) if is_within(name))
    return [module for _, module in modules[1 : last + 1]]
