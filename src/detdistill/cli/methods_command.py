"""`detdistill methods`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from detdistill.core.console import print_out


@dataclass(frozen=True, kw_only=True)
class Methods:
    """List the distillation methods: paper, what they compare and need, detectors, published weights.

    Their names are those of `distill.terms` in a recipe; docs/methods.md describes them and their options.
    """

    json: Annotated[bool, Parameter(help="Print JSON; weights by detector, auto where none is published.")] = False

    def run(self) -> None:
        """Prints the list."""
        import json
        from dataclasses import asdict

        from detdistill.distill.methods import list_methods, published_weights

        methods = list_methods()
        if self.json:
            print_out(json.dumps([asdict(method) for method in methods], indent=2))
            return
        for method in methods:
            print_out(f"{method.name}: {method.paper}")
            print_out(f"  compares   {method.compares}")
            print_out(f"  needs      {method.needs}")
            print_out(f"  detectors  {', '.join(method.detectors)}")
            print_out(f"  weights    {published_weights(method.name)}")
