from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.recorded_pages import PAGES, ROOT
from benchmarks.recorded_tables import table, with_tables


def run(method: str, seed: int, ap: float, setting: str = "one", plan: str = "few") -> dict[str, Any]:
    scores = {"AP": ap, "AP50": ap + 0.2, "AP75": ap + 0.1}
    return {"plan": plan, "setting": setting, "method": method, "seed": seed, "teacher": {"AP": 0.6}, **scores}


RUNS = [
    *(run("baseline", seed, 0.4 + seed / 100) for seed in range(2)),
    *(run("soft", seed, 0.43 + seed / 50) for seed in range(2)),
    run("soft", 1, 0.45, setting="other"),
]


def test_means_and_paired_differences_by_hand() -> None:
    """Soft labels gain .03 and .04; the other setting has no student alone of its own, and one seed."""
    _, _, alone, soft, other = table(RUNS).splitlines()
    assert alone == "| one |  | alone | 2 | 40.5 | 60.5 | 50.5 |  |"
    assert soft.startswith("| one | 60.0 | soft | 2 | 44.0 | 64.0 | 54.0 | +3.5 [")
    assert soft.endswith("[-2.9, +9.9] |"), "Student's t of one degree of freedom is 12.7"
    assert other == "| other | 60.0 | soft | 1 | 45.0 | 65.0 | 55.0 | +4.0 |"


def test_the_table_of_each_plan_stands_between_its_marks(tmp_path: Path) -> None:
    record = tmp_path / "results.json"
    record.write_text(json.dumps([*RUNS, run("baseline", 0, 0.2, plan="many")]))
    text = "a\n<!-- table of few -->\n\nold\n\n<!-- end -->\nb\n<!-- table of many -->\n\n\n\n<!-- end -->\nc\n"
    made = with_tables(text, record, ["few", "many"])
    assert with_tables(made, record, ["few", "many"]) == made
    assert made.startswith("a\n<!-- table of few -->\n\n| setting |")
    assert "old" not in made
    assert made.index("| one |") < made.index("\nb\n") < made.index("| 20.0 |") < made.index("\nc\n")
    with pytest.raises(AssertionError, match="unknown"):
        with_tables(text, record, ["unknown"])


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_the_record(page: str) -> None:
    record, plans = PAGES[page]
    text = (ROOT / page).read_text(encoding="utf-8")
    assert with_tables(text, ROOT / record, plans) == text, "run python -m benchmarks.recorded_pages"
