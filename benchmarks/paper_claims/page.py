"""Writes `docs/evidence.md`, its figure and README's table from `results.json`: python -m benchmarks.paper_claims.page.

Every number on the page is one of the record, or a mean of such; a test keeps it so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from benchmarks.paper_claims.claims import BASELINE, MAIN
from benchmarks.paper_claims.materials import HERE
from benchmarks.paper_claims.run import RESULTS
from benchmarks.paper_claims.summary import summary, write_summary
from jinja2 import Environment, FileSystemLoader

from detdistill.compare.statistics import Estimate, estimate, gap_closed, paired_difference
from detdistill.report.charts import round_numbers

ROOT = HERE.parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"
PAGE, FIGURE = DOCS / "evidence.md", DOCS / "figures" / "evidence.svg"
SCORES = ("AP50", "APs", "APm", "APl")
VERDICTS = {"holds": "**holds**", "undecided": "undecided", "fails": "**fails**"}

Run = dict[str, Any]


def main() -> None:
    recorded = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(recorded), encoding="utf-8")
    FIGURE.write_text(figure(recorded["claims"]), encoding="utf-8")
    write_summary(README, recorded["runs"])


def page(recorded: dict[str, list[dict[str, Any]]]) -> str:
    """The page as Markdown."""
    runs, claims = recorded["runs"], recorded["claims"]
    judged = [claim for claim in claims if claim["seeds"] > 1]
    settings = {
        setting: [run for run in runs if run["setting"] == setting]
        for setting in dict.fromkeys(run["setting"] for run in runs)
    }
    template = Environment(loader=FileSystemLoader(HERE), trim_blocks=True, lstrip_blocks=True).get_template(
        "evidence.md.jinja"
    )
    return template.render(
        summary=summary(runs),
        glance=_glance(judged),
        claims=[_claim_texts(claim) for claim in judged],
        settings={setting: _rows(own) for setting, own in settings.items()},
        teachers={setting: _teachers(own) for setting, own in settings.items()},
        about={setting: _about(own) for setting, own in settings.items()},
        observed=[
            row
            for setting in dict.fromkeys(claim["setting"] for claim in claims)
            for row in _observed(settings[setting])
        ],
        count=len(runs),
        machines=sorted({f"{run['machine']}, {run['threads']} thread" for run in runs}),
        versions=sorted({", ".join(f"{name} {number}" for name, number in run["versions"].items()) for run in runs}),
        pythons=sorted({run["python"] for run in runs}),
    )


def _glance(claims: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The claims, a column for each main setting, and how they were judged."""
    cells: dict[str, dict[str, str]] = {}
    for claim in claims:
        row = cells.setdefault(f"{claim['claim']}. {claim['text']}", {})
        # A claim about another student stands below the setting that it is of.
        column = next(main for main in MAIN if claim["setting"].startswith(main))
        row[column] = f"{_difference(claim)} {VERDICTS[claim['verdict']]}"
    settings = [main for main in MAIN if any(main in row for row in cells.values())]
    return {
        "settings": settings,
        "rows": [[name, *(row.get(setting, "–") for setting in settings)] for name, row in cells.items()],
        "counts": {verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in VERDICTS},
    }


def _difference(claim: dict[str, Any]) -> str:
    unit = " %" if claim["measure"] != "AP" else ""
    return f"{100 * claim['difference']:+.1f}{unit}"


def _claim_texts(claim: dict[str, Any]) -> list[str]:
    found = f"{_difference(claim)} [{100 * claim['low']:+.1f}, {100 * claim['high']:+.1f}]"
    return [
        str(claim["claim"]),
        claim["text"],
        claim["setting"],
        str(claim["seeds"]),
        found,
        VERDICTS[claim["verdict"]],
    ]


def _rows(runs: Sequence[Run]) -> list[list[str]]:
    """A row for each method, the baseline first, then by AP."""
    baseline = _values(runs, BASELINE)
    teacher = fmean(run["teacher"]["AP"] for run in runs)
    methods = sorted({run["method"] for run in runs}, key=lambda name: -fmean(_values(runs, name).values()))
    rows = []
    for method in [BASELINE, *(name for name in methods if name != BASELINE)]:
        own = [run for run in runs if run["method"] == method]
        values = _values(own, method)
        if not values:
            continue
        gained = None if method == BASELINE else paired_difference(values, baseline)
        share = None if method == BASELINE else gap_closed(values, baseline, teacher)
        rows.append(
            [
                method,
                str(len(values)),
                _spread(estimate(list(values.values()))),
                "–" if gained is None else _interval(gained),
                "–" if share is None else f"{100 * share:.0f} %",
                *(_mean(own, name) for name in SCORES),
                _memory(own),
            ]
        )
    return rows


