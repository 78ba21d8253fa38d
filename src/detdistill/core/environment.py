"""What a record says of the machine that it was made on."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")


def machine() -> str:
    """System, processor, number of cores, and GPUs.

    The processor is told to its model, for the same run gives slightly other weights on another one: kernels add up in
    an order that fits its caches and instructions.
    """
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ", ".join([f"{platform.system()} {platform.machine()}", _processor(), f"{os.cpu_count()} cores", *gpus])


def _processor() -> str:
    try:
        # The first processor's entry; the others are like it.
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        lines = []
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" in told:
        return f"{told['model name']} (model {told['model']})" if "model" in told else told["model name"]
    return platform.processor() or "unknown processor"
