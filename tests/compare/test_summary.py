from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from compare.test_table import PLAN, RUNS, TEACHER, outcome
from detdistill.compare.plan import BASELINE
from detdistill.compare.summary import verdict, write_summary
from detdistill.compare.table import rows_of


def test_the_files_and_the_page(tmp_path: Path) -> None:
    rows = rows_of(PLAN, RUNS, TEACHER, {})
    write_summary(PLAN, rows, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<circle") == 5 + 2, "a ring for each run, and for each pair"
    assert "these seeds do not tell it from 0" in page
    assert f"detdistill compare {tmp_path / 'plan.yaml'}" in page
    assert len(json.loads((tmp_path / "table.json").read_text())) == 3
    assert (tmp_path / "table.csv").exists()
    assert (tmp_path / "table.md").exists()


def test_the_verdict_says_no_more_than_the_interval() -> None:
    clear = [outcome(BASELINE, seed, 0.2 + seed / 100) for seed in range(3)]
    clear += [outcome("hint", seed, 0.3 + seed / 99) for seed in range(3)]
    assert (
        "hint's, +10.0 AP over 3 seeds; its 95 % interval lies above 0"
        in verdict(PLAN, rows_of(PLAN, clear, {}, {}))[0]
    )
    worse = [replace(run, method=BASELINE if run.method == "hint" else "hint") for run in clear]
    assert "even that is behind the baseline" in verdict(PLAN, rows_of(PLAN, worse, {}, {}))[0]
    assert "do not tell it from 0" in verdict(PLAN, rows_of(PLAN, clear[:1] + clear[3:4], {}, {}))[0]
    assert verdict(PLAN, []) == ["mine: there is nothing to compare yet."]


def test_without_a_finished_run_there_is_a_page_all_the_same(tmp_path: Path) -> None:
    write_summary(PLAN, [], tmp_path)
    assert "No run is finished yet." in (tmp_path / "report.html").read_text()


def test_what_is_best_on_the_other_split_is_named_with_its_gain_on_the_reported_one() -> None:
    plan = replace(PLAN, select_on="other")
    runs = [replace(run, select_on="other", selection=run.scores) for run in RUNS]
    said = verdict(plan, rows_of(plan, runs, TEACHER, {}))
    assert said[1] == "Chosen on other, where it is best: hint, whose gain on val is +5.0 AP."
