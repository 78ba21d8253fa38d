"""A teacher and its students, from run folders to the page of an analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from detdistill.analysis.measure import Measured, measure
from detdistill.analysis.page import JSON, PAGE, write_analysis
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import options_for
from detdistill.core.overwriting import check_outputs
from detdistill.core.run_names import names_of
from detdistill.data.source import DatasetLike, check_dataset_outputs, opened
from detdistill.detectors.description import FILE_NAME
from detdistill.detectors.running import InferenceOptions, chosen_device
from detdistill.detectors.storage import files_of_detector, load_detector, read_description
from detdistill.evaluation.evaluating import warn_if_trained_on
from detdistill.teachers.loading import GivenTeacher, NamedTeacher, as_teacher, load_teachers


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a teacher has that its students lack.

    Attributes:
        measured: Ranks, differences, scores and errors.
        verdict: What they mean, a sentence each.
        page: The page that shows them.
    """

    measured: Measured
    verdict: tuple[str, ...]
    page: Path


def analyze(
    teacher: NamedTeacher | GivenTeacher,
    students: Sequence[str | PathLike[str]],
    dataset: DatasetLike,
    out: str | PathLike[str],
    *,
    class_map: Mapping[str, str] | None = None,
    device: str | None = None,
    options: InferenceOptions = InferenceOptions(),
) -> Analysis:
    """Analyze why students lag behind their teacher: ranks, features and errors, on one page.

    All detectors run once over the images, resized to the image size of the first student. A warning on standard error
    says if a student was trained on these images. Of a teacher without scores on the students' cells, such as one of
    stored detections, only boxes and opinions are compared.

    Args:
        teacher: Anything that `distill` takes as a teacher, such as the folder of a detector; of several the boxes
            are joined.
        students: Different folders of such detectors, with the same classes, at least one; the last parts of their
            paths are their names.
        dataset: Annotated images, or where they are; its classes are among the students'.
        out: Folder to write `analysis.html` and `analysis.json` to, created if it does not exist.
        class_map: Classes of the teacher that mean a student's under another name.
        device: Such as `cpu` or `cuda:1`; None for a GPU if there is one.
        options: Batches, precision, loading processes.

    Raises:
        DetdistillError: A folder cannot be loaded or is given twice, the image size is not known, teacher and students
            have no class in common, the teacher predicts no boxes, or an output cannot be written or would replace an
            input.
        DataError: The dataset cannot be opened, or has a class that the students lack.
    """
    if not students:
        raise DetdistillError("students: none given; expected at least one run folder")
    if isinstance(teacher, Sequence) and not teacher:
        raise DetdistillError("teacher: none given; expected the folder of a detector, or another teacher")
    out, folders, sources = Path(out), [Path(student) for student in students], _sources(teacher)
    names = names_of(folders)
    place = chosen_device(device)
    loaded = {name: load_detector(folder).to(place) for name, folder in zip(names, folders, strict=True)}
    size = read_description(folders[0]).input.size
    if size is None:
        raise DetdistillError(
            f"{folders[0] / 'model.json'} does not tell the size of images that the student was made for"
        )
    truth = opened(dataset)
    for folder in folders:
        warn_if_trained_on(folder, truth)
    outputs = {out / name: "--out" for name in (PAGE, JSON)}
    files = [file for folder in folders for file in files_of_detector(folder)]
    files += [file for source in sources for file in _files_of_teacher(source)]
    check_outputs(outputs, files, makes_folders=True)
    check_dataset_outputs(outputs, dataset, truth, makes_folders=True)
    if isinstance(teacher, str | PathLike | Sequence):
        asked = load_teachers(sources, truth, channels_last=options.channels_last)
    else:
        asked = as_teacher(teacher, channels_last=options.channels_last)
    measured = measure(asked, loaded, truth, options_for(size), options, class_map=class_map)
    return Analysis(measured, tuple(write_analysis(measured, out)), out / PAGE)


def _sources(teacher: NamedTeacher | GivenTeacher) -> list[str]:
    """Names of one teacher or several; none for an object."""
    if isinstance(teacher, str | PathLike):
        return [str(teacher)]
    return [str(each) for each in teacher] if isinstance(teacher, Sequence) else []


def _files_of_teacher(source: str) -> list[Path]:
    """What a teacher is read from, as far as it is a file or a folder."""
    path = Path(source).expanduser()
    if (path / FILE_NAME).exists():
        return files_of_detector(path)
    return [path] if path.exists() else []
