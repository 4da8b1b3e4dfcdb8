"""Tasks of CLUE (arXiv:2004.05986) by its formats, and ChnSentiCorp."""

import dataclasses
import functools

from bert_jax.tasks.classification.task import Classification
from bert_jax.tasks.columns import Columns
from bert_jax.tasks.predictions import Predictions
from data_pipeline.files import json_lines

# TNEWS's column "label", by its "label_desc".
TNEWS_CODES = {
    "news_story": "100",
    "news_culture": "101",
    "news_entertainment": "102",
    "news_sports": "103",
    "news_finance": "104",
    "news_house": "106",
    "news_car": "107",
    "news_edu": "108",
    "news_tech": "109",
    "news_military": "110",
    "news_travel": "112",
    "news_world": "113",
    "news_stock": "114",
    "news_agriculture": "115",
    "news_game": "116",
}


@dataclasses.dataclass(frozen=True)
class Tnews(Classification):
    """Kinds of news by name, which is easier to read than the code that CLUE takes."""

    def submission(self, predictions: Predictions) -> tuple[str, str]:
        names = [prediction["label"] for prediction in predictions]
        records = [
            {"id": number, "label": TNEWS_CODES.get(name, name), "label_desc": name}
            for number, name in enumerate(names)
        ]
        return "tnews11_predict.json", json_lines(records)


# The names of the files are those of CLUE 1.1.
_Clue = functools.partial(Classification, train="train.json", dev="dev.json")

TASKS = (
    Tnews(
        "tnews", columns=Columns("sentence", label="label_desc"), train="train.json", dev="dev.json"
    ),
    _Clue("iflytek", columns=Columns("sentence"), leaderboard=("iflytek_predict", "clue")),
    _Clue(
        "afqmc", columns=Columns("sentence1", "sentence2"), leaderboard=("afqmc_predict", "clue")
    ),
    _Clue(
        "ocnli",
        columns=Columns("sentence1", "sentence2", unlabelled=("-", "")),
        labels=("entailment", "neutral", "contradiction"),
        leaderboard=("ocnli_50k_predict", "clue"),
    ),
    _Clue("csl", columns=Columns("abst", "keyword"), leaderboard=("csl_predict", "clue")),
    # Its files exist with a header, of "label" and "text_a" or more, and without one.
    Classification("chnsenticorp", columns=Columns("text_a", header=("text_a", "label"))),
)
