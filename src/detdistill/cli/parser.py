"""From a dataclass to a command: its docstring is the help, its fields are the arguments, `run()` is the work."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import itertools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader

from detdistill.core.errors import DetdistillError
from detdistill.core.suggestions import did_you_mean
from detdistill.core.wrong_values import in_words, instantiated
from detdistill.training.recipe_file import check_keys, keys, names_as_written, one_line, read_values


class Argument(str):
    """Help of a field that the command line takes by position: `path: Annotated[Path, Argument("…")]`.

    With a default it may be left out. A list takes one or more.
    """

    __slots__ = ()


class Option(str):
    """Help of a field that the command line takes by name: `split: Annotated[str | None, Option("…")] = None`.

    A bool is a flag that takes no value and is False unless given. A list takes one or more items,
    each time it is given.
    """

    __slots__ = ()


class Verb(Protocol):
    """A dataclass whose fields are annotated with `Argument` or `Option`. Heavy imports belong inside `run`.

    A field that is a dataclass itself, such as `recipe: Recipe`, gives an option for each of its fields, as in
    `--schedule.epochs 3`, and one for a YAML file of all of them, `--recipe FILE`.
    """

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
        told = in_words(message)
        if told != message:
            super().error(told, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        known = [str(word) for action in parser._actions for word in (*action.option_strings, *(action.choices or ()))]
        hint = did_you_mean(message, [*known, *parser.prog.split()])
        if message.endswith("option 'teacher'") or "arguments: --teacher" in message:
            hint = "\na recipe that names a teacher is for `detdistill distill`"
        if "--annotations" in message and "--annotations" not in known:
            hint = "\na run has an annotation file for each part: --data.train FILE and --data.val FILE"
        super().error(message + hint, ex)


def parse(group: Group, arguments: Sequence[str] | None) -> Verb:
    """Reads a command line.

    Args:
        group: all verbs.
        arguments: the words after the program's name; None for those of this process.

    Returns:
        The verb that was asked for, with its fields filled in.

    Raises:
        SystemExit: after `--help` and `--version` (status 0) and after a mistake in usage (status 2).
        DetdistillError: a recipe's file cannot be read, or has keys that there are not.
    """
    parser = Parser(
        prog="detdistill",
        version=version("detdistill"),
        description=group.description,
        formatter_class=argparse.HelpFormatter,
        allow_abbrev=False,
    )
    _add_verbs(parser, group)
    words = list(sys.argv[1:] if arguments is None else arguments)
    verb = group.verbs.get(words[0]) if words else None
    options: list[tuple[str, str, str]] = []
    files: list[Path] = []
    if verb is not None and not isinstance(verb, Group) and "recipe" in verb.__dataclass_fields__:
        words = _spelt_out(words, get_type_hints(verb)["recipe"])
        for at, (option, file) in enumerate(itertools.pairwise(words), start=1):
            if option != "--recipe" or file.startswith("{"):  # the content of a recipe may be given instead of its file
                continue
            values = read_values(Path(file))
            if not values:
                raise DetdistillError(f"{file} is empty: leave it out, and every key has its default")
            files.append(Path(file))
            words[at] = one_line(values)
        if "terms" in get_type_hints(get_type_hints(verb)["recipe"]):
            words, options = _term_options(words)
    read = parser.parse_args(_files_first(words))
    chosen, namespace = _chosen(group, read)
    for recipe in files:
        check_keys(recipe, get_type_hints(chosen)["recipe"])
    chosen, namespace = _chosen(group, instantiated(parser, read))
    for term, option, value in options:
        try:
            loaded = get_loader("yaml")(value)
        except yaml.YAMLError:
            parser.error(f"--terms.{term}.{option}: {value!r} is not YAML")
        known = namespace["terms"].get(term) or {}
        namespace["terms"] = namespace["terms"] | {term: known | {option: loaded}}
    return chosen(**{field.name: _value(field.name, hint, namespace) for field, hint in _fields(chosen)})


def _chosen(group: Group, namespace: Namespace) -> tuple[type[Verb], Namespace]:
    """The verb that a command line names, and its part of what was read."""
    chosen: type[Verb] | Group = group
    while isinstance(chosen, Group):
        name = namespace.verb
        chosen, namespace = chosen.verbs[name], namespace[name]
    return chosen, namespace


DATA_FLAGS = frozenset({"--follow-links", "--accept-left-out", "--rescale"})
"""Flags of the verbs that read a dataset, which set a key of `data` in a recipe."""


def _spelt_out(words: Sequence[str], recipe: type) -> list[str]:
    """The words after a verb that takes a recipe, with what may be said shortly in full.

    A recipe's file needs no `--recipe`, `--data D` is its `data.path`, `--images D` the image folder of training and
    validation, a flag of `DATA_FLAGS` its key of `data`, `--terms a,b` are terms without options, and a key may be
    written with dashes, as all other options are.
    """
    dashed = {f"--{key.replace('_', '-')}": f"--{key}" for key in keys(recipe) if "_" in key}
    spelt = [part for word in words for part in (word.split("=", 1) if word.startswith("--recipe=") else [word])]
    if len(spelt) > 1 and not spelt[1].startswith("-") and spelt[1].endswith((".yaml", ".yml")):
        spelt.insert(1, "--recipe")
    at = next((at for at, word in enumerate(spelt) if re.match("--images(=|$)", word)), None)
    if at is not None and (spelt[at] != "--images" or at + 1 < len(spelt)):
        _, equals, value = spelt.pop(at).partition("=")
        folder = value if equals else spelt.pop(at)
        spelt[at:at] = [f"--data.{part}_images={folder}" for part in ("train", "val")]
    for at, word in enumerate(spelt):
        name, equals, value = word.partition("=")
        name = dashed.get(name, name)
        if name == "--data":
            spelt[at] = f"--data.path{equals}{value}"
        elif word in DATA_FLAGS:
            spelt[at] = f"--data.{word[2:].replace('-', '_')}=true"
        elif name == "--class_map" and equals:
            spelt[at] = f"{name}={names_as_written(value)}"
        elif name == "--class_map" and at + 1 < len(spelt):
            spelt[at : at + 2] = [name, names_as_written(spelt[at + 1])]
        elif word.partition("=")[0] in dashed:
            spelt[at] = f"{name}{equals}{value}"
        elif name == "--terms" and equals:
            spelt[at] = f"{name}={_without_options(value)}"
        elif name == "--terms" and at + 1 < len(spelt):
            spelt[at + 1] = _without_options(spelt[at + 1])
    return spelt


def _term_options(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str, str]]]:
    """The words without `--terms.NAME.OPTION VALUE`, and each of these as name, option and value.

    jsonargparse would let each of them replace all that was said of the method before, in the recipe's file too.
    """
    rest, options = [], []
    following = iter(words)
    for word in following:
        match = re.fullmatch(r"--terms\.(\w+)\.(\w+)(?:=(.*))?", word, re.DOTALL)
        value = match and (next(following, None) if match[3] is None else match[3])
        if match is None or value is None:
            rest.append(word)
        else:
            options.append((match[1], match[2], value))
    return rest, options


def _without_options(terms: str) -> str:
    return terms if terms.lstrip().startswith("{") else json.dumps({name.strip(): {} for name in terms.split(",")})


def _files_first(words: Sequence[str]) -> list[str]:
    """The words with a recipe's file before everything that changes it: an option counts more, wherever it stands."""
    if "--recipe" not in words[:-1]:
        return list(words)
    at = words.index("--recipe")
    others = [*words[:at], *words[at + 2 :]]
    first = next((number for number, word in enumerate(others) if word.startswith("-")), len(others))
    return [*others[:first], *words[at : at + 2], *others[first:]]


