"""The data of a fine-tuning: what is said, and what is refused before any work."""

import pytest

from bert_jax.errors import UserError
from bert_jax.tasks.columns import ColumnOptions
from bert_jax.tasks.registry import find_task
from commands.finetune.command_line import task_of
from commands.finetune.data import load_data
from configs.finetune import FinetuneConfig
from data_pipeline.errors import DataError
from tests.letters import LETTERS

TABLE = "text\tlabel\na b\t{}\nc\t{}\nd\t{}\n"
LABELS = {"classify": ("x", "y", "x"), "regress": (1, 2, 3), "multilabel": ("x", "", "x,y")}


def load(folder, task="classify", train=None, dev=None, test=None, columns=None, **settings):
    """(data, what was said) of tables with these contents."""
    files = {}
    for name, content in (("train", train), ("dev", dev), ("test", test)):
        if content is not None:
            path = folder / f"{name}.{'jsonl' if content.startswith('{') else 'tsv'}"
            path.write_text(content)
            files[name] = str(path)
    options = ColumnOptions(**columns or {})
    config = FinetuneConfig(task, columns=options, sequence_length=16, **files, **settings)
    said: list[str] = []
    return load_data(task_of(config), config, LETTERS, said.append), said


@pytest.mark.parametrize("task", LABELS)
def test_a_dev_file_without_labels_is_refused(tmp_path, task):
    train = TABLE.format(*LABELS[task])
    words = (
        r"dev.tsv:2: there is no column 'label'.*text, lable.*dev needs .*--columns.label NAME\)"
    )
    with pytest.raises(UserError, match=words):
        load(tmp_path, task, train, train.replace("label", "lable"))
    with pytest.raises(
        UserError, match=r"dev.tsv: no row has a value in its column 'label' \(--dev"
    ):
        load(tmp_path, task, train, TABLE.format("", "", ""))
    data, _ = load(tmp_path, task, train, train, TABLE.format("", "", ""))
    for split in (data.dev, data.test):
        expected = 3 if split is data.dev else 0
        assert find_task(task).count_judged(split.examples, split.features) == expected


def test_a_test_file_without_labels_is_said_to_be_only_predicted(tmp_path):
    table = TABLE.format("x", "y", "x")
    _, said = load(tmp_path, train=table, dev=table, test=TABLE.format("", "", ""))
    assert "no row has a value in its column 'label'; predicted, not" in "\n".join(said)
    _, said = load(tmp_path, train=table, dev=table, test=table.replace("label", "lable"))
    assert "there is no column 'label'" in "\n".join(said)
    _, said = load(tmp_path, train=table, dev=table, test=table)
    assert "predicted, not scored" not in "\n".join(said)


def test_dev_data_is_known_wherever_it_is(tmp_path, monkeypatch):
    table = TABLE.format("dev", "y", "dev").replace("a b", "dev")
    (tmp_path / "sub").mkdir()
    prints = []
    for folder, dev in (("", "dev"), ("sub", "dev"), ("", "sub/dev")):
        monkeypatch.chdir(tmp_path / folder)
        for path in (tmp_path / "train.tsv", tmp_path / folder / dev):
            path.write_text(table)
        config = FinetuneConfig(
            "classify", sequence_length=16, train=str(tmp_path / "train.tsv"), dev=dev
        )
        data = load_data(task_of(config), config, LETTERS, str)
        prints.append(data.dev.fingerprint())
    assert len(set(prints)) == 1
    (tmp_path / "sub/dev").write_text(table.replace("y", "dev"))
    assert load_data(task_of(config), config, LETTERS, str).dev.fingerprint() != prints[0]


