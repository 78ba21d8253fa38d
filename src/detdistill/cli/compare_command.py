"""`detdistill compare`."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from detdistill.cli.train_command import interruptible
from detdistill.core.console import print_err, print_out
from detdistill.core.distributed import is_first_process
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.starter import end_with_starter

if TYPE_CHECKING:
    from detdistill.compare.cluster import Cluster
    from detdistill.compare.plan import Plan

CLUSTER = Group.create_ordered("Cluster")


@dataclass(frozen=True)
class Compare:
    """Compare methods over seeds: which one helps this student, with this teacher, on these data.

    Takes the recipe of a distillation, or a plan of several settings and methods. Every run is an ordinary one in a
    folder of its own. The same command keeps finished runs, resumes interrupted ones and repeats failed ones. Writes
    table.json, table.csv, table.md and report.html.
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
    jobs: Annotated[int, Parameter(help="Runs at the same time on this machine.")] = 1
    threads: Annotated[
        int | None,
        Parameter(help="Threads of each run; part of the record. Default: the recipe's; 1 with several jobs."),
    ] = None
    per_class: Annotated[bool, Parameter(help="Print AP by class, too.")] = False
    list: Annotated[bool, Parameter(help="Print the numbered runs without training them.")] = False
    cell: Annotated[int | None, Parameter(help="Train only the run of this number, in this process.")] = None
    cluster: Annotated[
        Literal["slurm"] | None,
        Parameter(group=CLUSTER, help="Submit each run as a job, wait for the jobs, and write the table."),
    ] = None
    time: Annotated[
        int | None, Parameter(group=CLUSTER, help="Time limit of a job in minutes; required with --cluster.")
    ] = None
    partition: Annotated[str | None, Parameter(group=CLUSTER, help="Partition. Default: the cluster's.")] = None
    account: Annotated[str | None, Parameter(group=CLUSTER, help="Account that is charged.")] = None
    gpus: Annotated[int | None, Parameter(group=CLUSTER, help="GPUs of a job on each machine.")] = None
    cpus: Annotated[
        int | None,
        Parameter(
            group=CLUSTER, help="CPU cores of each training process. Default: threads and machine.workers together."
        ),
    ] = None
    memory: Annotated[float | None, Parameter(group=CLUSTER, help="Memory of a job on each machine, in GB.")] = None
    requeue: Annotated[
        int | None,
        Parameter(group=CLUSTER, help="How often a job that runs out of time is queued again, from 0. Default: 10."),
    ] = None

    def run(self) -> None:
        """Call the function for what is asked, and print its result."""
        if self.cell is not None:
            end_with_starter()  # before the slow imports
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
            cluster = self._cluster()
            if self.list:
                for number, cell in enumerate(plan.cells()):
                    print_out(f"{number}\t{cell}\t{cell.folder(self.out)}")
            elif self.cell is not None:
                self._one(plan, self.cell)
            else:
                self._all(plan, cluster)

    def _cluster(self) -> Cluster | None:
        from detdistill.compare.cluster import Cluster

        names = ("time", "partition", "account", "gpus", "cpus", "memory", "requeue")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.cluster is None and given:
            options = ", ".join(f"--{name}" for name in given)
            raise SettingsError(f"{options} describes the jobs of a cluster: add --cluster slurm, or leave it out")
        if self.cluster is not None and self.cell is not None:
            raise SettingsError("--cell trains one run in this process, --cluster submits all of them: pass only one")
        return None if self.cluster is None else Cluster(**given, executor=self.cluster)

    def _one(self, plan: Plan, number: int) -> None:
        from detdistill.compare.outcome import run_cell

        cell = plan.cell(number)
        outcome = run_cell(plan, cell, self.out, threads=self.threads)
        if is_first_process():
            ap = outcome.scores["AP"]
            print_out(f"{cell}: AP {'–' if ap is None else f'{100 * ap:.1f}'} on {plan.report_on}")

    def _all(self, plan: Plan, cluster: Cluster | None) -> None:
        from detdistill.cli.text_table import print_table
        from detdistill.compare.cell_runs import Stopped
        from detdistill.compare.comparison import compare
        from detdistill.compare.summary import verdict
        from detdistill.compare.table import COLUMNS, class_texts, texts

        try:
            result = compare(plan, self.out, jobs=self.jobs, threads=self.threads, cluster=cluster)
        except Stopped as stop:
            print_err(stop)
            raise SystemExit(stop.exit_status) from stop
        for setting in plan.settings:
            rows = [row for row in result.rows if row.setting == setting]
            print_out(f"\n{setting}, scores on {plan.report_on}")
            print_table(COLUMNS, [texts(row) for row in rows])
            if self.per_class:
                print_table(*class_texts(rows))
        print_out("\n" + "\n".join(verdict(plan, result.rows)))
        print_out(f"page: {self.out / 'report.html'}")
        if result.failures:
            failed = "".join(f"\n  {each.cell}: {each.message}\n    log: {each.log}" for each in result.failures)
            raise DetdistillError(f"{len(result.failures)} of {len(plan.cells())} runs failed:{failed}")
