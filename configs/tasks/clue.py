"""Tasks of CLUE (arXiv:2004.05986) by its formats, and ChnSentiCorp."""

from configs.tasks.classification import Classification
from data_pipeline.finetune.texts import Columns

CLUE = (
    Classification(
        "tnews",
        columns=Columns("sentence", label="label_desc"),
        train="train.json",
        dev="dev.json",
        leaderboard=("tnews_predict", "clue"),
    ),
    Classification(
        "iflytek",
        columns=Columns("sentence", label="label"),
        train="train.json",
        dev="dev.json",
        leaderboard=("iflytek_predict", "clue"),
    ),
    Classification(
        "afqmc",
        columns=Columns("sentence1", "sentence2"),
        train="train.json",
        dev="dev.json",
        leaderboard=("afqmc_predict", "clue"),
    ),
    Classification(
        "ocnli",
        columns=Columns("sentence1", "sentence2", unlabelled=("-", "")),
        labels=("entailment", "neutral", "contradiction"),
        train="train.json",
        dev="dev.json",
        leaderboard=("ocnli_50k_predict", "clue"),
    ),
    Classification(
        "csl",
        columns=Columns("abst", "keyword"),
        train="train.json",
        dev="dev.json",
        leaderboard=("csl_predict", "clue"),
    ),
    Classification("chnsenticorp", columns=Columns("text", header=("text", "label"))),
)
