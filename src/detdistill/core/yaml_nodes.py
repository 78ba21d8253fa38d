"""YAML documents of strangers: a few hundred bytes can stand for billions of values, or for a value inside itself."""

from __future__ import annotations

from typing import Any

import yaml

from detdistill.core.files import DEEPEST

MOST_VALUES = 100_000
"""Values of a document, repeated ones counted each time. A data file of 20,000 classes has 40,000."""


class BoundedComposer(yaml.composer.Composer):
    """Refuses documents that are nested too deeply while they are read; PyYAML takes time quadratic in the depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Return the next node; see PyYAML."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"nested more than {DEEPEST} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def checked_node(loader: BoundedComposer) -> yaml.Node | None:
    """Return the only document of a loader, which has a bounded depth and number of values.

    Args:
        loader: At the start of its text.

    Returns:
        The document's root; None if the text is empty.

    Raises:
        yaml.YAMLError: It is not YAML, several documents, nested too deeply, inside itself, or too large when aliases
            are written out. The message names the line.
    """
    try:
        root: yaml.Node | None = loader.get_single_node()
    except (ValueError, OverflowError) as error:  # for example \UFFFFFFFF, which is no character
        raise yaml.YAMLError(str(error)) from None
    if root is not None:
        _size(root, 1, {}, set())
    return root


def _size(node: yaml.Node, depth: int, sizes: dict[int, tuple[int, int]], above: set[int]) -> tuple[int, int]:
    """Return the number of values of a node with aliases written out, and its depth.

    Args:
        node: The node.
        depth: Its level.
        sizes: What is known already, by the node's identity.
        above: Identities of the nodes that it is in.
    """
    line = node.start_mark.line + 1
    if id(node) in above:
        raise yaml.YAMLError(f"line {line}: the value holds itself")
    if id(node) not in sizes:
        above.add(id(node))
        count, height = 1, 0
        for inner in _inner(node):
            inner_count, inner_height = _size(inner, depth + 1, sizes, above)
            count, height = count + inner_count, max(height, inner_height)
            _check(line, count, depth + height)
        above.remove(id(node))
        sizes[id(node)] = count, height + 1
    count, height = sizes[id(node)]
    _check(line, count, depth + height - 1)
    return count, height


def _check(line: int, count: int, depth: int) -> None:
    if count > MOST_VALUES:
        raise yaml.YAMLError(f"line {line}: more than {MOST_VALUES:,} values, aliases written out")
    if depth > DEEPEST:
        raise yaml.YAMLError(f"line {line}: nested more than {DEEPEST} levels deep")


def _inner(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    value: Any = node.value
    return value if isinstance(node, yaml.SequenceNode) else []
