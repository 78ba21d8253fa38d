"""`docs/reference/api.md`: the public Python API, with signatures and the first paragraph of each docstring."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from typing import Any

INTRODUCTION = """\
# Python API

Functions and classes by task. Everything is typed (`py.typed`); the docstrings have shapes,
units, ranges and errors. Importing `detdistill` imports neither torch nor numpy. Errors that a user can mend are
`DetdistillError`s.

This page is written by `python -m docs.generate`; a test compares the two.
"""

GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "Load and use a detector": {
        "detdistill": ("load", "train", "distill"),
        "detdistill.detectors.base": ("Detector",),
        "detdistill.detectors.predicting": ("detect_in_images",),
        "detdistill.detectors.running": ("InferenceOptions",),
        "detdistill.evaluation.predict_images": ("predict_images", "PredictedImages"),
        "detdistill.data.finding": ("find_pictures",),
        "detdistill.evaluation.predict": ("predict",),
        "detdistill.evaluation.storing": ("store_detections", "StoredSplits"),
        "detdistill.core.image_options": ("ImageOptions",),
    },
    "Data": {
        "detdistill.data.opening": ("open_dataset", "find_splits"),
        "detdistill.data.source": ("DatasetSource",),
        "detdistill.data.inspecting": ("inspect_parts", "InspectedPart"),
        "detdistill.data.comparing": ("Comparison", "read_others"),
        "detdistill.data.near_duplicates": ("near_copies", "Copies"),
        "detdistill.core.annotations": ("DetectionDataset", "ImageRecord"),
        "detdistill.core.rle": ("bitmap_of", "rle_of_bitmap", "rle_of_polygons"),
        "detdistill.core.instance_masks": ("InstanceMasks",),
        "detdistill.core.mask_targets": ("binary_mask_targets", "soft_mask_targets"),
        "detdistill.core.mask_pasting": ("paste_masks",),
        "detdistill.data.splitting": ("split_dataset",),
        "detdistill.data.writing.converting": ("convert_dataset", "write_split"),
        "detdistill.data.writing.dataset": ("write_dataset",),
        "detdistill.data.scenes": ("write_scenes",),
    },
    "Train, distil, compare, analyze": {
        "detdistill.training.recipe_file": ("read_recipe", "write_recipe"),
        "detdistill.training.distillation_settings": ("Distillation", "Unlabelled"),
        "detdistill.training.recipe": ("Recipe", "Start", "Schedule"),
        "detdistill.training.run": ("train", "distill", "check"),
        "detdistill.training.summary": ("Summary",),
        "detdistill.core.allocation": ("keep_freed_memory",),
        "detdistill.compare.plan": ("read_plan", "Plan"),
        "detdistill.compare.comparison": ("compare", "Comparison"),
        "detdistill.compare.outcome": ("run_cell", "Outcome"),
        "detdistill.compare.cluster": ("Cluster",),
        "detdistill.analysis.analyzing": ("analyze", "Analysis"),
        "detdistill.analysis.measure": ("measure",),
        "detdistill.analysis.page": ("write_analysis",),
    },
    "Losses, as functions of tensors": {
        "detdistill.losses": (
            "rank_mimicking",
            "prediction_guided_imitation",
            "feature_imitation",
            "binary_kl",
            "softmax_kl",
            "modulated_binary_cross_entropy",
            "plackett_luce",
        ),
    },
    "Distillation in your own loop": {
        "detdistill.distill.distiller": ("Distiller",),
        "detdistill.distill.memory": ("TeacherMemory",),
        "detdistill.teachers.loading": ("load_teacher",),
        "detdistill.detectors.dense.folding": ("folded",),
        "detdistill.distill.preflight": ("preflight",),
        "detdistill.distill.weighting": ("Weight",),
        "detdistill.distill.methods": ("list_methods",),
        "detdistill.distill.term": ("Term",),
        "detdistill.distill.terms.rank_mimicking": ("RankMimicking",),
        "detdistill.distill.terms.prediction_guided": ("PredictionGuided",),
    },
    "Detectors": {
        "detdistill.detectors.dense.architecture": (
            "Architecture",
            "FeaturePyramid",
            "Towers",
            "TorchvisionArchitecture",
        ),
        "detdistill.detectors.dense.detector": ("DenseDetector",),
        "detdistill.detectors.conformance": ("check_detector",),
        "detdistill.detectors.ignoring": ("ignore_background",),
        "detdistill.detectors.storage": ("load_detector", "store_thresholds"),
        "detdistill.detectors.dense.backbone_weights": ("load_backbone_weights",),
        "detdistill.detectors.dense.efficientnet_lite": ("efficientnet_lite0_file",),
        "detdistill.detectors.importing.import_checkpoint": ("import_checkpoint", "Imported"),
        "detdistill.detectors.importing.mmdet": ("import_mmdet",),
        "detdistill.detectors.importing.torchvision_weights": ("import_torchvision",),
        "detdistill.teachers.onnx.importing_onnx": ("import_onnx", "ImportedOnnx"),
        "detdistill.teachers.onnx.onnx_settings": ("CardSettings",),
        "detdistill.core.normalization": ("Normalization",),
    },
    "What detectors exchange": {
        "detdistill.core.grid": ("Grid",),
        "detdistill.core.output": ("Output", "Predictions", "Candidates", "Features"),
        "detdistill.core.structures": ("Targets", "TeacherImages", "Assignment", "Detections"),
        "detdistill.core.draws": ("Draws",),
        "detdistill.core.input_spec": ("InputSpec",),
        "detdistill.detectors.dense.priors": ("PriorLayout",),
    },
    "Scores": {
        "detdistill.evaluation.evaluating": ("evaluate", "Evaluation", "evaluate_detections", "Scored", "scores_of"),
        "detdistill.evaluation.score": ("score",),
        "detdistill.evaluation.coco_metrics": ("coco_metrics", "CocoMetrics"),
        "detdistill.evaluation.voc_metrics": ("voc_metrics", "VocMetrics"),
        "detdistill.evaluation.results": ("Results",),
        "detdistill.evaluation.results_file": ("read_results", "write_results"),
    },
    "Ship": {
        "detdistill.deploy.export": ("export",),
        "detdistill.deploy.onnx": ("export_onnx",),
        "detdistill.deploy.publish": ("publish",),
        "detdistill.deploy.benchmarking": ("benchmark", "Benchmark"),
        "detdistill.deploy.latency": ("sizes_of", "speeds_of"),
    },
    "Errors": {"detdistill.core.errors": ("DetdistillError", "DataError", "LeftOutError")},
}


def page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION]
    for title, modules in GROUPS.items():
        parts.append(f"## {title}\n")
        parts += [_entry(module, name) for module, names in modules.items() for name in names]
    return "\n".join(parts)


def _entry(module: str, name: str) -> str:
    found = getattr(importlib.import_module(module), name)
    kind = "class " if inspect.isclass(found) else ""
    text = (inspect.getdoc(found) or "").split("\n\n")[0]
    return f"### {name}\n\n`{kind}{module}.{name}{_signature(found)}`\n\n{text}\n"


def _signature(found: Any) -> str:
    """Arguments with types and defaults; nothing for errors, protocols and abstract classes, which nobody calls."""
    if inspect.isclass(found) and (
        issubclass(found, BaseException) or inspect.isabstract(found) or getattr(found, "_is_protocol", False)
    ):
        return ""
    signature = inspect.signature(found)
    texts = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in texts:
            texts.append("*")
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        texts.append(f"{parameter.name}: {parameter.annotation}{default}")
    returned = "" if inspect.isclass(found) else f" -> {signature.return_annotation}"
    return f"({', '.join(texts)}){returned}"


def _default(value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}(…)"
    return getattr(value, "__name__", "…" if repr(value) == "<factory>" else repr(value))