def _fields(verb: type[Verb]) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(verb, include_extras=True)
    return [(field, hints[field.name]) for field in dataclasses.fields(verb)]


def _value(name: str, hint: Any, namespace: Namespace) -> Any:
    if not dataclasses.is_dataclass(hint):
        return namespace[name]
    assert isinstance(hint, type)
    return hint(**{field.name: namespace[field.name] for field in dataclasses.fields(hint)})


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
    for field, hint in _fields(verb):
        option = f"--{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(hint):
            parser.usage = "%(prog)s [--recipe FILE] [--KEY VALUE …] (--help lists the keys)"
            parser.add_argument(option, action="config", help="YAML file with any of the keys below", metavar="FILE")
            parser.add_class_arguments(hint, None)
            continue
        kind, (text,) = hint.__origin__, hint.__metadata__
        if isinstance(text, Argument):
            count = None if field.default is dataclasses.MISSING else "?"
            if get_origin(kind) is list:
                (kind,), count = get_args(kind), "+"
            parser.add_argument(field.name, type=kind, help=text, metavar=field.name.upper(), nargs=count)
        elif kind is bool:
            parser.add_argument(option, action="store_true", help=text)
        elif get_origin(kind) is list:
            (item,) = get_args(kind)
            parser.add_argument(option, type=item, help=f"{text} (required)", required=True, nargs="+", action="extend")
        elif field.default is dataclasses.MISSING:
            parser.add_argument(option, type=kind, help=f"{text} (required)", required=True)
        elif field.default is None:
            parser.add_argument(option, type=kind, help=text)
        else:
            parser.add_argument(option, type=kind, help=f"{text} (default: {field.default})", default=field.default)
