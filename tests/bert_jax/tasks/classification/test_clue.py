"""The tasks of CLUE by its formats, and what its leaderboard takes."""

import json

import pytest

from bert_jax.tasks.classification.clue import TASKS, TNEWS_CODES
from bert_jax.tasks.registry import find_task

ROWS = {
    "tnews": {
        "label": "115",
        "label_desc": "news_agriculture",
        "sentence": "农村",
        "keywords": "x",
    },
    "iflytek": {"label": "11", "label_des": "薅羊毛", "sentence": "应用"},
    "afqmc": {"sentence1": "花呗", "sentence2": "借呗", "label": "0"},
    "ocnli": {"level": "easy", "sentence1": "甲", "sentence2": "乙", "label": "neutral", "id": 2},
    "csl": {"id": 1, "abst": "摘要", "keyword": ["水细菌学", "水质"], "label": "1"},
}
TEXTS = {
    "tnews": ("农村", None, "news_agriculture"),
    "iflytek": ("应用", None, "11"),
    "afqmc": ("花呗", "借呗", "0"),
    "ocnli": ("甲", "乙", "neutral"),
    "csl": ("摘要", "水细菌学 水质", "1"),
}
FILES = {
    "tnews": "tnews11_predict.json",
    "iflytek": "iflytek_predict.json",
    "afqmc": "afqmc_predict.json",
    "ocnli": "ocnli_50k_predict.json",
    "csl": "csl_predict.json",
}


@pytest.mark.parametrize("task", TASKS[:-1], ids=lambda task: task.name)
def test_rows_with_labels_and_without(task, tmp_path):
    row = ROWS[task.name]
    unknown = {k: v for k, v in row.items() if not k.startswith("label")}
    path = tmp_path / "dev.json"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in (row, unknown)))
    first, second = task.read(str(path)).rows
    assert (first.first, first.second, first.label) == TEXTS[task.name]
    assert (second.first, second.label) == (TEXTS[task.name][0], None)


@pytest.mark.parametrize("task", TASKS[:-1], ids=lambda task: task.name)
def test_submissions_have_the_labels_of_the_files(task):
    name, content = task.submission([{"label": TEXTS[task.name][2]}, {"label": 'a "b"'}])
    assert name == FILES[task.name]
    first, second = map(json.loads, content.splitlines())
    assert (first["id"], first["label"]) == (0, ROWS[task.name]["label"])
    assert (second["id"], second["label"]) == (1, 'a "b"')


def test_tnews_has_fifteen_codes():
    # No news of kinds 105 and 111.
    assert sorted(map(int, TNEWS_CODES.values())) == sorted({*range(100, 117)} - {105, 111})
    content = find_task("tnews").submission([{"label": "news_story"}])[1]
    assert json.loads(content) == {"id": 0, "label": "100", "label_desc": "news_story"}


def test_rows_of_ocnli_without_agreement_are_only_predicted(tmp_path):
    path = tmp_path / "dev.json"
    path.write_text(json.dumps(ROWS["ocnli"] | {"label": "-"}) + "\n")
    found = find_task("ocnli").read(str(path))
    assert [row.label for row in found.rows] == [None]
    assert not found.usable().rows


@pytest.mark.parametrize(
    "content",
    ["好\t1\n坏\t0\n", "label\ttext_a\n1\t好\n0\t坏\n", "qid\tlabel\ttext_a\n0\t1\t好\n1\t0\t坏\n"],
)
def test_chnsenticorp_with_a_header_and_without(content, tmp_path):
    (tmp_path / "train.tsv").write_text(content)
    rows = find_task("chnsenticorp").read(f"{tmp_path}/train.tsv").rows
    assert [(row.first, row.label) for row in rows] == [("好", "1"), ("坏", "0")]


def test_the_submission_of_cmrc2018():
    name, content = find_task("cmrc2018").submission([{"id": "TEST_0_QUERY_0", "answer": "甲"}])
    assert name == "cmrc2018_predict.json"
    assert json.loads(content) == {"TEST_0_QUERY_0": "甲"}
