"""The nine tasks of GLUE (arXiv:1804.07461), by the files of its download and its scores."""

from configs.tasks.classification import Classification, Regression
from data_pipeline.finetune.texts import Columns

_ENTAILMENT = ("entailment", "not_entailment")

GLUE = (
    Classification(
        "cola",
        best="matthews",
        columns=Columns("sentence", header=("source", "label", "mark", "sentence")),
        scores=("matthews", "accuracy"),
        leaderboard=("CoLA", "glue"),
    ),
    Classification("sst2", columns=Columns("sentence"), leaderboard=("SST-2", "glue")),
    Classification(
        "mrpc",
        best="f1",
        columns=Columns("#1 String", "#2 String", "Quality"),
        scores=("f1", "accuracy"),
        leaderboard=("MRPC", "glue"),
    ),
    Regression(
        "stsb", columns=Columns("sentence1", "sentence2", "score"), leaderboard=("STS-B", "glue")
    ),
    Classification(
        "qqp",
        best="f1",
        columns=Columns("question1", "question2", "is_duplicate"),
        scores=("f1", "accuracy"),
        leaderboard=("QQP", "glue"),
    ),
    Classification(
        "mnli",
        dev="dev_matched.tsv",
        columns=Columns("sentence1", "sentence2", "gold_label", unlabelled=("-",)),
        labels=("entailment", "neutral", "contradiction"),
        leaderboard=("MNLI-m", "glue"),
    ),
    Classification(
        "qnli",
        columns=Columns("question", "sentence"),
        labels=_ENTAILMENT,
        leaderboard=("QNLI", "glue"),
    ),
    Classification(
        "rte",
        columns=Columns("sentence1", "sentence2"),
        labels=_ENTAILMENT,
        leaderboard=("RTE", "glue"),
    ),
    Classification("wnli", columns=Columns("sentence1", "sentence2"), leaderboard=("WNLI", "glue")),
)
