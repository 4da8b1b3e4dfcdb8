"""From logits to answers: against a search of all spans, and with logits that know the answer."""

import dataclasses
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bert_jax.tasks.question_answering.features import ContextWindow
from bert_jax.tasks.question_answering.reader import Answer, QuestionExample, read_questions
from bert_jax.tasks.question_answering.scores import squad2_scores
from bert_jax.tasks.question_answering.task import QuestionAnswering, best_spans
from bert_jax.tasks.registry import find_task
from bert_jax.tasks.task import Encoding, Outputs
from data_pipeline.errors import DataError
from data_pipeline.tokenization.wordpiece import WordPiece, load_vocab

SHARED = os.environ.get("BERT_JAX_SHARED")
WORDS = [f"w{number}" for number in range(50)]
TOKENIZER = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS], lowercase=True)
SQUAD, SQUAD2 = QuestionAnswering("squad", doc_stride=8), find_task("squad2")
EMPTY = {"answer": "", "start": None, "end": None}


def _examples(count, seed=0, words=60, answered=1.0):
    """Questions about random words, whose answers are some of these in a row."""
    random = np.random.default_rng(seed)
    examples = []
    for number in range(count):
        context = "  ".join(random.choice(WORDS, words))
        starts = [at for at in range(len(context)) if context[at] == "w"]
        first = random.integers(0, words - 3)
        start, end = starts[first], starts[first + random.integers(1, 3)]
        answers = (Answer(context[start:end].strip(), start),) if random.random() < answered else ()
        name = f"q{number}"
        examples.append(QuestionExample(f"f, question {name}", name, "w1 w2", context, answers))
    return examples


def _features(task, examples, max_length=32):
    return task.features(examples, Encoding(TOKENIZER, max_length, ()))


def _knowing(features, length):
    """Logits of a model that knows the answers, of batches of this length."""
    logits = []
    for row in features.rows:
        outputs = np.zeros((length, 2), np.float32)
        if row.values["weights"]:
            for side, position in enumerate(row.values["labels"]):
                outputs[position, side] = 10
        logits.append(outputs)
    return logits


def test_the_best_spans_are_the_best_of_all():
    random = np.random.default_rng(0)
    for _ in range(100):
        size, longest, count = random.integers(1, 20), random.integers(1, 25), random.integers(1, 9)
        position = int(random.integers(1, 5))
        window = ContextWindow(
            position, np.arange(size) * 3, np.arange(size) * 3 + 2, random.random(size) < 0.7
        )
        logits = random.normal(size=(position + size + 4, 2)).astype(np.float32)
        every = sorted(
            (
                (float(logits[position + a, 0]) + float(logits[position + b, 1]), 3 * a, 3 * b + 2)
                for a in range(size)
                for b in range(a, min(size, a + longest))
                if window.is_maximum[a]
            ),
            reverse=True,
        )
        found = sorted(best_spans(logits, window, count, longest), reverse=True)
        assert [span[1:] for span in found] == [span[1:] for span in every[:count]]
        assert [span.score for span in found] == pytest.approx([span[0] for span in every[:count]])


@pytest.mark.parametrize(
    ("answers", "squad", "squad2"),
    [
        (None, False, False),
        ((), False, True),
        ((Answer("w3", 0),), True, True),
        ((Answer("w3", 0, certain=False),), True, True),  # right, but no place to learn
    ],
)
def test_which_questions_tell_how_good_an_answer_is(answers, squad, squad2):
    unknown = QuestionExample("f", "a", "w1", "w3 w4 w3", None)
    examples = [unknown, dataclasses.replace(unknown, id="b", answers=answers)]
    for task, expected in ((SQUAD, squad), (SQUAD2, squad2)):
        features = _features(task, examples)
        assert (task.count_judged(examples, features) > 0) == expected
        if expected:
            right = answers[0].text if answers else ""
            scores = task.score([EMPTY | {"answer": "w9"}, EMPTY | {"answer": right}], examples)
            assert scores["f1"] == 1.0


