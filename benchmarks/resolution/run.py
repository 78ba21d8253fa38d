"""What a teacher gives that reads images of twice the side of its student's.

OMP_NUM_THREADS=1 python -m benchmarks.resolution.run sizes --runs RUNS [--jobs 2] [--settings larger] [--seeds 1]

Scenes are drawn at 192 px, and students read them at 96 px. The same teacher, trained at 192 px, reads them at 96 px or
at 192 px. Every run is recorded in `results.json` with the hashes of its teacher and of the first weights.
"""

from benchmarks.recorded_runs import Benchmark
from benchmarks.resolution.materials import HERE, prepared

if __name__ == "__main__":
    Benchmark(HERE, prepared, {"larger": ("rm+pfi",), "large_student": ("baseline",)}).main(__doc__)
