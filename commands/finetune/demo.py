"""The demo of run_finetune.py: which package does a docstring come from?"""

import dataclasses
import os
import sysconfig
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bert_jax.errors import UserError
from bert_jax.files import read_json
from bert_jax.training.config import OptimizerConfig
from bert_jax.training.saved_params import saved_steps
from commands.finetune.demo_data import write_packages
from commands.finetune.train import finetune_seeds
from commands.same_run import OtherRunError
from configs.finetune import FinetuneConfig
from data_pipeline.finetune.tables import read_rows
from data_pipeline.workers import worker_pool

PRETRAINED = Path("runs/demo")
DATA = Path("corpora/packages")


def prepare(console: Console) -> dict[str, FinetuneConfig]:
    """Makes the data on first use, and returns the fine-tunings to compare by name."""
    if not (PRETRAINED / "summary.json").is_file() or not saved_steps(PRETRAINED):
        raise UserError(
            f"the demo fine-tunes the model in {PRETRAINED}, which is missing or not finished; "
            "make it first with: python run_pretrain.py (some minutes); or name a task: "
            "run_finetune.py --help"
        )
    if not (DATA / "train.tsv").is_file():
        console.print("reading the docstrings of the installed Python packages")
        folders = [Path(sysconfig.get_path(key)) for key in ("purelib", "platlib")]
        with worker_pool(os.cpu_count() or 1) as pool:
            write_packages(DATA, folders, partial(pool.map, chunksize=16))
    config = FinetuneConfig(
        task="classify",
        init_from=str(PRETRAINED),
        data=str(DATA),
        work_dir="runs/demo-finetuned",
        sequence_length=64,
        epochs=5,
        dropout=0.2,  # pre-training, which sees each text about twice, needs none
        optimizer=OptimizerConfig(
            name="adamw", learning_rate=5e-4, warmup_steps=None, warmup_proportion=0.1
        ),
    )
    scratch = dataclasses.replace(config, work_dir="runs/demo-from-scratch", from_scratch=True)
    return {"pre-trained": config, "the same model from scratch": scratch}


def compare_demo(console: Console) -> Path | None:
    """Compares the pre-trained model, the same one from scratch, and a linear model.

    Returns the work folder of the pre-trained one; None after a signal.
    """
    configs = prepare(console)
    scores = {}
    for name, config in configs.items():
        console.print(f"\n{name}")
        try:
            folder = finetune_seeds(config, [], console)
        except OtherRunError:
            raise UserError(
                f"{config.work_dir} holds the demo of another model or of other data; delete it, "
                "and repeat the command"
            ) from None
        if folder is None:
            return None
        scores[name] = read_json(folder / "summary.json")["scores"]["dev"]["accuracy"]
    scores["TF-IDF and logistic regression"] = baseline()
    table = Table(title="Which package is a docstring from?", title_justify="left")
    table.add_column("")
    table.add_column("accuracy", justify="right")
    for name, score in scores.items():
        table.add_row(name, f"{score:.3f}")
    console.print(table)
    return Path(next(iter(configs.values())).work_dir)


def baseline() -> float:
    """Accuracy of a linear classifier on words and word pairs, weighted by TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, dev = (read_rows(str(DATA / name)) for name in ("train.tsv", "dev.tsv"))
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        LogisticRegression(C=10, max_iter=1000),
    )
    model.fit([row["text"] for row in train], [row["label"] for row in train])
    return float(model.score([row["text"] for row in dev], [row["label"] for row in dev]))
