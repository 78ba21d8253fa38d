"""Runs of comparisons whose record is kept: made where they are missing, and recorded as soon as they have finished.

A run that `results.json` beside the plans holds is not repeated, so that the folder of the runs may be lost between two
sittings. One process at a time follows a plan; `--jobs` makes several runs at once. The final weights count; what is
chosen on val is reported on test with other seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from detdistill.cli.train_command import interruptible
from detdistill.compare.cell_runs import run_all
from detdistill.compare.local_pool import LocalPool
from detdistill.compare.machine_values import with_machine_values
from detdistill.compare.outcome import Outcome, read_outcome
from detdistill.compare.plan import Cell, Plan, read_plan
from detdistill.compare.teachers import teacher_scores
from detdistill.core.files import write_atomically
from detdistill.detectors.storage import read_description
from detdistill.teachers.loading import origin_of

Prepared = Callable[[Plan, Path, set[str]], Plan]
"""A plan, the folder of the runs and the wanted settings, to the plan with data, teachers and first weights."""


@dataclass(frozen=True)
class Benchmark:
    """A folder of plans, and what their runs begin with.

    Attributes:
        folder: with the plans, `teacher.yaml` among them where teachers are trained, and the record.
        prepared: makes data, teachers and the students' first weights where they are missing.
        methods: the methods of settings that do not take all of their plan.
    """

    folder: Path
    prepared: Prepared
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def main(self, description: str | None) -> None:
        """Read the command line and make the runs of a plan that are not recorded."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        plans = sorted(file.stem for file in self.folder.glob("*.yaml") if file.stem != "teacher")
        parser.add_argument("plan", choices=plans)
        parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
        parser.add_argument("--settings", nargs="*", help="only these settings")
        parser.add_argument("--methods", nargs="*", help="only these methods")
        parser.add_argument("--seeds", type=int, help="only the first so many")
        parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
        options = parser.parse_args()
        torch.set_num_threads(1)
        with interruptible():
            self.follow(options)

    def follow(self, options: argparse.Namespace) -> None:
        """Make the runs that are not recorded."""
        plan = read_plan(self.folder / f"{options.plan}.yaml", teacher="")
        waiting = [cell for cell in plan.cells() if self.is_wanted(cell, plan, options)]
        plan = self.prepared(plan, options.runs, {cell.setting for cell in waiting})
        out = options.runs / options.plan
        origins = {setting: origin(setting, plan, out) for setting in {cell.setting for cell in waiting}}

        def keep(outcome: Outcome) -> None:
            self.record(options.plan, plan, outcome, origins[outcome.setting])

        for cell in waiting:
            done = read_outcome(plan, cell, out)
            if done is not None:
                keep(done)
        waiting = [cell for cell in waiting if not self.is_recorded(options.plan, cell)]
        plan = with_machine_values(plan, out, threads=1)
        for failure in run_all(plan, out, LocalPool(plan, out, jobs=options.jobs), cells=waiting, finished=keep):
            print(f"FAILED, not recorded: {failure.cell} ({failure.log})", file=sys.stderr)

    def is_wanted(self, cell: Cell, plan: Plan, options: argparse.Namespace) -> bool:
        """Whether a run is asked for and not recorded."""
        return (
            (options.settings is None or cell.setting in options.settings)
            and (options.methods is None or cell.method in options.methods)
            and cell.method in self.methods.get(cell.setting, plan.methods)
            and cell.seed in plan.seeds[: options.seeds]
            and not self.is_recorded(options.plan, cell)
        )

    @property
    def results(self) -> Path:
        """The record."""
        return self.folder / "results.json"

    def entries(self) -> list[dict[str, Any]]:
        """The recorded runs."""
        if not self.results.exists():
            return []
        found: list[dict[str, Any]] = json.loads(self.results.read_text(encoding="utf-8"))
        return found

    def is_recorded(self, plan: str, cell: Cell) -> bool:
        """Whether a run is recorded."""
        what = {"plan": plan, **asdict(cell)}
        return any(what.items() <= entry.items() for entry in self.entries())

    def record(self, name: str, plan: Plan, outcome: Outcome, others: dict[str, Any]) -> None:
        """Add a run to the record."""
        scores = {key: value for key, value in outcome.scores.items() if key != "per_class"}
        entry = {
            "plan": name,
            **{key: value for key, value in asdict(outcome).items() if key not in ("scores", "select_on", "selection")},
            "terms": plan.methods[outcome.method],
            **scores,
            **others,
            "command": f"python -m benchmarks.{self.folder.name}.run {name}",
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        runs = sorted(
            [*self.entries(), entry], key=lambda run: (run["plan"], run["setting"], run["method"], run["seed"])
        )
        write_atomically(self.results, json.dumps(runs, indent=1, ensure_ascii=False) + "\n")


def origin(setting: str, plan: Plan, out: Path) -> dict[str, Any]:
    """What the runs of a setting come from."""
    recipe = plan.settings[setting]
    scores = teacher_scores(recipe, plan.report_on, out / setting)
    assert recipe.start.backbone is not None
    return {
        "teacher": {
            "sha256": origin_of(recipe.distillation.teachers[0])["sha256"],
            **{key: value for key, value in scores.items() if key != "per_class"},
        },
        "backbone_sha256": read_description(Path(recipe.start.backbone).parent).weights_sha256,
    }
