from __future__ import annotations

import logging
import warnings

import pytest

from detdistill.core.quiet import quiet


def test_errors_are_still_logged(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("talkative")
    with quiet("talkative"):
        logger.warning("advice")
        logger.error("broken")
    assert [record.message for record in caplog.records] == ["broken"]


def test_levels_come_back_even_after_an_error() -> None:
    logger = logging.getLogger("talkative")
    logger.setLevel(logging.INFO)
    with pytest.raises(KeyError), quiet("talkative", ""):
        raise KeyError
    assert logger.level == logging.INFO
    assert logging.getLogger().level != logging.ERROR


@pytest.mark.parametrize(("modules", "heard"), [(None, True), ("", False), (r"pytorch_lightning", True)])
def test_warnings_of_some_modules_are_dropped(modules: str | None, heard: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with quiet(warnings_from=modules):
            warnings.warn("advice", stacklevel=1)
    assert bool(caught) == heard
