"""Parts of a detector that training leaves as they are."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.backbones import Backbone, feature_info
from detdistill.training.recipe import Start


def freeze(detector: nn.Module, backbone: Backbone, start: Start) -> tuple[nn.Module, ...]:
    """Takes the frozen parameters out of training.

    Args:
        detector: is changed.
        backbone: part of it.
        start: what is frozen.

    Returns:
        The modules that must stay in evaluation mode, each by itself, whatever mode the detector is put in.

    Raises:
        DetdistillError: more stages than the backbone has.
    """
    norms: list[nn.Module] = [module for module in detector.modules() if isinstance(module, _BatchNorm)]
    if start.batch_norm == "frozen":
        for norm in norms:
            norm.requires_grad_(requires_grad=False)
    still = norms if start.batch_norm in ("eval", "frozen") else []
    return (*still, *_freeze_stages(backbone, start.frozen_stages))


def _freeze_stages(backbone: Backbone, stages: int) -> list[nn.Module]:
    if stages == 0:
        return []
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
