"""The pages of the documentation with tables of recorded runs.

python -m benchmarks.recorded_pages
"""

from pathlib import Path

from benchmarks.recorded_tables import write_tables

ROOT = Path(__file__).parent.parent
PAGES = {
    "docs/teachers.md": ("benchmarks/any_teacher/results.json", ("across", "tuning")),
    "docs/teachers_transformers.md": ("benchmarks/any_teacher/results.json", ("rtdetr",)),
}
"""By page, the record and the plans that it shows."""

if __name__ == "__main__":
    for page, (record, plans) in PAGES.items():
        write_tables(ROOT / page, ROOT / record, plans)