def test_one_file_for_both_is_remarked_on(tmp_path):
    table = TABLE.format("x", "y", "x")
    (tmp_path / "one.tsv").write_text(table)
    one = str(tmp_path / "one.tsv")
    config = FinetuneConfig("classify", train=one, dev=one, sequence_length=16)
    said: list[str] = []
    load_data(task_of(config), config, LETTERS, said.append)
    assert "train and dev are the same file" in said[0]
    _, said = load(tmp_path, train=table, dev=table)
    assert "same file" not in "\n".join(said)


def test_a_wrong_label_column_is_named_in_training(tmp_path):
    table = TABLE.format("x", "y", "x")
    with pytest.raises(UserError, match=r"train.tsv:2: there is no column 'lable'.*text, label"):
        load(tmp_path, train=table, dev=table, columns={"label": "lable"})


def test_other_kinds_of_tasks_need_labels_in_dev_too(tmp_path):
    row = '{"ctx": "a", "endings": ["b", "c"]%s}\n'
    (tmp_path / "hellaswag_train.jsonl").write_text(row % ', "label": 1')
    (tmp_path / "hellaswag_val.jsonl").write_text(row % "")
    config = FinetuneConfig("hellaswag", data=str(tmp_path), sequence_length=16)
    words = r"val.jsonl:1: there is no column 'label'; there are: ctx, endings \(--dev needs labels"
    with pytest.raises(UserError, match=words):
        load_data(task_of(config), config, LETTERS, print)


def test_what_has_no_label_under_a_known_name_is_said_to(tmp_path):
    """Other kinds of tasks: their label has a fixed name, so another one is named."""
    summary = '{"article": "A b. C d.", "highlights": "A b."}\n'
    with pytest.raises(UserError, match="no column 'summary'; there are: article, highlights"):
        load(tmp_path, "summarize", summary, summary)
    question = '{"id": 1, "question": "a?", "context": "a b"}\n'
    with pytest.raises(UserError, match=r"train.jsonl: no question has 'answers' \(--train needs"):
        load(tmp_path, "squad", question, question)
    table = tmp_path / "c3.json"
    table.write_text('[[["a"], [{"question": "b", "choice": ["c", "d"]}], "1"]]')
    config = FinetuneConfig("c3", train=str(table), dev=str(table), sequence_length=16)
    with pytest.raises(UserError, match="no question has an answer under the key 'answer'"):
        load_data(task_of(config), config, LETTERS, print)


def test_a_file_of_which_nothing_is_left_says_why(tmp_path):
    rows = '{"article": "A b. C d.", "summary": "Zebras walked by."}\n'
    with pytest.raises(UserError, match=r"no example that can be used \(.*train.jsonl:1: its summ"):
        load(tmp_path, "summarize", rows, rows)
    (tmp_path / "d.txt").write_text("Hi. __eou__ Ho. __eou__\n")
    source = f"{tmp_path}/d.txt[5:]"
    config = FinetuneConfig("response_selection", train=source, dev=source, sequence_length=16)
    with pytest.raises(UserError, match="holds no example; give another --train"):
        load_data(task_of(config), config, LETTERS, print)


def test_mistakes_of_the_first_rows_name_the_option(tmp_path):
    table = TABLE.format("x", "x", "y")
    with pytest.raises(UserError, match=r"all 2 training rows.*first 2 rows: --train-examples"):
        load(tmp_path, train=table, dev=table, train_examples=2)


def test_a_column_that_is_not_there_comes_with_what_to_type(tmp_path):
    table = TABLE.format("x", "y", "x")
    with pytest.raises(UserError, match=r"no column 'body'; there are: text, label; say which it"):
        load(tmp_path, train=table, dev=table, columns={"first": "body"})
    with pytest.raises(UserError, match=r"it is: --columns.second NAME; .*--columns.header NAME"):
        load(tmp_path, train=table, dev=table, columns={"second": "other"})
    with pytest.raises(UserError, match=r"'query_id'.*which it is: --columns.group NAME; .*--col"):
        load(tmp_path, "rerank", table.replace("text", "query"), table)
    (tmp_path / "tabs.csv").write_text(table)
    config = FinetuneConfig("classify", train=f"{tmp_path}/tabs.csv", dev="x", sequence_length=16)
    with pytest.raises(UserError, match=r"separated by tabs: name the file \.tsv; say which"):
        load_data(task_of(config), config, LETTERS, print)


