"""A small student alone and taught, on real photographs, over seeds; every run is one entry of `results.json`.

python benchmarks/photographs/run.py --data FOLDER_OF bccd --teacher RUN --runs RUNS --dataset bccd --seeds 3

Runs are made and gone on with in the folder RUNS; what is recorded already is not done again. Weights are found by the
runs themselves (`weight: auto`, the same ratio for every term), and the final weights are scored once, on `val`, which
nothing is chosen on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
METHODS = {
    "baseline": "",
    "rm+pfi": "rank_mimicking,prediction_guided",
    "prediction_guided": "prediction_guided",
    "rank_mimicking": "rank_mimicking",
    "hint": "hint",
    "soft_label": "soft_label",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--dataset", choices=("bccd", "facemask"), required=True)
    parser.add_argument("--teacher", type=Path, required=True, help="run folder of the teacher")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    for seed in range(options.seeds):
        for method in options.methods:
            record(options, method, seed)


def record(options: argparse.Namespace, method: str, seed: int) -> None:
    entries = json.loads(options.results.read_text()) if options.results.exists() else []
    if any((entry["data"], entry["method"], entry["seed"]) == (options.dataset, method, seed) for entry in entries):
        return
    run = options.runs / f"{options.dataset}_{method}_{seed}"
    terms = METHODS[method]
    verb = ["distill", "--teacher", str(options.teacher), "--terms", terms] if terms else ["train"]
    recipe = HERE / f"{options.dataset}_student.yaml"
    memory = detdistill(
        *verb, "--recipe", str(recipe), "--data", str(options.data), "--seed", str(seed), "--out", str(run)
    )
    scores = run / "val.json"
    detdistill("evaluate", str(run), "--data", str(options.data), "--split", "val", "--json", str(scores))
    numbers: dict[str, Any] = json.loads(scores.read_text())
    model = json.loads((run / "model.json").read_text())
    entry = {
        "data": options.dataset,
        "detector": "retinanet",
        "method": method,
        "seed": seed,
        **{key: numbers[key] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
        "AP_per_class": {name: values["AP"] for name, values in numbers["per_class"].items()},
        "weights": model["provenance"].get("weights", {}),
        "seconds": json.loads((run / "summary.json").read_text())["seconds"],
        "peak_memory_mib": memory,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, shared with other work",
        "python": platform.python_version(),
        "versions": model["provenance"]["versions"],
        "recipe": recipe.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Read again: another process may have recorded a run meanwhile.
    entries = json.loads(options.results.read_text()) if options.results.exists() else []
    options.results.write_text(json.dumps([*entries, entry], indent=1) + "\n")
    print(f"{options.dataset} {method} seed {seed}: AP {100 * numbers['AP']:.1f}", flush=True)


def detdistill(*words: str) -> int:
    """Runs a command; returns its peak memory in MiB."""
    command = [str(Path(sys.executable).with_name("detdistill")), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return round(usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
