"""What teachers of other kinds give by their boxes alone: opinions, stored detections, ONNX files, query detectors.

OMP_NUM_THREADS=1 python -m benchmarks.any_teacher.run PLAN --runs RUNS [--jobs 2] [--methods soft rm …] [--seeds 2]

The plans are those of `detdistill compare` in this folder. Teachers, stored boxes and the students' first weights are
made in RUNS where they are missing. A run that `results.json` holds is not repeated, so that RUNS may be lost between
two sittings; every run is recorded as soon as it has finished, with the hashes of its teacher and of the first weights.
The final weights count; what is chosen on val is reported on test with other seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from benchmarks.any_teacher.materials import HERE, prepared

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

RESULTS = HERE / "results.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", choices=sorted(file.stem for file in HERE.glob("*.yaml") if file.stem != "teacher"))
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--settings", nargs="*", help="only these settings")
    parser.add_argument("--methods", nargs="*", help="only these methods")
    parser.add_argument("--seeds", type=int, help="only the first so many")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with interruptible():
        follow(options)


def follow(options: argparse.Namespace) -> None:
    """Makes the runs that are not recorded."""
    plan = read_plan(HERE / f"{options.plan}.yaml", teacher="")
    waiting = [cell for cell in plan.cells() if is_wanted(cell, plan, options)]
    plan = prepared(plan, options.runs, {cell.setting for cell in waiting})
    out = options.runs / options.plan
    origins = {setting: origin(setting, plan, out) for setting in {cell.setting for cell in waiting}}

    def keep(outcome: Outcome) -> None:
        record(options.plan, plan, outcome, origins[outcome.setting])

    for cell in waiting:
        done = read_outcome(plan, cell, out)
        if done is not None:
            keep(done)
    waiting = [cell for cell in waiting if not is_recorded(options.plan, cell)]
    plan = with_machine_values(plan, out, threads=1)
    for failure in run_all(plan, out, LocalPool(plan, out, jobs=options.jobs), cells=waiting, finished=keep):
        print(f"FAILED, not recorded: {failure.cell} ({failure.log})", file=sys.stderr)


def is_wanted(cell: Cell, plan: Plan, options: argparse.Namespace) -> bool:
    """Whether a run is asked for and not recorded. The student alone is the same beside all teachers: one is enough."""
    is_chosen = (
        (options.settings is None or cell.setting in options.settings)
        and (options.methods is None or cell.method in options.methods)
        and cell.seed in plan.seeds[: options.seeds]
    )
    is_repeated = not plan.methods[cell.method] and cell.setting != next(iter(plan.settings))
    return is_chosen and not is_repeated and not is_recorded(options.plan, cell)


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


def entries() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def is_recorded(plan: str, cell: Cell) -> bool:
    what = {"plan": plan, **asdict(cell)}
    return any(what.items() <= entry.items() for entry in entries())


def record(name: str, plan: Plan, outcome: Outcome, others: dict[str, Any]) -> None:
    scores = {key: value for key, value in outcome.scores.items() if key != "per_class"}
    entry = {
        "plan": name,
        **{key: value for key, value in asdict(outcome).items() if key not in ("scores", "select_on", "selection")},
        "terms": plan.methods[outcome.method],
        **scores,
        **others,
        "command": f"python -m benchmarks.any_teacher.run {name}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    runs = sorted([*entries(), entry], key=lambda run: (run["plan"], run["setting"], run["method"], run["seed"]))
    write_atomically(RESULTS, json.dumps(runs, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
