"""The command line of run_finetune.py, checked against the task."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.tasks.registry import TASKS, find_task
from bert_jax.tasks.task import Task
from commands.exporters import EXPORTERS
from commands.folders import check_output
from configs.finetune import USUAL_RATES, FinetuneConfig
from data_pipeline.command_line import parse


def from_command_line(arguments: Sequence[str]) -> FinetuneConfig:
    """Reads and checks `TASK --init-from DIR --data DIR [--option value ...]`."""
    config = parse(
        FinetuneConfig,
        arguments,
        program="run_finetune.py",
        description="Fine-tunes a pre-trained BERT: run_finetune.py TASK --init-from DIR --data "
        "DIR. Tasks:\n" + "\n".join(f"  {task}" for task in TASKS),
    )
    if not config.work_dir:
        config = dataclasses.replace(config, work_dir=f"runs/{Path(config.task).stem or 'task'}")
    if config.optimizer.learning_rate is None:
        rate = USUAL_RATES[config.method.name]
        optimizer = dataclasses.replace(config.optimizer, learning_rate=rate)
        config = dataclasses.replace(config, optimizer=optimizer)
    _check(config)
    return config


def task_of(config: FinetuneConfig) -> Task[Any]:
    """The task that a configuration names, with its columns."""
    return find_task(config.task).with_columns(config.columns)


def _check(config: FinetuneConfig) -> None:
    if not config.task:
        raise UserError(f"name a task: {', '.join(TASKS)}; or a Python file that defines TASK")
    task = task_of(config)
    config.validate()
    if not config.data and not (config.train and config.dev):
        raise UserError(
            f"no data is given; add --data DIR (with {task.train} and {task.dev} in it), or "
            "--train FILE --dev FILE"
        )
    if not task.has_classes:
        for name in ("label_smoothing", "r_drop"):
            if getattr(config.regularization, name):
                raise UserError(
                    f"regularization.{name} needs classes, but {task.name} has none; leave it out"
                )
    if config.export and exported_seeds(config) != config.seeds:
        _check_export(config, task, *config.export)


def exported_seeds(config: FinetuneConfig) -> tuple[int, ...]:
    """The seeds whose best was exported to the folder of --export; empty if not by this run."""
    if not config.export or not (config.export[1] / "config.json").is_file():
        return ()
    record = read_json(config.export_record) if config.export_record.is_file() else {}
    ours = (config.export[0], str(config.export[1].resolve()))
    is_ours = (record.get("format", "hf"), record.get("folder")) == ours
    return tuple(record["seeds"]) if is_ours else ()


def _check_export(config: FinetuneConfig, task: Task[Any], name: str, folder: Path) -> None:
    if name not in EXPORTERS:
        raise UserError(f"--export {name} is unknown; there are: {', '.join(EXPORTERS)}")
    if seeds := exported_seeds(config):
        raise UserError(
            f"--export {name} {folder} holds the best of the seeds "
            f"{', '.join(map(str, seeds))}, not of these; give another folder, or delete it"
        )
    check_output(folder, f"--export {name}")
    if Path(config.work_dir).resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"--export {name} {folder} contains the run's work folder {config.work_dir}; give "
            "another folder"
        )
    check_exporter(config, task, task.head)


def check_exporter(config: FinetuneConfig, task: Task[Any], class_name: str) -> None:
    """Refuses a model that --export cannot write; `class_name` as for `Exporter.why_not`."""
    assert config.export is not None
    name, _ = config.export
    if why := EXPORTERS[name].why_not(config.method, task.name, class_name):
        raise UserError(f"--export {name}: {why}; leave it out")