def test_a_column_has_one_role(tmp_path):
    table = TABLE.format("x", "y", "x")
    with pytest.raises(UserError, match="the column 'label' is both second and label; give each"):
        load(tmp_path, train=table, dev=table, columns={"second": "label"})


def test_a_header_that_is_said_not_to_be_there_is_doubted(tmp_path):
    table = TABLE.format("x", "y", "x")
    _, said = load(tmp_path, train=table, dev=table, columns={"header": ("text", "label")})
    assert not [line for line in said if "no other row" in line]
    rows = TABLE.format("x", "y", "x") + "e\ty\n"
    columns = {"header": ("body", "kind"), "first": "body", "label": "kind"}
    _, said = load(tmp_path, train=rows, dev=rows, columns=columns)
    assert f"{tmp_path}/train.tsv: no other row has the label 'label' of the first; if" in said[0]
    rows = "a b\t1.5\nc\t2\nd\t3\n"  # no header: a number names no column
    _, said = load(tmp_path, "regress", rows, rows, columns={"header": ("text", "label")})
    assert not [line for line in said if "no other row" in line]


def test_columns_that_a_task_has_no_use_for(tmp_path):
    table = TABLE.format("x", "y", "x")
    with pytest.raises(UserError, match=r"classify has no use for --columns.group; leave it out"):
        load(tmp_path, train=table, dev=table, columns={"group": "text"})
    with pytest.raises(UserError, match=r"summarize has no use for --columns\.second"):
        load(tmp_path, "summarize", table, table, columns={"second": "text"})


def test_rows_that_cannot_be_learned_from_are_only_predicted(tmp_path):
    lines = [
        f'{{"sentence1": "a", "sentence2": "b", "label": "{label}"}}\n'
        for label in ("neutral", "-", "entailment")
    ]
    data, said = load(tmp_path, "ocnli", *["".join(lines)] * 3)
    assert [len(split.examples) for split in (data.train, data.dev, data.test)] == [2, 2, 3]
    weights = [row.values["weights"].item() for row in data.test.features.rows]
    assert weights == [1, 0, 1]
    assert [line for line in said if "left out" in line] == [
        f"{tmp_path}/{name}.jsonl: 1 left out" for name in ("train", "dev")
    ]


def test_class_weights_are_one_over_the_frequency(tmp_path):
    table = TABLE.format("x", "y", "x")
    data, _ = load(tmp_path, train=table, dev=table, class_weights="balanced")
    weights = [row.values["weights"].item() for row in data.train.features.rows]
    assert weights == pytest.approx([0.75, 1.5, 0.75])  # their mean is 1
    assert [row.values["weights"].item() for row in data.dev.features.rows] == [1, 1, 1]
    table = TABLE.format("x", "y", "x,y")
    with pytest.raises(UserError, match="class_weights is balanced, but in multilabel"):
        load(tmp_path, "multilabel", table, table, class_weights="balanced")
    table = TABLE.format(1, 2, 3)
    with pytest.raises(UserError, match="regress has no classes"):
        load(tmp_path, "regress", table, table, class_weights="balanced")


def test_a_row_without_a_label_is_refused_in_training_alone(tmp_path):
    table, partly = TABLE.format("x", "y", "x"), TABLE.format("x", "", "y")
    with pytest.raises(DataError, match=r"train.tsv:3: there is no label; training needs one"):
        load(tmp_path, train=partly, dev=table)
    data, said = load(tmp_path, train=table, dev=partly)
    assert "  1 of them cannot be scored, only predicted" in said
    assert [row.values["weights"].item() for row in data.dev.features.rows] == [1, 0, 1]
