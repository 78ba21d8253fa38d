"""YAML 1.2 values: `1e-3` is a number, `no` and `on` are texts. A key twice in a mapping is an error."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from detdistill.core.texts import has_half_character
from detdistill.core.yaml_nodes import BoundedComposer, checked_node

AS_WRITTEN = "class_map"
"""Key of a table of class names, which stay texts: `{0: apple}` is `{"0": apple}`."""
BY_CLASS = frozenset({AS_WRITTEN, "threshold"})
"""Keys of tables whose keys are class names, which stay texts."""

LONGEST_NUMBER = 40
"""Characters of a number: float64 needs 24."""

_TAG = "tag:yaml.org,2002:"
_TEXT = f"{_TAG}str"
_SCALARS = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+.0123456789"),
    ),
}
"""The core schema of YAML 1.2 (chapter 10.3), with the first characters of each kind."""


class _Loader(BoundedComposer, yaml.SafeLoader):
    """Reads the scalars of YAML 1.2, and refuses a second value of a key."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (pyyaml's own form)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.value in BY_CLASS and isinstance(value, yaml.MappingNode):
                for name, meaning in value.value:
                    _keep_text(name)
                    if key.value == AS_WRITTEN:
                        _keep_text(meaning)
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise yaml.YAMLError(f"duplicate key '{key.value}' (lines {lines[key.value]} and {line})")
            lines[str(key.value)] = line
        return super().construct_mapping(node, deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


class _Dumper(yaml.SafeDumper):
    """Puts texts in quotes that YAML 1.1 or 1.2 would read as something else, and writes repeated values out."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (pyyaml's signature)
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # Only between double quotes are line breaks of all kinds written as escapes.
        return self.represent_scalar(_TEXT, text, style=None if text.isprintable() else '"')


for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _pattern, _first)
_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)


def read_yaml(text: str) -> Any:
    """Read a YAML document.

    Raises:
        yaml.YAMLError: It is not YAML, has a key twice, a value of an unknown kind, or more or larger values than a
            recipe can have; the message names the lines.
    """
    loader = _Loader(text)
    root = checked_node(loader)
    if root is None:
        return None
    _check_scalars(root)
    return loader.construct_document(root)


def read_word(text: str, *, table: str | None = None) -> Any:
    """Read a value of a command line: a scalar, or a list or mapping in brackets.

    Args:
        text: The value. Without brackets or quotes all of it is one scalar, whatever signs it has.
        table: The key, if it is a table of class names: of `BY_CLASS`, or below it.

    Raises:
        yaml.YAMLError: Text in brackets or quotes is not YAML, or the value cannot be read.
    """
    if text[:1] in "[{\"'" and text:
        document = f"{table or 'value'}: {text}"
        (value,) = read_yaml(document).values()
        return value
    loader: Any = _Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    node = yaml.ScalarNode(_TEXT if table == AS_WRITTEN else tag, text)
    fault = _fault(node)
    if fault:
        raise yaml.YAMLError(fault)
    return loader.construct_object(node)


def write_yaml(values: Any) -> str:
    """Return nested values as YAML, in their order, so that readers of YAML 1.1 and 1.2 read the same."""
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _check_scalars(root: yaml.Node) -> None:
    """Refuse what YAML can say with a tag and no recipe holds, such as `!!set` or `!!int word`.

    Raises:
        yaml.YAMLError: The message names the line.
    """
    waiting, known = [root], {id(root)}
    while waiting:
        node = waiting.pop()
        fault = _fault(node)
        if fault:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {fault}")
        parts: list[Any] = node.value if not isinstance(node, yaml.ScalarNode) else []
        inner = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
        waiting += [part for part in inner if id(part) not in known]
        known.update(map(id, inner))


def _fault(node: yaml.Node) -> str:
    kind = node.tag.removeprefix(_TAG)
    if isinstance(node, yaml.MappingNode):
        other = next((key for key, _ in node.value if not isinstance(key, yaml.ScalarNode)), None)
        if other is not None:
            return "a key is a list or a group of keys; expected text"
        return "" if kind == "map" else f"unknown kind {node.tag!r}"
    if isinstance(node, yaml.SequenceNode):
        return "" if kind == "seq" else f"unknown kind {node.tag!r}"
    if kind == "str":
        half = has_half_character(node.value)
        return "the text holds half of a character (\\ud800 to \\udfff)" if half else ""
    if kind not in _SCALARS:
        return f"unknown kind {node.tag!r}"
    if not _SCALARS[kind][0].match(node.value):
        return f"{node.value!r} is no {kind}"
    return f"a number of {len(node.value)} characters" if len(node.value) > LONGEST_NUMBER else ""


def _keep_text(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode):
        node.tag = _TEXT