@pytest.mark.parametrize("task", [SQUAD, SQUAD2], ids=["squad", "squad2"])
def test_each_question_gets_a_prediction_whatever_the_logits_are(task):
    examples = [
        *_examples(3),
        QuestionExample("p", "odd", "w1", "\u200b", None),  # no token at all
        QuestionExample("p", "short", "w1", "w3", None),
    ]
    features = _features(task, examples)
    assert len(features.rows) > len(examples)
    random = np.random.default_rng(0)
    for logits in (
        np.zeros((40, 2)),
        np.full((40, 2), -1e9),
        np.linspace(5, -5, 80).reshape(40, 2),  # starts late, ends early
        random.normal(size=(40, 2)) * 100,
    ):
        predictions = task.predict(
            Outputs([logits.astype(np.float32)] * len(features.rows), features, examples, ())
        )
        assert [prediction["id"] for prediction in predictions] == [e.id for e in examples]
        for prediction, example in zip(predictions, examples, strict=True):
            assert len(prediction["nbest"]) <= 20
            for answer in prediction["nbest"]:
                assert answer["answer"] == example.context[answer["start"] : answer["end"]]
                assert answer["answer"].count("w") <= 30
            scores = [answer["score"] for answer in prediction["nbest"]]
            assert scores == sorted(scores, reverse=True)
            texts = [answer["answer"] for answer in prediction["nbest"]]
            assert len(set(texts)) == len(texts)
            assert (prediction["answer"] == "") == (example.id == "odd")
            assert sum(answer["probability"] for answer in prediction["nbest"]) < 1.0001
        json.dumps(predictions, allow_nan=False)
        decided = task.decide(predictions, task.tune(predictions, examples))
        assert json.loads(task.submission(decided)[1]).keys() == {e.id for e in examples}


@pytest.mark.parametrize("length", [32, 64])
def test_knowing_logits_find_every_answer(length):
    examples = _examples(30)
    features = _features(SQUAD, examples)
    predictions = SQUAD.predict(Outputs(_knowing(features, length), features, examples, ()))
    assert SQUAD.score(predictions, examples) == {"f1": 1, "exact": 1}
    for prediction, example in zip(predictions, examples, strict=True):
        (answer,) = example.answers
        assert prediction["answer"] == answer.text
        assert prediction["start"] == answer.start or example.context.count(answer.text) > 1
    assert SQUAD.tune(predictions, examples) == {}
    assert SQUAD.decide(predictions, {}) == predictions


def test_no_answer_has_the_lowest_score_of_all_windows():
    (example,) = _examples(1)
    features = _features(SQUAD2, [example])
    logits = [np.full((32, 2), -number / 2, np.float32) for number in range(len(features.rows))]
    (prediction,) = SQUAD2.predict(Outputs(logits, features, [example], ()))
    assert prediction["no_answer_score"] == -(len(features.rows) - 1)
    assert prediction["score"] == 0


def test_the_threshold_is_tuned_and_kept():
    examples = _examples(60, answered=0.5)
    features = _features(SQUAD2, examples)
    random = np.random.default_rng(1)
    logits = [
        outputs + 4 * random.normal(size=outputs.shape).astype(np.float32)
        for outputs in _knowing(features, 32)
    ]
    for outputs in logits:
        outputs[0] += 6  # a model that denies too much
    predictions = SQUAD2.predict(Outputs(logits, features, examples, ()))
    settings = SQUAD2.tune(predictions, examples)
    tuned = SQUAD2.score(SQUAD2.decide(predictions, settings), examples)
    default = SQUAD2.score(SQUAD2.decide(predictions, {}), examples)
    assert tuned["f1"] > default["f1"]
    for threshold in np.linspace(-30, 30, 121):
        other = SQUAD2.decide(predictions, {"no_answer_threshold": threshold})
        assert SQUAD2.score(other, examples)["f1"] <= tuned["f1"] + 1e-12
    # The settings are JSON; deciding twice changes nothing, and deciding anew is possible.
    assert json.loads(json.dumps(settings)) == settings
    decided = SQUAD2.decide(predictions, settings)
    assert SQUAD2.decide(decided, settings) == decided
    assert {**decided[0], **EMPTY} == {**predictions[0], **EMPTY}
    for prediction in decided:
        margin = prediction["no_answer_score"] - prediction["nbest"][0]["score"]
        assert (prediction["answer"] == "") == (margin > settings["no_answer_threshold"])
    answers = [prediction["answer"] for prediction in decided]
    assert 0 < answers.count("") < len(answers)
    assert tuned == squad2_scores(answers, [[a.text for a in e.answers] for e in examples])


