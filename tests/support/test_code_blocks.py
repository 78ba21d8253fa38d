from __future__ import annotations

from pathlib import Path

import pytest

from support import code_blocks
from support.code_blocks import blocks, commands

PAGE = """\
Text.

```bash
a --b 1   # c
```

1. Item

   <!-- not run: needs a GPU -->
   ```python
   x = 1
     ```
   y = 2
   ```

<!-- not run: apart from its block -->

```
output
```
"""


def test_blocks_know_where_they_stand_and_why_they_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    monkeypatch.setattr(code_blocks, "ROOT", tmp_path)
    first, second, third = blocks(tmp_path / "page.md")
    assert (str(first), first.language, first.text, first.not_run) == ("page.md:4", "bash", "a --b 1   # c\n", None)
    assert (second.line, second.language, second.not_run) == (11, "python", "needs a GPU")
    assert second.text == "x = 1\n  ```\ny = 2\n"
    assert (third.language, third.not_run) == ("", None)


def test_commands_are_split_as_a_shell_does() -> None:
    text = "# only a comment\nA=1 B_C='x y' run 'two words' \\\n  --more && cd there\n\n--option  # of a command\n"
    assert commands(text) == [["run", "two words", "--more"], ["cd", "there"], ["--option"]]
