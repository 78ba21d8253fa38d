"""The evidence: what Rank Mimicking and PFI give beside their opponents, at a scale that a CPU can carry.

OMP_NUM_THREADS=1 python -m benchmarks.paper_claims.run --runs RUNS [--data DATA] [--plans bccd scenes …] [--jobs 2]

The plans are those of `detdistill compare` in this folder; DATA is a folder with `bccd` and `facemask`, and `scenes`
is drawn. A teacher is trained by its recipe where RUNS has none, and so is a backbone that students on `scenes` begin
with. Runs are made and gone on with in RUNS; what `results.json` holds is not done again, so the folder may be lost
between two sittings. Teacher and backbone are then trained anew; on another processor they become others, so that runs
of a seed that was begun with the old ones are passed over. Their hashes and the teacher's AP stand beside each run.
Nothing is chosen on what is reported; the final weights count.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from benchmarks.paper_claims.claims import BASELINE, claims_of
from benchmarks.paper_claims.materials import FEW, HERE, layers, prepared, scenes, teacher_file
from benchmarks.paper_claims.observations import observed

from detdistill.cli.train_command import interruptible
from detdistill.compare.cell_runs import run_all
from detdistill.compare.local_pool import LocalPool
from detdistill.compare.machine_values import with_machine_values
from detdistill.compare.outcome import Outcome, read_outcome
from detdistill.compare.plan import Cell, Plan, read_plan
from detdistill.compare.teachers import teacher_scores
from detdistill.core.files import write_atomically
from detdistill.detectors.storage import read_description

RESULTS = HERE / "results.json"
PLANS = (
    "bccd",
    "scenes_few",
    "scenes_few_variants",
    "scenes_few_detectors",
    "scenes_few_others",
    "scenes_few_localization",
    "scenes_few_long",
    "scenes_few_ratio",
    "scenes_few_tuned",
    "scenes_few_candidates",
    "scenes",
    "scenes_ratio",
    "facemask",
    "facemask_others",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--data", type=Path, help="folder of bccd and facemask")
    parser.add_argument("--plans", nargs="*", default=PLANS, choices=PLANS)
    parser.add_argument("--settings", nargs="*", help="only these settings of the plans")
    parser.add_argument("--methods", nargs="*", help="only these methods")
    parser.add_argument("--seeds", type=int, help="only the first so many of each plan")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with interruptible():
        for name in options.plans:
            follow(name, options)


def follow(name: str, options: argparse.Namespace) -> None:
    """Makes the runs of a plan that are not recorded."""
    kind = name.partition("_")[0]
    if kind == "scenes":
        data = scenes(options.runs, train=FEW) if name.startswith("scenes_few") else scenes(options.runs)
    else:
        data = options.data / kind
    plan = read_plan(HERE / f"{name}.yaml", data=str(data), teacher="")
    seeds = plan.seeds[: options.seeds]
    wanted = plan.settings if options.settings is None else options.settings
    methods = plan.methods if options.methods is None else options.methods
    missing = [
        cell
        for cell in plan.cells()
        if cell.seed in seeds and cell.setting in wanted and cell.method in methods and not is_recorded(kind, cell)
    ]
    settings = {cell.setting for cell in missing}
    plan = prepared(plan, settings, options.runs)
    origins = {setting: _origin(setting, plan, options.runs / name) for setting in settings}
    others = [cell for cell in missing if not has_same_origin(entries()["runs"], cell, origins[cell.setting])]
    for cell in others:
        print(f"passed over, for its seed was begun with another teacher or backbone: {cell}", file=sys.stderr)
    missing = [cell for cell in missing if cell not in others]

    def keep(outcome: Outcome) -> None:
        cell, setting = Cell(outcome.setting, outcome.method, outcome.seed), plan.settings[outcome.setting]
        seen = observed(
            Path(setting.distillation.teachers[0]), cell.folder(options.runs / name), Path(setting.data.path)
        )
        record(kind, name, plan, outcome, {**origins[cell.setting], "observed": seen})

    for cell in missing:
        done = read_outcome(plan, cell, options.runs / name)
        if done is not None:
            keep(done)
    waiting = [cell for cell in missing if not is_recorded(kind, cell)]
    out = options.runs / name
    plan = with_machine_values(plan, out, threads=1)
    pool = LocalPool(plan, out, jobs=options.jobs)
    for failure in run_all(plan, out, pool, cells=waiting, finished=keep):
        print(f"FAILED, not recorded: {failure.cell} ({failure.log})", file=sys.stderr)


def _origin(setting: str, plan: Plan, out: Path) -> dict[str, Any]:
    """What the runs of a setting come from."""
    recipe = plan.settings[setting]
    scores = teacher_scores(recipe, plan.report_on, out / setting)
    backbone = recipe.start.backbone
    return {
        "teacher": {
            "recipe": teacher_file(setting).name,
            "weights_sha256": read_description(Path(recipe.distillation.teachers[0])).weights_sha256,
            **{key: value for key, value in scores.items() if key != "per_class"},
        },
        "backbone_sha256": read_description(Path(backbone).parent).weights_sha256 if backbone else None,
    }


def has_same_origin(runs: Iterable[dict[str, Any]], cell: Cell, origin: dict[str, Any]) -> bool:
    """Whether a cell's run can be compared with those recorded of its setting and seed.

    Args:
        runs: the entries of `results.json`.
        cell: the run.
        origin: its `teacher` and `backbone_sha256`. The baseline has no teacher.
    """
    seed = [run for run in runs if (run["setting"], run["seed"]) == (cell.setting, cell.seed)]
    taught = [run for run in seed if BASELINE not in (run["method"], cell.method)]
    return all(run.get("backbone_sha256") == origin.get("backbone_sha256") for run in seed) and all(
        run["teacher"]["weights_sha256"] == origin["teacher"]["weights_sha256"] for run in taught
    )


def entries() -> dict[str, list[dict[str, Any]]]:
    if not RESULTS.exists():
        return {"runs": [], "claims": []}
    found: dict[str, list[dict[str, Any]]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def is_recorded(kind: str, cell: Cell) -> bool:
    what = {"data": kind, **asdict(cell)}
    return any(what.items() <= entry.items() for entry in entries()["runs"])


def record(kind: str, name: str, plan: Plan, outcome: Outcome, others: dict[str, Any]) -> None:
    """Adds a run and what else is to be told of it, and judges the claims anew."""
    recipe = plan.settings[outcome.setting]
    scores = {key: value for key, value in outcome.scores.items() if key != "per_class"}
    entry = {
        "data": kind,
        **{key: value for key, value in asdict(outcome).items() if key not in ("scores", "select_on", "selection")},
        "detector": recipe.detector.kind,
        "backbone": layers(recipe).backbone,
        "terms": plan.methods[outcome.method],
        **scores,
        "AP_per_class": {label: values["AP"] for label, values in outcome.scores["per_class"].items()},
        **others,
        "command": f"python -m benchmarks.paper_claims.run --plans {name}",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Read again: another process may have recorded a run meanwhile.
    write([*entries()["runs"], entry])


def write(runs: Iterable[dict[str, Any]]) -> None:
    order = sorted(runs, key=lambda run: (run["data"], run["setting"], run["method"], run["seed"]))
    text = json.dumps({"runs": order, "claims": claims_of(order)}, indent=1, ensure_ascii=False)
    write_atomically(RESULTS, text + "\n")


if __name__ == "__main__":
    main()
