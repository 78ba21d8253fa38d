"""`detdistill recipe …`: recipes with all their values, and their JSON schema."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from detdistill.cli.recipe_options import DistillOptions
from detdistill.core.console import print_out


@dataclass(frozen=True, kw_only=True)
class Show(DistillOptions):
    """Print a recipe with all its keys, defaults filled in.

    Takes the recipe and options of `train` and `distill`. Without a recipe it prints the defaults.
    """

    def run(self) -> None:
        """Prints the recipe as YAML."""
        from dataclasses import replace

        from detdistill.core.settings import to_values
        from detdistill.training.yaml_values import write_yaml

        has_nothing = self.recipe is None and self.data is None and not self.overrides
        shown = replace(self, data="DATA") if has_nothing else self
        print_out(write_yaml(to_values(shown.read())), end="")


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Write the JSON schema of recipes, by which editors complete and check their keys.

    A recipe names its schema in its first line: `# yaml-language-server: $schema=schema.json`.
    """

    out: Annotated[Path | None, Parameter(help="Output file. Default: standard output.")] = None

    def run(self) -> None:
        """Writes the schema."""
        from detdistill.training.recipe_file import schema_text, write_schema

        if self.out is None:
            print_out(schema_text(), end="")
        else:
            write_schema(self.out)
