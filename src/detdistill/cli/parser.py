"""From the words of a command line to the object of a verb, or of the help that was asked for."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from cyclopts import App, CycloptsError, UnknownOptionError, UnusedCliTokensError

from detdistill.cli.recipe_options import RecipeOptions
from detdistill.core.errors import SettingsError
from detdistill.core.suggestions import did_you_mean

HELP = frozenset({"--help", "-h"})
FLAGS = HELP | {"--version", "--install-completion"}
HINTS = {
    "--annotations": "a run has an annotation file for each part: --data.train FILE and --data.val FILE",
}


class Verb(Protocol):
    """A dataclass whose fields are a verb's options. Heavy imports belong inside `run`."""

    def run(self) -> None:
        """Do the work; raises `DetdistillError` for what the user can fix."""


@dataclass(frozen=True)
class Printing:
    """Help, the version, or the installation of shell completion."""

    work: Callable[[], object]

    def run(self) -> None:
        """Print it."""
        self.work()


def parse(app: App, words: Sequence[str] | None) -> Verb:
    """Read a command line.

    Args:
        app: All verbs.
        words: The words after the program's name; None for those of this process.

    Returns:
        The object of the verb, with its options filled in.

    Raises:
        SettingsError: An unknown verb, option or key, or a wrong value.
    """
    words = list(sys.argv[1:] if words is None else words)
    chain: tuple[str, ...] = ()
    try:
        chain, apps, _ = app.parse_commands([word for word in words if word not in HELP])
        verb: Any = apps[-1].default_command
        if isinstance(verb, type):
            # All of it, each paragraph in one line, instead of the line in the list of verbs.
            apps[-1].help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(verb) or "")
            apps[-1].default_parameter = getattr(verb, "default_parameter", None)
            if issubclass(verb, RecipeOptions) and HELP.isdisjoint(words):
                return _recipe_verb(app, words, verb)
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise SettingsError(f"{_message(error)}\nsee `{' '.join(('detdistill', *chain))} --help`") from None
    if isinstance(command, type):
        made: Verb = command(*bound.args, **bound.kwargs)
        return made
    if FLAGS.isdisjoint(words):
        verbs = ", ".join(name for name in apps[-1] if not name.startswith("-"))
        raise SettingsError(f"`{' '.join(('detdistill', *chain))}` needs a verb: {verbs}")
    return Printing(lambda: command(*bound.args, **bound.kwargs))


def _recipe_verb(app: App, words: Sequence[str], verb: type[RecipeOptions]) -> Verb:
    """The verb with the keys of the recipe, of which cyclopts knows nothing."""
    from detdistill.cli.overrides import split_overrides
    from detdistill.core.settings import keys
    from detdistill.training.recipe import Recipe
    from detdistill.training.renamed_keys import RENAMED

    own = {field.name for field in fields(verb)}
    rest, overrides = split_overrides(words, {key.partition(".")[0] for key in (*keys(Recipe), *RENAMED)} - own)
    try:
        command, bound, _ = app.parse_args(rest, exit_on_error=False, print_error=False)
    except UnknownOptionError as error:
        option = str(error.token.keyword or error.token.value)
        known = [f"--{name.replace('_', '-')}" for name in (*own, *keys(Recipe))]
        hint = f"\n{HINTS[option]}" if option in HINTS else did_you_mean(option, known)
        raise SettingsError(f"unknown option {option}{hint}") from None
    made: Any = replace(command(*bound.args, **bound.kwargs), overrides=tuple(overrides))
    read: Verb = made
    return read


def _message(error: CycloptsError) -> str:
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected argument {' '.join(error.unused_tokens or ())}"
    return str(error)
