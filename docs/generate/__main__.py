"""Writes every page that is made from the code; a test compares them."""

from __future__ import annotations

from pathlib import Path

from docs.generate import api, commands, methods, recipes, support

DOCS = Path(__file__).parents[1]
PAGES = {
    "reference/cli.md": commands.page,
    "reference/recipe.md": recipes.page,
    "reference/api.md": api.page,
    "methods.md": methods.page,
    "support.md": support.page,
}
"""What writes each page, from the folder `docs`."""

if __name__ == "__main__":
    (DOCS / "reference").mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
