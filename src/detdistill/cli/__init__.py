"""The command line: every verb is one dataclass in one of this package's files and calls one public function.

Nothing here may import torch or numpy outside a verb's `run`: help must answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from detdistill.cli import data_command as data
from detdistill.cli.analyze_command import Analyze
from detdistill.cli.benchmark_command import Benchmark
from detdistill.cli.compare_command import Compare
from detdistill.cli.convert_command import Convert
from detdistill.cli.distill_command import Check, Distill
from detdistill.cli.evaluate_command import Evaluate
from detdistill.cli.export_command import Export
from detdistill.cli.import_command import Import
from detdistill.cli.methods_command import Methods
from detdistill.cli.parser import Group, parse
from detdistill.cli.predict_command import Predict
from detdistill.cli.publish_command import Publish
from detdistill.cli.train_command import Train
from detdistill.core.allocation import keep_freed_memory
from detdistill.core.errors import DetdistillError

COMMANDS = Group(
    "Make a small, fast object detector learn from a strong one.",
    {
        "data": Group(
            "Inspect, split, convert or generate a dataset.",
            {"inspect": data.Inspect, "split": data.Split, "convert": Convert, "scenes": data.Scenes},
        ),
        "train": Train,
        "distill": Distill,
        "check": Check,
        "methods": Methods,
        "compare": Compare,
        "analyze": Analyze,
        "evaluate": Evaluate,
        "benchmark": Benchmark,
        "import": Import,
        "predict": Predict,
        "export": Export,
        "publish": Publish,
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: the words after the program's name; None for those of this process.

    Returns:
        The exit status: 0, 1 after an error that the user can mend, 130 after Ctrl-C, 141 when the reader of our
        output went away.

    Raises:
        SystemExit: after `--help` and `--version` (status 0) and after a mistake in usage (status 2).
    """
    keep_freed_memory()
    try:
        try:
            parse(COMMANDS, arguments).run()
        finally:
            sys.stdout.flush()
    except DetdistillError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The interpreter flushes standard output once more when it exits, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
