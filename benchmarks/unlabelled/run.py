"""What 22,000 images without annotations give beside 2,000 annotated ones.

OMP_NUM_THREADS=1 python -m benchmarks.unlabelled.run PLAN --runs RUNS [--jobs 2] [--settings more] [--seeds 2]

The plans are those of `detdistill compare` in this folder. The teacher is the GFL of `benchmarks/any_teacher`; it was
trained on all 24,000 images with their annotations. Thresholds are those of the best F1 on val. Every run is recorded
in `results.json` with the hashes of its teacher and of the first weights.
"""

from benchmarks.recorded_runs import Benchmark
from benchmarks.unlabelled.materials import HERE, prepared

ALONE, TERMS = ("baseline",), ("baseline", "rm+pfi")

if __name__ == "__main__":
    methods = {"few": TERMS, "few_32": ALONE, "more": ("rm+pfi", "pseudo"), "more_terms": ("rm+pfi",)}
    Benchmark(HERE, prepared, methods).main(__doc__)