def test_unlabelled_questions_are_not_scored():
    known, unknown = _examples(1)[0], QuestionExample("p", "u", "w1", "w2", None)
    features = _features(SQUAD, [known, unknown])
    predictions = SQUAD.predict(Outputs(_knowing(features, 32), features, [known, unknown], ()))
    assert SQUAD.score(predictions, [known, unknown])["exact"] == 1
    assert SQUAD.score(predictions[1:], [unknown]) == {"f1": 0, "exact": 0}
    assert SQUAD2.tune([], []) == {}


def test_a_question_without_an_answer_does_not_fit_squad():
    impossible = QuestionExample("f, question q", "q", "w1", "w2", (), is_impossible=True)
    with pytest.raises(DataError, match=r"question q is one without an answer .* task squad2"):
        SQUAD.check([impossible], ())
    SQUAD2.check([impossible], ())


def test_typed_questions():
    (example,) = SQUAD.typed(["Who?", "Ada."])
    assert (example.context, example.answers) == ("Ada.", None)
    with pytest.raises(DataError, match="its context is empty"):
        SQUAD.typed(["Who?", ""])
    with pytest.raises(DataError, match=r"a question and the text .* not 1 texts"):
        SQUAD.typed(["Who?"])


@pytest.mark.skipif(not SHARED, reason="BERT_JAX_SHARED is not set")
@pytest.mark.parametrize(
    ("name", "file", "vocab"),
    [
        ("squad", "squad/squad-v1.1.json[-1:]", "bert-base-uncased-vocab.txt"),
        ("squad2", "squad/squad-v2.0.json[-1:]", "bert-base-uncased-vocab.txt"),
        ("cmrc2018", "zh_cmrc2018/cmrc2018_dev.json[-60:]", "bert-base-chinese-vocab.txt"),
    ],
)
def test_knowing_logits_answer_real_questions(tmp_path, name, file, vocab):
    folder = Path(SHARED) / "data"
    with tarfile.open(folder / f"{Path(file).parts[0]}.tar.xz", "r:xz") as packed:
        packed.extractall(tmp_path, filter="data")
    tokenizer = load_vocab(folder / "vocab" / vocab, lowercase=True)
    task = find_task(name)
    examples = read_questions(str(tmp_path / file)).rows
    features = task.features(examples, Encoding(tokenizer, 512, ()))
    learned = {
        row.example
        for row in features.rows
        if row.values["weights"] and np.ptp(row.values["labels"]) < task.max_answer_tokens
    }
    predictions = task.predict(Outputs(_knowing(features, 512), features, examples, ()))
    predictions = task.decide(predictions, task.tune(predictions, examples))
    pairs = [(predictions[number], examples[number]) for number in sorted(learned)]
    assert len(pairs) > 100
    # An answer that begins or ends within a piece, "1980" of "1980s", is given whole.
    for prediction, example in pairs:
        if example.answers:
            assert any(answer.text.strip() in prediction["answer"] for answer in example.answers)
        else:
            assert prediction["answer"] == ""
    assert task.score(*map(list, zip(*pairs, strict=True)))["exact"] > 0.97
