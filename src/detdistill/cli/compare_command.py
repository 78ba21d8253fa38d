"""`detdistill compare`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from detdistill.cli.parser import Argument, Option
from detdistill.cli.train_command import engine
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

    plan: Annotated[Path, Argument("YAML file: the recipe of a distillation, or a plan")]
    out: Annotated[Path, Option("folder of the comparison, made or gone on with")]
    methods: Annotated[str | None, Option("such as baseline,soft_label,rm+pfi; terms are joined by +")] = None
    seeds: Annotated[int | None, Option("number of seeds")] = None
    teacher: Annotated[str | None, Option("run folder of the teacher")] = None
    data: Annotated[str | None, Option("the data set")] = None
    images: Annotated[str | None, Option("image folder of all splits, instead of the recognised ones")] = None
    follow_links: Annotated[bool, Option("follow symbolic links that lead out of the dataset's folder")] = False
    report_on: Annotated[
        str | None, Option("split whose scores are reported, or its annotation file (default: the plan's, else val)")
    ] = None
    select_on: Annotated[
        str | None, Option("another split, or its annotation file, on which a method or option may be chosen")
    ] = None
    jobs: Annotated[int, Option("runs at the same time")] = 1
    threads: Annotated[int, Option("threads of each run; part of the record")] = 1
    per_class: Annotated[bool, Option("print AP by class, too")] = False
    list: Annotated[bool, Option("print the numbered runs, and make none")] = False
    cell: Annotated[int | None, Option("make only the run of this number, in this process: for a cluster's jobs")] = (
        None
    )

    def run(self) -> None:
        """Makes the runs and prints the table."""
        if self.jobs < 1 or self.threads < 1:
            raise DetdistillError(f"--jobs and --threads must be at least 1, not {self.jobs} and {self.threads}")
        with engine():
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
        import torch

        from detdistill.compare.outcome import run_cell

        cells = plan.cells()
        if not 0 <= number < len(cells):
            raise DetdistillError(
                f"--cell {number}: the comparison has the runs 0 to {len(cells) - 1}; --list shows them"
            )
        torch.set_num_threads(self.threads)
        outcome = run_cell(plan, cells[number], self.out)
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
