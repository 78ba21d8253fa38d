"""`detdistill import`: a checkpoint of mmdetection becomes a folder that every other verb takes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from detdistill.cli.parser import Argument, Option
from detdistill.detectors.imported.mmdet_settings import MmdetSettings


@dataclass(frozen=True, kw_only=True)
class Import(MmdetSettings):
    """Import a RetinaNet, FCOS, ATSS, GFL, GFLv2 or VFNet of mmdetection 2.x or 3.x, without mmdetection.

    The layers are read off the weights, all else from the configuration in the checkpoint. What neither tells must be
    given by the options below; it is never guessed. Prints what was found, and where.
    """

    checkpoint: Annotated[Path, Argument("the .pth file")]
    out: Annotated[Path, Option("folder to write the detector to")]
    classes: Annotated[list[str] | None, Option("class names, such as [cat,dog], instead of those in the file")] = None
    number_classes: Annotated[bool, Option("call the classes class_0, class_1, … if the file has no names")] = False

    def run(self) -> None:
        """Writes the folder and prints the findings."""
        from detdistill.detectors.checkpoints import save_detector
        from detdistill.detectors.imported.mmdet import import_mmdet

        settings = MmdetSettings(**{field.name: getattr(self, field.name) for field in fields(MmdetSettings)})
        imported = import_mmdet(
            self.checkpoint, settings=settings, classes=self.classes, number_classes=self.number_classes
        )
        save_detector(imported.detector, self.out, image_size=imported.image_size, provenance=imported.provenance)
        for finding in imported.findings:
            print(f"{finding.what}: {finding.value} ({finding.source})")
        for note in imported.notes:
            print(f"note: {note}")
        print(f"{imported.detector.architecture.head} written to {self.out}")
