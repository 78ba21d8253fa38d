"""From a dataclass to a command: its docstring is the help, its fields are the arguments, `run()` is the work."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, ClassVar, NoReturn, Protocol, get_type_hints

from jsonargparse import ArgumentParser


class Argument(str):
    """Help of a field that the command line takes by position: `path: Annotated[Path, Argument("…")]`.

    With a default it may be left out.
    """

    __slots__ = ()


class Option(str):
    """Help of a field that the command line takes by name: `split: Annotated[str | None, Option("…")] = None`.

    A bool is a flag that takes no value and is False unless given.
    """

    __slots__ = ()


class Verb(Protocol):
    """A dataclass whose fields are annotated with `Argument` or `Option`. Heavy imports belong inside `run`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def run(self) -> None:
        """Does the work; raises `DetdistillError` for what the user can mend."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Verbs under one word, as in `detdistill data inspect`; the whole command line is one, too."""

    description: str
    verbs: Mapping[str, type[Verb] | Group]


class Parser(ArgumentParser):
    """jsonargparse's parser, which adds to a misspelt verb or option the ones that may have been meant."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints usage and `message` to standard error and exits with 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        known = [str(word) for action in parser._actions for word in (*action.option_strings, *(action.choices or ()))]
        misspelt = re.findall(r"--[\w-]+|(?<=invalid choice: ')[^']+", message)
        close = [match for word in misspelt for match in difflib.get_close_matches(word, known, n=1)]
        if close:
            message += f"\ndid you mean {' or '.join(close)}?"
        super().error(message, ex)


def parse(group: Group, arguments: Sequence[str] | None) -> Verb:
    """Reads a command line.

    Args:
        group: all verbs.
        arguments: the words after the program's name; None for those of this process.

    Returns:
        The verb that was asked for, with its fields filled in.

    Raises:
        SystemExit: after `--help` and `--version` (status 0) and after a mistake in usage (status 2).
    """
    parser = Parser(
        prog="detdistill",
        version=version("detdistill"),
        description=group.description,
        formatter_class=argparse.HelpFormatter,
        allow_abbrev=False,
    )
    _add_verbs(parser, group)
    namespace = parser.parse_args(arguments)
    chosen: type[Verb] | Group = group
    while isinstance(chosen, Group):
        name = namespace.verb
        chosen, namespace = chosen.verbs[name], namespace[name]
    return chosen(**vars(namespace))


def _add_verbs(parser: Parser, group: Group) -> None:
    commands = parser.add_subcommands(
        dest="verb", metavar="VERB", title="verbs", description=f"{parser.prog} VERB --help says more."
    )
    for name, verb in group.verbs.items():
        description = verb.description if isinstance(verb, Group) else inspect.getdoc(verb)
        assert description is not None
        child = Parser(description=description)
        commands.add_subcommand(name, child, help=description.partition("\n")[0])
        child.prog = f"{parser.prog} {name}"
        if isinstance(verb, Group):
            _add_verbs(child, verb)
        else:
            _add_fields(child, verb)


def _add_fields(parser: Parser, verb: type[Verb]) -> None:
    hints = get_type_hints(verb, include_extras=True)
    for field in dataclasses.fields(verb):
        kind, (text,) = hints[field.name].__origin__, hints[field.name].__metadata__
        option = f"--{field.name.replace('_', '-')}"
        if isinstance(text, Argument):
            count = None if field.default is dataclasses.MISSING else "?"
            parser.add_argument(field.name, type=kind, help=text, metavar=field.name.upper(), nargs=count)
        elif kind is bool:
            parser.add_argument(option, action="store_true", help=text)
        elif field.default is dataclasses.MISSING:
            parser.add_argument(option, type=kind, help=f"{text} (required)", required=True)
        elif field.default is None:
            parser.add_argument(option, type=kind, help=text)
        else:
            parser.add_argument(option, type=kind, help=f"{text} (default: {field.default})", default=field.default)