def _observed(runs: Sequence[Run]) -> list[list[str]]:
    """A row for each method of a setting whose runs were looked at."""
    looked_at = [run for run in runs if "observed" in run]
    rows = []
    for method in dict.fromkeys(run["method"] for run in looked_at):
        own = [run["observed"] for run in looked_at if run["method"] == method]

        def mean(name: str, factor: float = 1.0, own: Sequence[dict[str, float]] = own) -> float:
            return factor * fmean(seen[name] for seen in own)

        rows.append(
            [
                looked_at[0]["setting"],
                method,
                str(len(own)),
                f"{mean('candidates'):.1f}",
                f"{mean('top1', 100):.0f} %",
                f"{mean('tau'):.2f}",
                f"{mean('own_best_iou'):.3f}",
                f"{mean('own_iou_at_teachers_best'):.3f}",
                *(
                    f"{mean(name, 100):.1f}"
                    for name in ("AP", "AP_teachers_order_within", "AP_teachers_order", "AP_teachers_boxes")
                ),
            ]
        )
    return rows


def _values(runs: Sequence[Run], method: str) -> dict[int, float]:
    return {run["seed"]: run["AP"] for run in runs if run["method"] == method}


def _mean(runs: Sequence[Run], name: str) -> str:
    values = [run[name] for run in runs if run[name] is not None]
    return f"{100 * fmean(values):.1f}" if values else "–"


def _memory(runs: Sequence[Run]) -> str:
    values = [run["peak_memory_mib"] for run in runs if run["peak_memory_mib"] is not None]
    return f"{fmean(values):.0f}" if values else "–"


def _spread(value: Estimate | None) -> str:
    assert value is not None
    return f"{100 * value.mean:.1f}" + ("" if value.high is None else f" ± {100 * (value.high - value.mean):.1f}")


def _interval(value: Estimate) -> str:
    found = f"{100 * value.mean:+.1f}"
    return (
        found
        if value.low is None or value.high is None
        else f"{found} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"
    )


def _teachers(runs: Sequence[Run]) -> str:
    found = {run["teacher"]["weights_sha256"]: run["teacher"] for run in runs}
    return "; ".join(f"AP {100 * one['AP']:.1f} (`{one['recipe']}`)" for one in found.values())


def _about(runs: Sequence[Run]) -> str:
    one = runs[0]
    return f"{one['detector']} with {one['backbone']}, {one['steps']} steps, scored on `{one['report_on']}`"


LEFT, RIGHT, ROW, BOTTOM = 400, 880, 30, 46


def figure(claims: Sequence[dict[str, Any]]) -> str:
    """The claims that are measured in AP as an SVG: a bar for each interval, and the line at 0 that decides."""
    shown = [claim for claim in claims if claim["measure"] == "AP" and claim["seeds"] > 1]
    ends = [100 * claim[end] for claim in shown for end in ("low", "high")]
    ticks = round_numbers(min([*ends, 0.0]), max([*ends, 0.0]))

    def place(value: float) -> float:
        return round(LEFT + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (RIGHT - LEFT), 1)

    template = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return template.get_template("evidence.svg.jinja").render(
        rows=[
            {
                "label": f"{claim['claim']}. {claim['text']}",
                "where": f"{claim['setting']}, {claim['seeds']} seeds",
                "verdict": claim["verdict"],
                "low": place(100 * claim["low"]),
                "mean": place(100 * claim["difference"]),
                "high": place(100 * claim["high"]),
                "y": round(ROW * (index + 0.5), 1),
            }
            for index, claim in enumerate(shown)
        ],
        ticks=[(place(tick), f"{tick:g}") for tick in ticks],
        zero=place(0.0),
        left=LEFT,
        right=RIGHT,
        bottom=ROW * len(shown),
        width=RIGHT + 20,
        height=ROW * len(shown) + BOTTOM,
    )


if __name__ == "__main__":
    main()
