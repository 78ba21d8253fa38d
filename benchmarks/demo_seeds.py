"""The demo over seeds: AP of the student alone and taught, and of the teacher, on the test pictures of each seed.

OMP_NUM_THREADS=1 python benchmarks/demo_seeds.py --runs RUNS [--seeds 0 1 2 3 4]

Every seed draws other pictures and starts from other weights. Runs are made and gone on with in the folder RUNS; what
`demo_seeds.json` holds is not done again. Several processes may work on different seeds.
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

from detdistill.core.environment import machine

HERE = Path(__file__).parent
DEMO = HERE.parent / "examples" / "demo.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(5))
    parser.add_argument("--results", type=Path, default=HERE / "demo_seeds.json")
    options = parser.parse_args()
    for seed in options.seeds:
        if not any(entry["seed"] == seed for entry in entries(options.results)):
            entry = run(options.runs / str(seed), seed)
            # Read again: another process may have recorded a seed meanwhile.
            all_entries = sorted([*entries(options.results), entry], key=lambda each: each["seed"])
            options.results.write_text(json.dumps(all_entries, indent=1) + "\n")
            print(entry, flush=True)


def entries(results: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(results.read_text()) if results.exists() else []
    return found


def run(folder: Path, seed: int) -> dict[str, Any]:
    process = subprocess.Popen([sys.executable, str(DEMO), "--seed", str(seed), "--out", str(folder)])
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the demo of seed {seed} failed")
    model = json.loads((folder / "distilled" / "model.json").read_text())
    names = ("teacher", "baseline", "distilled")
    return {
        "seed": seed,
        "table": json.loads((folder / "table.json").read_text()),
        "weights": model["provenance"]["weights"],
        "seconds": {name: json.loads((folder / name / "summary.json").read_text())["seconds"] for name in names},
        # Of the last call only, if the demo was interrupted.
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime),
        "peak_memory_mib": round(usage.ru_maxrss / 1024),
        "command": f"python examples/demo.py --seed {seed}",
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "machine": f"{machine()}, shared with other work",
        "python": platform.python_version(),
        "versions": model["provenance"]["versions"],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


if __name__ == "__main__":
    main()
