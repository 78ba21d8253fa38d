"""The command line: every verb is one dataclass in one of this package's files and calls one public function.

Nothing here may import torch, numpy or pydantic outside a verb's `run`: help must answer at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, Group, Parameter

from detdistill.cli.parser import parse
from detdistill.core.allocation import keep_freed_memory
from detdistill.core.console import print_err
from detdistill.core.errors import DetdistillError, SettingsError

NESTED = {"data": "Inspect, split, convert or generate a dataset.", "recipe": "Print recipes and their schema."}
"""Words that stand before a verb, with their help."""
VERBS: dict[str, dict[str, tuple[str, str]]] = {
    "Data": {
        "data inspect": ("data_command:Inspect", "Count, check and draw a dataset."),
        "data split": ("data_command:Split", "Split a dataset into train, val and test."),
        "data convert": ("convert_command:Convert", "Write a dataset as COCO, PASCAL VOC or YOLO."),
        "data scenes": (
            "data_command:Scenes",
            "Generate a small synthetic dataset: handwritten digits on photographs.",
        ),
    },
    "Training": {
        "train": ("train_command:Train", "Train a detector: a teacher, a baseline, a start for distillation."),
        "distill": ("distill_command:Distill", "Train a student that learns from a teacher."),
        "check": ("distill_command:Check", "Check whether teacher and student are compatible."),
        "methods": ("methods_command:Methods", "List the distillation methods."),
        "recipe show": ("recipe_command:Show", "Print a recipe with all its keys, defaults filled in."),
        "recipe schema": ("recipe_command:Schema", "Write the JSON schema of recipes."),
    },
    "Comparison": {
        "compare": ("compare_command:Compare", "Compare methods over seeds."),
        "analyze": ("analyze_command:Analyze", "Explain why a student lags behind its teacher."),
    },
    "Detectors": {
        "evaluate": ("evaluate_command:Evaluate", "Score a detector on a dataset."),
        "benchmark": ("benchmark_command:Benchmark", "Measure parameters, latency and AP of detectors side by side."),
        "import": (
            "import_command:Import",
            "Import a pretrained detector of mmdetection or torchvision, or an ONNX file as a teacher.",
        ),
        "predict": ("predict_command:Predict", "Find objects in images."),
        "export": ("export_command:Export", "Write a detector as an ONNX file, and verify it."),
        "publish": (
            "publish_command:Publish",
            "Write a folder with weights, ONNX file and model card, ready to share.",
        ),
    },
}
"""Every verb by its name, in the groups that help shows: its dataclass, which is imported when it is used, and its
help."""


def build_app() -> App:
    """Return the parser of the command line."""
    app = App(
        name="detdistill",
        help="Train small, fast object detectors from large ones, and measure whether it helped.",
        version=_version,
        help_format="plaintext",
        default_parameter=Parameter(negative_bool=(), negative_iterable=(), allow_repeating=True),
    )
    app.register_install_completion_command(add_to_startup=False)
    nested: dict[str, App] = {}
    for title, verbs in VERBS.items():
        group = Group.create_ordered(title)
        for name, (place, text) in verbs.items():
            first, _, second = name.partition(" ")
            if second and first not in nested:
                nested[first] = App(name=first, help=NESTED[first], group=group)
                app.command(nested[first])
            if second:
                nested[first].command(f"{__name__}.{place}", name=second, help=text)
            else:
                app.command(f"{__name__}.{place}", name=first, help=text, group=group)
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("detdistill")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The words after the program's name; None for those of this process.

    Returns:
        The exit status: 0, 1 after an error that the user can fix, 2 after a wrong option or recipe, 130 after Ctrl-C,
        141 when the reader of our output went away.
    """
    keep_freed_memory()
    if not sys.warnoptions:  # libraries warn their callers, not our users; `python -W` shows it
        warnings.simplefilter("ignore")
    try:
        try:
            parse(build_app(), arguments).run()
        finally:
            sys.stdout.flush()
    except DetdistillError as error:
        print_err(f"error: {error}")
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
