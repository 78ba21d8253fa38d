"""What teachers of other kinds give by their boxes alone: opinions, stored detections, ONNX files, query detectors.

OMP_NUM_THREADS=1 python -m benchmarks.any_teacher.run PLAN --runs RUNS [--jobs 2] [--methods soft rm …] [--seeds 2]

The plans are those of `detdistill compare` in this folder. Teachers, stored boxes and the students' first weights are
made in RUNS where they are missing. Every run is recorded in `results.json` with the hashes of its teacher and of the
first weights. The student alone is the same beside all teachers of a plan, and runs once.
"""

from benchmarks.any_teacher.materials import HERE, prepared
from benchmarks.recorded_runs import Benchmark

if __name__ == "__main__":
    taught = dict.fromkeys(("fcos", "retinanet", "gfl_stored", "gfl_onnx"), ("soft", "rm", "soft+rm"))
    Benchmark(HERE, prepared, taught).main(__doc__)
