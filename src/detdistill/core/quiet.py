"""Libraries whose talk is of their own matters, not of what our users do."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(*loggers: str, warnings_from: str | None = None) -> Iterator[None]:
    """While it lasts, libraries log nothing below errors and need not warn.

    Args:
        loggers: their names; the root logger's is empty.
        warnings_from: regular expression of the modules whose warnings are dropped; the empty one is any module's, None
            drops none.
    """
    hushed = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in hushed]
    for logger in hushed:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            if warnings_from is not None:
                warnings.filterwarnings("ignore", module=warnings_from)
            yield
    finally:
        for logger, level in zip(hushed, levels, strict=True):
            logger.setLevel(level)
