"""One class list for several data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError


def with_classes(dataset: DetectionDataset, classes: Sequence[str]) -> DetectionDataset:
    """The same images and objects, with labels that are indices into another class list, matched by name.

    Args:
        dataset: a validation set, for example.
        classes: the classes of the training set or of a model.

    Returns:
        The data set with these classes in this order. Each keeps the id that it has in the data set's own files; a
        class that those do not have gets an unused id.

    Raises:
        DataError: the data set has a class that `classes` lacks.
    """
    if dataset.classes == tuple(classes):
        return dataset
    unknown = [name for name in dataset.classes if name not in classes]
    if unknown:
        raise DataError(
            f"{dataset.source}: the classes {', '.join(map(repr, unknown))} are not among the expected ones "
            f"({', '.join(map(repr, classes))}); rename them in the annotations or remove them"
        )
    new_label = np.array([classes.index(name) for name in dataset.classes], dtype=np.int32)
    own_ids = dict(zip(dataset.classes, dataset.category_ids, strict=True))
    unused = count(max(dataset.category_ids, default=0) + 1)
    return replace(
        dataset,
        classes=tuple(classes),
        category_ids=tuple(own_ids[name] if name in own_ids else next(unused) for name in classes),
        images=replace(dataset.images, labels=new_label[dataset.images.labels]),
    )


def with_common_classes(datasets: Sequence[DetectionDataset]) -> list[DetectionDataset]:
    """Give several parts of one dataset the same class list, without losing a class of any of them.

    Parts may differ: PASCAL VOC names only the classes that occur in a part. Category ids are kept where the parts
    agree on them, and the classes then follow their ids. Otherwise the ids are 1, 2, 3 …; the classes are sorted by
    name where each part has them sorted, else they keep the order in which the parts name them.

    Args:
        datasets: the parts, at least one.

    Returns:
        The same images and objects, all with the same `classes` and `category_ids`, the ids ascending.
    """
    names = list(dict.fromkeys(name for dataset in datasets for name in dataset.classes))
    pairs = {pair for dataset in datasets for pair in zip(dataset.classes, dataset.category_ids, strict=True)}
    agreed = len(pairs) == len(names) == len({category_id for _, category_id in pairs})
    if agreed and all(list(dataset.category_ids) == sorted(dataset.category_ids) for dataset in datasets):
        id_of = dict(pairs)
        names.sort(key=id_of.__getitem__)
        category_ids = tuple(id_of[name] for name in names)
    else:
        if all(list(dataset.classes) == sorted(dataset.classes) for dataset in datasets):
            names.sort()
        category_ids = tuple(range(1, len(names) + 1))
    return [replace(with_classes(dataset, names), category_ids=category_ids) for dataset in datasets]
