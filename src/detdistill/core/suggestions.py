"""The option that a misspelt word may have meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

_WORD = re.compile(r"--[\w.-]+|'([\w.-]+)'")


def did_you_mean(message: str, known: Collection[str]) -> str:
    """A line with the known words that come closest to the options and quoted words of an error message.

    Args:
        message: such as `unrecognized arguments: --schedule.epoch 3`.
        known: every option, with its dashes if it has some; a key inside a group is also found without the group.

    Returns:
        `did you mean …?` on a line of its own, or nothing.
    """
    misspelt = [match[1] or match[0] for match in _WORD.finditer(message)]
    endings = {word.rpartition(".")[2].lstrip("-"): word for word in known}
    close = [
        match if match in known else endings[match]
        for word in misspelt
        if word not in known and f"--{word}" not in known
        for match in difflib.get_close_matches(word, [*known, *endings], n=1)
    ]
    return f"\ndid you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
