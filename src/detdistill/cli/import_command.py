"""`detdistill import`: turns a checkpoint of another library, or an ONNX file, into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter, Token

from detdistill.core.console import print_out
from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.choices import RcnnName
from detdistill.detectors.importing.effdet_settings import EffdetSettings
from detdistill.detectors.importing.mmdet_settings import MmdetSettings
from detdistill.teachers.onnx.onnx_settings import NOTHING_KNOWN, CardSettings

ONNX = ".onnx"


def from_yaml(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert an option's value as a recipe's is: a scalar, or a list in brackets."""
    from detdistill.core.settings import from_values
    from detdistill.training.yaml_values import read_word

    try:
        return from_values(kind, read_word(tokens[0].value), key=tokens[0].keyword or "the value")
    except DetdistillError as error:
        raise ValueError(str(error)) from None


@dataclass(frozen=True)
class Import:
    """Import a detector of mmdetection 2.x or 3.x, torchvision or effdet, or an ONNX file.

    From mmdetection RetinaNet, FCOS, ATSS, GFL, GFLv2, VFNet, Faster, Mask and Cascade R-CNN are imported, from
    torchvision RetinaNet, FCOS, Faster and Mask R-CNN, from effdet EfficientDet. The layers are read off the weights;
    for mmdetection, all else is read from the configuration in the checkpoint. What neither tells must be given by the
    options below; it is never guessed. An effdet file needs `--effdet.preset` and class names. Prefixes of wrappers
    (DDP, torch.compile, Lightning, EMA, distillation) are removed from the names of the weights. Prints what was found,
    and where.

    An ONNX file becomes the folder of a teacher (`--teacher FOLDER`). The files of D-FINE, DEIM, RT-DETR, D-FINE-seg,
    RF-DETR, Ultralytics YOLO and RT-DETR, transformers, and `detdistill export` are recognised; describe others by the
    options `--card.…`.
    """

    default_parameter: ClassVar = Parameter(converter=from_yaml, n_tokens=1, json_list=False, negative_bool="no-")
    checkpoint: Annotated[Path, Parameter(help="Checkpoint file, .pth or .safetensors, or ONNX file, .onnx.")]
    _: KW_ONLY
    out: Annotated[Path, Parameter(help="Output folder.")]
    classes: Annotated[
        list[str] | None, Parameter(help="Class names, such as [cat,dog], instead of those in the file.")
    ] = None
    number_classes: Annotated[
        bool,
        Parameter(
            n_tokens=0,
            negative=(),
            help="Name the classes class_0, class_1, … if the file has no names, or another number of them.",
        ),
    ] = False
    frozen_norm_eps: Annotated[
        float | None,
        Parameter(
            help="torchvision only: 0 if it started from published COCO weights, 1e-5 if from an ImageNet backbone."
        ),
    ] = None
    network: Annotated[
        RcnnName | None,
        Parameter(help="torchvision's two-stage detectors only: its name of the model, where weights do not tell."),
    ] = None

    settings: Annotated[MmdetSettings, Parameter(name="*", group="mmdetection")] = field(default_factory=MmdetSettings)
    effdet: Annotated[EffdetSettings, Parameter(group="effdet")] = field(default_factory=EffdetSettings)
    card: Annotated[CardSettings, Parameter(group="ONNX")] = field(default_factory=CardSettings)

    def run(self) -> None:
        """Writes the folder and prints the findings."""
        if self.checkpoint.suffix.lower() == ONNX:
            self._import_onnx()
            return
        if self.card != NOTHING_KNOWN:
            raise DetdistillError(
                f"{self.checkpoint}: the options --card.… are for ONNX files; expected a name that ends in {ONNX}, or "
                "no such options"
            )
        from detdistill.detectors.importing.import_checkpoint import import_checkpoint

        imported = import_checkpoint(
            self.checkpoint,
            self.out,
            settings=self.settings,
            classes=self.classes,
            number_classes=self.number_classes,
            frozen_norm_eps=self.frozen_norm_eps,
            network=self.network,
            effdet=self.effdet,
        )
        for finding in imported.findings:
            print_out(f"{finding.what}: {finding.value} ({finding.source})")
        for note in imported.notes:
            print_out(f"note: {note}")
        print_out(f"{imported.name} written to {self.out}")

    def _import_onnx(self) -> None:
        from detdistill.teachers.onnx.importing_onnx import import_onnx

        if (
            self.settings != MmdetSettings()
            or self.frozen_norm_eps is not None
            or self.network is not None
            or self.effdet != EffdetSettings()
        ):
            raise DetdistillError(
                f"{self.checkpoint}: options of mmdetection, torchvision and effdet are not for ONNX files: use "
                "--card.…, see `detdistill import --help`"
            )
        imported = import_onnx(
            self.checkpoint,
            self.out,
            settings=self.card,
            classes=self.classes,
            number_classes=self.number_classes,
        )
        for finding in imported.findings:
            print_out(f"{finding.name}: {finding.value} ({finding.source})")
        for note in imported.notes:
            print_out(f"note: {note}")
        offers = ", ".join(sorted(imported.teacher.offers))
        print_out(f"{imported.teacher.kind} written to {self.out}; as a teacher it offers: {offers}")
