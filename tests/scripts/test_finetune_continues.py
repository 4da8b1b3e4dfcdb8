"""A fine-tuning that is stopped, killed, moved, or asked for once more."""

import json
import shutil
import signal

import jax

import run_finetune
import run_predict
from bert_jax.monitoring.tracker import read_metrics
from bert_jax.training.checkpoint import save_params
from bert_jax.training.saved_params import load_params, saved_steps
from tests.scripts.finetuning import finetune_options, start_finetune
from tests.scripts.runs import assert_same_run, mistake, wait_for


def test_a_stopped_run_continues_to_the_same_numbers(data, pretrained, finetuned, tmp_path, capsys):
    work_dir = tmp_path / "run"
    arguments = finetune_options(data, pretrained, work_dir)
    process = start_finetune(arguments)
    metrics = work_dir / "metrics.jsonl"
    wait_for(process, lambda: any(row["step"] >= 10 for row in read_metrics(metrics)))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    stopped = saved_steps(work_dir)[-1]
    assert 10 <= stopped < 60, output
    assert "the same command continues" in output
    run_predict.main(["classify", f"--checkpoint={work_dir}", "a cat"])
    assert f"{work_dir} has not been trained to the end; this is" in capsys.readouterr().err
    run_finetune.main(arguments)
    assert_same_run(work_dir, finetuned)
    capsys.readouterr()
    run_predict.main(["classify", f"--checkpoint={work_dir}", "a cat"])
    assert "to the end" not in capsys.readouterr().err


def test_kill_9_after_a_checkpoint_loses_nothing(
    data, pretrained, finetuned, tmp_path, monkeypatch
):
    """Continued where other lengths would be cheaper, it keeps those that it began with."""
    work_dir = tmp_path / "run"
    arguments = finetune_options(data, pretrained, work_dir)
    process = start_finetune(arguments)
    wait_for(process, lambda: saved_steps(work_dir))
    process.kill()
    process.communicate()
    monkeypatch.setattr("commands.finetune.data._CPU_PRICE", 0)
    run_finetune.main(arguments)
    assert_same_run(work_dir, finetuned)


def test_the_same_command_after_the_end_says_so(data, pretrained, finetuned, tmp_path, capsys):
    shutil.copytree(finetuned, tmp_path / "run")
    run_finetune.main(finetune_options(data, pretrained, tmp_path / "run"))
    assert "Scores on the dev set" in capsys.readouterr().out
    assert_same_run(tmp_path / "run", finetuned)


def test_files_may_move_but_not_change(data, pretrained, finetuned, tmp_path, capsys):
    """A finished run is asked for a test file, from where everything has another place."""
    start, files, work_dir = (tmp_path / name for name in ("start", "files", "run"))
    for source, place in ((pretrained, start), (data, files), (finetuned, work_dir)):
        shutil.copytree(source, place)
    changes = {"test": files / "dev.tsv"}
    run_finetune.main(finetune_options(files, start, work_dir, changes=changes))
    assert_same_run(work_dir, finetuned)
    scores = json.loads((work_dir / "summary.json").read_text())["scores"]
    assert scores["test"] == scores["dev"]
    capsys.readouterr()

    def error(change):
        arguments = finetune_options(files, start, work_dir, changes=change)
        return mistake(capsys, run_finetune.main, arguments)

    other = tmp_path / "other.tsv"
    other.write_text((data / "dev.tsv").read_text().replace("\tcat", "\tdog", 1))
    assert "another configuration (other dev data);" in error({"dev": other})
    other.write_text((data / "train.tsv").read_text().replace("\tcat", "\tdog", 1))
    assert "(other training data)" in error({"train": other})
    params, saved, step = load_params(start)
    doubled = jax.tree.map(lambda x: 2 * x, params)
    save_params(start, doubled, saved, step=step + 1)
    (start / "summary.json").unlink()
    run_finetune.main(finetune_options(files, start, work_dir))  # the start is still being trained
    assert_same_run(work_dir, finetuned)
    capsys.readouterr()
    assert "is not finished and will delete the checkpoint" in error({"method.name": "lora"})
    shutil.rmtree(start / "checkpoints")
    save_params(start, doubled, saved, step=step)
    assert "(other parameters in --init-from)" in error({})
    shutil.rmtree(start / "checkpoints")
    save_params(start, doubled, saved, step=step + 1)
    words = f"(other parameters in --init-from; started from step {step}, which no longer exists"
    assert words in error({})


def test_no_seed_is_trained_where_another_cannot_be(data, pretrained, finetuned, tmp_path, capsys):
    shutil.copytree(finetuned, tmp_path / "run/seed-5")
    arguments = finetune_options(data, pretrained, tmp_path / "run", changes={"epochs": 1})
    error = mistake(capsys, run_finetune.main, [*arguments, "--seeds", "3", "5"])
    assert "seed-5 was made with another configuration (epochs: 4 -> 1" in error
    assert not (tmp_path / "run/seed-3").exists()


def test_several_seeds_do_not_go_into_the_folder_of_one(data, pretrained, finetuned, capsys):
    arguments = finetune_options(data, pretrained, finetuned)
    error = mistake(capsys, run_finetune.main, [*arguments, "--seeds", "0", "1"])
    assert f"{finetuned} cannot be used for several seeds, because it holds README" in error
    assert not (finetuned / "seed-0").exists()
