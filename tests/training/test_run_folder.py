from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import Architecture
from detdistill.training.recipe import Data, Machine, Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run_folder import RunFolder

RECIPE = Recipe(data=Data("anywhere"))


def prepare(run: RunFolder, recipe: Recipe = RECIPE, *, resume: bool = False, overwrite: bool = False) -> None:
    with run.held():
        run.prepare(recipe, resume=resume, overwrite=overwrite)


def test_a_recipe_that_failed_before_its_first_checkpoint_blocks_no_other(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(run)
    run.log(step=1)
    prepare(run, replace(RECIPE, seed=1))
    assert "seed: 1" in run.recipe.read_text()
    assert not run.metrics.exists()


def test_a_folder_with_anything_else_in_it_does(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(run)
    (run.path / "model.json").write_text("{}")
    with pytest.raises(DetdistillError, match=r"seed: 0 -> 1"):
        prepare(run, replace(RECIPE, seed=1))
    assert (run.path / "model.json").exists()


def test_a_run_with_a_checkpoint_does(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(run)
    run.checkpoint.write_bytes(b"state")
    with pytest.raises(DetdistillError, match=r"seed: 0 -> 1"):
        prepare(run, replace(RECIPE, seed=1))
    prepare(run)
    assert run.checkpoint.read_bytes() == b"state"


def test_a_run_is_finished_for_its_own_recipe_only(tmp_path: Path) -> None:
    """A process that is told to go on with more epochs must not take the old summary for its own."""
    run = RunFolder(tmp_path / "run")
    assert not run.is_finished(RECIPE)
    prepare(run)
    assert not run.is_finished(RECIPE)
    run.checkpoint.write_bytes(b"state")
    run.summary.write_text("{}")
    longer = replace(RECIPE, schedule=replace(RECIPE.schedule, epochs=24))
    assert run.is_finished(RECIPE)
    assert not run.is_finished(longer)
    prepare(run, longer, resume=True)
    assert not run.is_finished(longer)


def test_only_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    run, same = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    with (
        run.held(),
        pytest.raises(DetdistillError, match=f"another process is training in {run.path}: let it come to its end"),
        same.held(patience=0),
    ):
        pass
    with same.held(patience=0):
        pass


def test_a_run_is_thrown_away_while_its_folder_is_held(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(run)
    run.checkpoint.write_bytes(b"state")
    run.summary.write_text("{}")
    (run.path / "tensorboard").mkdir()
    (run.path / "tensorboard" / "events").write_text("")
    (run.path / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    with run.held():
        run.prepare(replace(RECIPE, seed=1), resume=False, overwrite=True)
        with pytest.raises(DetdistillError, match="another process"), RunFolder(run.path).held(patience=0):
            pass
    assert {path.name for path in run.path.rglob("*")} == {"recipe.yaml", "resume", "lock"}
    assert "seed: 1" in run.recipe.read_text()


def test_files_of_other_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DetdistillError, match=r"holds files, but no run \(no recipe.yaml\)"):
        prepare(RunFolder(tmp_path), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(DetdistillError, match=r"thesis.tex is a file: name a folder"):
        prepare(RunFolder(tmp_path / "thesis.tex"))


def test_a_kill_before_the_recipe_is_written_blocks_nothing(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.held():
        pass
    prepare(run)
    assert run.recipe.exists()


def test_a_run_whose_recipe_has_former_keys_is_still_known(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(run)
    run.checkpoint.write_bytes(b"state")
    run.summary.write_text("{}")
    former = "data: {path: anywhere}\ndetector: {head: gfl, channels: 256, extra_levels: 2}\nstart: {run: null}\n"
    run.recipe.write_text(former)
    assert run.is_finished(RECIPE)
    with pytest.raises(DetdistillError, match=r"detector\.kind: gfl -> fcos"):
        prepare(run, replace(RECIPE, detector=Architecture("fcos")))
    assert run.recipe.read_text() == former
    prepare(run)
    assert "kind: gfl" in run.recipe.read_text()
    assert "head" not in run.recipe.read_text()


def fail(run: RunFolder, message: str, after_step: int | None = None) -> None:
    with run.held():
        run.prepare(RECIPE, resume=False, overwrite=False)
        if after_step is not None:
            run.log(step=after_step)
        raise DetdistillError(message)


def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "runs" / "a")
    with pytest.raises(DetdistillError, match="no data"):
        fail(run, "no data")
    assert not run.path.exists()
    (tmp_path / "mine").mkdir()
    with pytest.raises(DetdistillError, match="no data"):
        fail(RunFolder(tmp_path / "mine"), "no data")
    assert list((tmp_path / "mine").iterdir()) == [], "a folder that was there stays"


def test_a_failure_after_a_step_keeps_what_there_is(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with pytest.raises(DetdistillError, match="diverged"):
        fail(run, "diverged", after_step=1)
    assert run.metrics.exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("leftover", [".recipe.yaml.1.tmp", "resume/.state.ckpt.77.tmp", ".metrics.jsonl.1.tmp"])
def test_a_kill_in_the_first_write_leaves_a_folder_that_can_be_used(
    leftover: str, overwrite: bool, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "resume").mkdir(parents=True)
    (run.path / "resume" / "lock").touch()
    (run.path / leftover).write_bytes(b"half")
    prepare(run, overwrite=overwrite)
    assert run.recipe.exists()
    assert not (run.path / leftover).exists()


@pytest.mark.parametrize("torn", [b'{"step": 3, "AP50_per_class": {"caf\xc3', b'{"step": 3', b"\xff"])
def test_a_torn_last_line_is_left_out(torn: bytes, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(run)
    run.log(step=1, name="é")
    run.log(step=2, name="é")
    whole = run.metrics.read_bytes()
    run.metrics.write_bytes(whole + torn)
    run.forget_after(9)
    assert run.metrics.read_bytes() == whole


@pytest.mark.parametrize("line", [b"[1]", b'{"epoch": 1}', b'{"step": "2"}', b"\xff", b"no json"])
def test_another_bad_line_is_named(line: bytes, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    prepare(run)
    run.log(step=1)
    run.metrics.write_bytes(run.metrics.read_bytes() + line + b"\n")
    run.log(step=3)
    with pytest.raises(DetdistillError, match=r"metrics.jsonl, line 2"):
        run.forget_after(9)


PLAIN = replace(RECIPE, machine=Machine(precision="bf16", threads=3))


def begun(folder: Path, recipe: Recipe = PLAIN) -> RunFolder:
    run = RunFolder(folder / "run")
    prepare(run, recipe)
    run.checkpoint.write_bytes(b"state")
    return run


def test_a_resumed_run_keeps_what_was_chosen_for_it(tmp_path: Path) -> None:
    run = begun(tmp_path)
    for _ in range(2):
        with run.held():
            assert run.prepare(RECIPE, resume=False, overwrite=False) == PLAIN
    assert read_recipe(run.recipe) == PLAIN
    run.summary.write_text("{}")
    assert run.is_finished(RECIPE)
    assert run.is_finished(PLAIN)


@pytest.mark.parametrize(
    ("machine", "key"),
    [
        (Machine(precision="float32"), "machine.precision"),
        (Machine(threads=1), "machine.threads"),
        (Machine(precision="bf16", threads=4), "machine.threads"),
    ],
)
def test_explicit_values_of_another_kind_are_another_recipe(machine: Machine, key: str, tmp_path: Path) -> None:
    run = begun(tmp_path)
    other = replace(RECIPE, machine=machine)
    with pytest.raises(DetdistillError, match=key):
        prepare(run, other)
    run.summary.write_text("{}")
    assert not run.is_finished(other)
    prepare(run, other, resume=True)
    kept = read_recipe(run.recipe).machine
    assert kept.precision == ("bf16" if machine.precision == "auto" else machine.precision)
    assert kept.threads == (3 if machine.threads == "auto" else machine.threads)


def test_a_run_of_a_version_that_kept_no_threads_is_known(tmp_path: Path) -> None:
    run = begun(tmp_path, replace(RECIPE, machine=Machine(precision="float32", threads=2)))
    run.recipe.write_text("\n".join(line for line in run.recipe.read_text().splitlines() if "threads" not in line))
    with run.held():
        assert run.prepare(RECIPE, resume=False, overwrite=False).machine == Machine(precision="float32")
        pinned = replace(RECIPE, machine=Machine(threads=4))
        assert run.prepare(pinned, resume=False, overwrite=False).machine == Machine(precision="float32", threads=4)


def test_a_new_run_in_a_used_folder_keeps_nothing(tmp_path: Path) -> None:
    run = begun(tmp_path)
    with run.held():
        assert run.prepare(RECIPE, resume=False, overwrite=True) == RECIPE
