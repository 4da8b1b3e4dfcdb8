"""The nine tasks of GLUE (arXiv:1804.07461), with the files of its download and its scores."""

from bert_jax.tasks.classification.task import Classification, Regression
from bert_jax.tasks.columns import Columns
from bert_jax.tasks.task import InDatasets

_ENTAILMENT = ("entailment", "not_entailment")

TASKS = (
    Classification(
        "cola",
        best="matthews",
        columns=Columns("sentence", header=("source", "label", "mark", "sentence")),
        scores=("matthews", "accuracy"),
        in_datasets=InDatasets(labels=("unacceptable", "acceptable")),
        leaderboard=("CoLA", "glue"),
    ),
    Classification(
        "sst2",
        columns=Columns("sentence"),
        in_datasets=InDatasets(labels=("negative", "positive")),
        leaderboard=("SST-2", "glue"),
    ),
    Classification(
        "mrpc",
        best="f1",
        columns=Columns("#1 String", "#2 String", "Quality"),
        in_datasets=InDatasets(
            (("#1 String", "sentence1"), ("#2 String", "sentence2"), ("Quality", "label")),
            ("not_equivalent", "equivalent"),
        ),
        scores=("f1", "accuracy"),
        leaderboard=("MRPC", "glue"),
    ),
    Regression(
        "stsb",
        # TensorFlow Datasets has -1 for the unknown numbers of the test set.
        columns=Columns("sentence1", "sentence2", "score", unlabelled=("-1.0",)),
        in_datasets=InDatasets((("score", "label"),)),
        leaderboard=("STS-B", "glue"),
    ),
    Classification(
        "qqp",
        best="f1",
        columns=Columns("question1", "question2", "is_duplicate", damaged=True),
        in_datasets=InDatasets((("is_duplicate", "label"),), ("not_duplicate", "duplicate")),
        scores=("f1", "accuracy"),
        leaderboard=("QQP", "glue"),
    ),
    Classification(
        "mnli",
        dev="dev_matched.tsv",
        columns=Columns("sentence1", "sentence2", "gold_label", unlabelled=("-",)),
        in_datasets=InDatasets(
            (("sentence1", "premise"), ("sentence2", "hypothesis"), ("gold_label", "label")),
            dev="validation_matched",
        ),
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
    Classification(
        "wnli",
        columns=Columns("sentence1", "sentence2"),
        in_datasets=InDatasets(labels=("not_entailment", "entailment")),
        leaderboard=("WNLI", "glue"),
    ),
)
