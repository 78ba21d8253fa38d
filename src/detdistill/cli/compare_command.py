"""`detdistill compare`."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from detdistill.cli.train_command import interruptible
from detdistill.core.distributed import is_first_process
from detdistill.core.errors import DetdistillError

if TYPE_CHECKING:
    from detdistill.compare.plan import Plan


@dataclass(frozen=True)
class Compare:
    """Compare methods over seeds: which one helps this student, with this teacher, on these data.

    Takes the recipe of a distillation, or a plan of several settings and methods. Every run is an ordinary one in a
    folder of its own; finished runs are kept, interrupted ones go on with the same command, failed ones do not stop
    the rest. Writes table.json, table.csv, table.md and report.html.
    """

    plan: Annotated[Path, Parameter(help="Recipe with a distill section, or plan (YAML).")]
    _: KW_ONLY
    out: Annotated[Path, Parameter(help="Output folder. An existing comparison is resumed.")]
    methods: Annotated[
        str | None, Parameter(help="Methods, such as baseline,soft_label,rm+pfi; terms are joined by +.")
    ] = None
    seeds: Annotated[int | None, Parameter(help="Number of seeds.")] = None
    teacher: Annotated[str | None, Parameter(help="Folder of the teacher, in all settings.")] = None
    data: Annotated[str | None, Parameter(help="Dataset, in all settings.")] = None
    images: Annotated[str | None, Parameter(help="Image folder of all splits, instead of the recognised ones.")] = None
    follow_links: Annotated[bool, Parameter(help="Follow symbolic links that lead out of the dataset's folder.")] = (
        False
    )
    report_on: Annotated[
        str | None,
        Parameter(help="Split whose scores are reported, or its annotation file. Default: the plan's, else val."),
    ] = None
    select_on: Annotated[
        str | None, Parameter(help="Another split, or its annotation file, on which a method or option may be chosen.")
    ] = None
    jobs: Annotated[int, Parameter(help="Runs at the same time.")] = 1
    threads: Annotated[
        int | None,
        Parameter(help="Threads of each run; part of the record. Default: the recipe's; 1 with several jobs."),
    ] = None
    per_class: Annotated[bool, Parameter(help="Print AP by class, too.")] = False
    list: Annotated[bool, Parameter(help="Print the numbered runs without training them.")] = False
    cell: Annotated[
        int | None, Parameter(help="Train only the run of this number, in this process: for jobs on a cluster.")
    ] = None

    def run(self) -> None:
        """Makes the runs and prints the table."""
        threads = 1 if self.threads is None else self.threads
        if self.jobs < 1 or threads < 1:
            raise DetdistillError(f"--jobs and --threads must be at least 1, not {self.jobs} and {threads}")
        with interruptible():
            from detdistill.compare.plan import read_plan

            plan = read_plan(
                self.plan,
                methods=self.methods,
                seeds=self.seeds,
                teacher=self.teacher,
                data=self.data,
                report_on=self.report_on,
                select_on=self.select_on,
                images=self.images,
                follow_links=self.follow_links,
            )
            if self.list:
                for number, cell in enumerate(plan.cells()):
                    print(f"{number}\t{cell}\t{cell.folder(self.out)}")
            elif self.cell is not None:
                self._one(plan, self.cell)
            else:
                self._all(plan)

    def _one(self, plan: Plan, number: int) -> None:
        from detdistill.compare.outcome import run_cell

        cells = plan.cells()
        if not 0 <= number < len(cells):
            raise DetdistillError(
                f"--cell {number}: the comparison has the runs 0 to {len(cells) - 1}; --list shows them"
            )
        outcome = run_cell(plan, cells[number], self.out, threads=self.threads)
        if is_first_process():
            ap = outcome.scores["AP"]
            print(f"{cells[number]}: AP {'–' if ap is None else f'{100 * ap:.1f}'} on {plan.report_on}")

    def _all(self, plan: Plan) -> None:
        from detdistill.cli.text_table import print_table
        from detdistill.compare.cell_runs import Stopped
        from detdistill.compare.comparison import compare
        from detdistill.compare.summary import verdict
        from detdistill.compare.table import COLUMNS, class_texts, texts

        try:
            came_out = compare(plan, self.out, jobs=self.jobs, threads=self.threads)
        except Stopped as stop:
            print(stop, file=sys.stderr)
            raise SystemExit(stop.exit_status) from stop
        for setting in plan.settings:
            rows = [row for row in came_out.rows if row.setting == setting]
            print(f"\n{setting}, scores on {plan.report_on}")
            print_table(COLUMNS, [texts(row) for row in rows])
            if self.per_class:
                print_table(*class_texts(rows))
        print("\n" + "\n".join(verdict(plan, came_out.rows)))
        print(f"{self.out / 'report.html'} shows it")
        if came_out.failures:
            failed = "".join(
                f"\n  {each.cell}: {each.message}\n    all of it: {each.log}" for each in came_out.failures
            )
            raise DetdistillError(f"{len(came_out.failures)} of {len(plan.cells())} runs failed:{failed}")
