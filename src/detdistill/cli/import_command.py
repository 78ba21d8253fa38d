"""`detdistill import`: turns a checkpoint of mmdetection or torchvision into a folder that every other verb takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter, Token

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing.mmdet_settings import MmdetSettings

SHOWN_CLASSES = 5


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
    """Import RetinaNet, FCOS, ATSS, GFL, GFLv2 or VFNet of mmdetection 2.x or 3.x; RetinaNet or FCOS of torchvision.

    The layers are read off the weights; for mmdetection, all else is read from the configuration in the checkpoint.
    What neither tells must be given by the options below; it is never guessed. Prefixes of wrappers (DDP,
    torch.compile, Lightning, EMA, distillation) are removed from the names of the weights. Prints what was found, and
    where.
    """

    default_parameter: ClassVar = Parameter(converter=from_yaml, n_tokens=1, json_list=False, negative_bool="no-")
    checkpoint: Annotated[Path, Parameter(help="Checkpoint file, .pth or .safetensors.")]
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
            help="torchvision only: 0 if it started from the published RetinaNet, 1e-5 if from an ImageNet backbone."
        ),
    ] = None

    settings: Annotated[MmdetSettings, Parameter(name="*", group="mmdetection")] = field(default_factory=MmdetSettings)

    def run(self) -> None:
        """Writes the folder and prints the findings."""
        from detdistill.core.files import check_new
        from detdistill.detectors.importing.mmdet_keys import is_torchvision
        from detdistill.detectors.importing.weights_file import read_weights

        check_new(self.out)
        weights = read_weights(self.checkpoint)
        if is_torchvision(weights.state):
            self._import_torchvision(weights.notes)
        else:
            self._import_mmdet()

    def _import_mmdet(self) -> None:
        from detdistill.detectors.importing.mmdet import import_mmdet
        from detdistill.detectors.saving import save_detector

        if self.frozen_norm_eps is not None:
            raise DetdistillError(f"{self.checkpoint} is none of torchvision's detectors: leave --frozen-norm-eps out")
        imported = import_mmdet(
            self.checkpoint, settings=self.settings, classes=self.classes, number_classes=self.number_classes
        )
        save_detector(imported.detector, self.out, image_size=imported.image_size, provenance=imported.provenance)
        for finding in imported.findings:
            print(f"{finding.what}: {finding.value} ({finding.source})")
        for note in imported.notes:
            print(f"note: {note}")
        print(f"{imported.detector.architecture.kind} written to {self.out}")

    def _import_torchvision(self, notes: Sequence[str]) -> None:
        from detdistill.core.image_options import ImageSize
        from detdistill.detectors.importing.torchvision_weights import import_torchvision
        from detdistill.detectors.saving import save_detector

        if self.settings != MmdetSettings():
            raise DetdistillError(
                f"{self.checkpoint} is of torchvision, which fixes all settings: leave out all options but --out, "
                "--classes, --number-classes and --frozen-norm-eps"
            )
        detector = import_torchvision(
            self.checkpoint, self.classes, frozen_norm_eps=self.frozen_norm_eps, number_classes=self.number_classes
        )
        with self.checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        provenance = {"imported_from": self.checkpoint.name, "sha256": digest}
        # torchvision's detectors resize to 800 and at most 1333 pixels by default.
        save_detector(detector, self.out, image_size=ImageSize(800, 1333), provenance=provenance)
        print(f"network: {detector.architecture.name} (weights)")
        more = " …" if len(detector.classes) > SHOWN_CLASSES else ""
        print(f"classes: {len(detector.classes)}, {', '.join(detector.classes[:SHOWN_CLASSES])}{more}")
        for note in notes:
            print(f"note: {note}")
        print(f"{detector.architecture.name} written to {self.out}")
