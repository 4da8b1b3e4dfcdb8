"""Windows beside a question: against brute force, on text with much that tokenizers leave out."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from bert_jax.tasks.question_answering.features import question_features
from bert_jax.tasks.question_answering.reader import Answer, QuestionExample, read_questions
from bert_jax.tasks.task import Encoding
from data_pipeline.errors import DataError
from data_pipeline.finetune.windows import token_windows
from data_pipeline.tokenization.training import train_tokenizer
from data_pipeline.tokenization.wordpiece import WordPiece, load_vocab

SHARED = os.environ.get("BERT_JAX_SHARED")
PIECES = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] ada met bob , in 19 ##80 ##s san fran ##cis ##co ! the cafe "
    "北 京 大 学 . ( )"
)
TOKENIZER = WordPiece(PIECES.split(), lowercase=True)
TEXT = (
    "Ada\u200b  met (Bob)\u00ad, in the 1980s\n\n in San Francisco! The Café; 北京大学\u3000. \x00"
)


def _features(examples, max_length=64, tokenizer=TOKENIZER, training=True, **options):
    defaults = {
        "doc_stride": 128,
        "max_question_tokens": 64,
        "unanswerable": False,
    }
    how = Encoding(tokenizer, max_length, training=training)
    return question_features(examples, how, **defaults | options)


def _example(*answers, context=TEXT, question="met in", name="x"):
    return QuestionExample(f"f.json, question {name}", name, question, context, answers)


@pytest.mark.parametrize(
    ("answer", "pieces"),
    [
        ("Ada", "ada"),
        ("met (Bob)", "met ( bob )"),
        ("Bob", "bob"),
        ("the 1980s", "the 19 ##80 ##s"),
        ("1980", "19 ##80"),  # a piece that is cut is kept whole
        ("98", "19 ##80"),
        ("San Francisco", "san fran ##cis ##co"),
        ("Café", "cafe"),
        ("京大", "京 大"),
        ("; 北", "[UNK] 北"),
        (" in San", "in san"),
    ],
)
def test_the_tokens_of_an_answer(answer, pieces):
    example = _example(Answer(answer, TEXT.index(answer)))
    (row,) = _features([example]).rows
    first, last = row.values["labels"]
    ids = row.tokens["input_ids"][first : last + 1]
    assert " ".join(map(TOKENIZER.id_to_piece, ids)) == pieces
    # What is decoded is an exact slice of the context, without what tokenizers leave out.
    (row,) = _features([example], training=False).rows
    window = row.decoding
    start, end = window.starts[first - window.position], window.ends[last - window.position]
    assert TEXT[start:end] == TEXT[start:end].strip("\u200b\u00ad\u3000 \n\x00")
    assert TEXT.index(answer.strip()) >= start
    assert TEXT.index(answer.strip()) + len(answer.strip()) <= end


def test_every_token_is_the_characters_that_it_stands_for():
    (row,) = _features([_example()], training=False).rows
    window = row.decoding
    ids = row.tokens["input_ids"][window.position : -1]
    assert len(ids) == len(window.starts)
    for token, start, end in zip(ids, window.starts, window.ends, strict=True):
        piece = TOKENIZER.id_to_piece(token).removeprefix("##")
        text = TEXT[start:end].lower().replace("é", "e")
        assert text == (";" if piece == "[UNK]" else piece)


@pytest.mark.parametrize("kind", ["sentencepiece-unigram", "sentencepiece-bpe", "wordpiece"])
def test_tokens_of_other_tokenizers_cover_the_text(kind):
    text = "Ada met Bob in the ﬁne café of Paris ½ mile away, 北京大学 too."
    tokenizer = train_tokenizer([text.replace("½", "")] * 3, kind, 370, True)
    example = _example(Answer("Paris", text.index("Paris")), context=text)
    (row,) = _features([example], tokenizer=tokenizer, max_length=200, training=False).rows
    window, (first, last) = row.decoding, row.values["labels"]
    start, end = window.starts[first - window.position], window.ends[last - window.position]
    assert text[start:end].strip(" ,") == "Paris"
    covered = set()
    for a, b in zip(window.starts, window.ends, strict=True):
        covered |= set(range(a, b))
    assert {place for place, character in enumerate(text) if character != " "} <= covered


def test_a_long_context_is_windowed():
    random = np.random.default_rng(0)
    words = [piece for piece in PIECES.split()[5:] if not piece.startswith("##")]
    for _ in range(20):
        context = " ".join(random.choice(words, 120))
        starts = [0, *(place + 1 for place, c in enumerate(context) if c == " ")]
        at = int(random.choice(starts[:-4]))
        answer = Answer(" ".join(context[at:].split(" ")[:3]), at)
        example = _example(answer, context=context)
        rows = _features([example], 40, doc_stride=16, training=False).rows
        ids = TOKENIZER.encode(context)
        expected = [first for first, *_ in token_windows(len(ids), 40 - 2 - 3, 16)]
        assert len(rows) == len(expected)
        token = starts.index(at)
        for row, first in zip(rows, expected, strict=True):
            part = ids[first : first + 35]
            question = TOKENIZER.encode("met in")
            assert row.tokens["input_ids"].tolist() == [2, *question, 3, *part, 3]
            assert row.tokens["token_type_ids"].tolist() == [0] * 4 + [1] * (len(part) + 1)
            assert row.tokens["attention_mask"].all()
            assert row.example == 0
            held = first <= token and token + 2 < first + 35
            assert row.values["weights"] == held
            position = token - first + 4
            assert row.values["labels"].tolist() == ([position, position + 2] if held else [0, 0])
        # Each token is a maximum in exactly one window.
        count = np.zeros(len(ids), int)
        for row, first in zip(rows, expected, strict=True):
            count[first : first + 35] += row.decoding.is_maximum
        assert (count == 1).all()
        # In training, windows without the answer are left out; in 2.0 they say that there is none.
        training = _features([example], 40, doc_stride=16)
        assert [row.values["labels"].tolist() for row in training.rows] == [
            row.values["labels"].tolist() for row in rows if row.values["weights"]
        ]
        assert all(row.decoding is None for row in training.rows)
        second = _features([example], 40, doc_stride=16, unanswerable=True).rows
        assert [
            (row.values["labels"].tolist(), float(row.values["weights"])) for row in second
        ] == [(row.values["labels"].tolist(), 1.0) for row in rows]


def test_questions_without_an_answer_point_at_cls():
    impossible, unknown = _example(), QuestionExample("p", "u", "met", TEXT, None)
    found = _features([impossible, unknown], unanswerable=True, training=False).rows
    assert [float(row.values["weights"]) for row in found] == [1, 0]
    assert [row.values["labels"].tolist() for row in found] == [[0, 0], [0, 0]]
    training = _features([impossible, unknown], unanswerable=True)
    assert [row.example for row in training.rows] == [0]
    assert training.notes == ("questions left out, without an answer: 1 (u)",)


def test_what_is_left_out_or_changed_is_named():
    long = "Bob " * 40
    examples = [
        _example(Answer("Ada", 0), name="fine"),
        _example(Answer("Ada", 7), name="moved"),
        _example(Answer("in", 0, certain=False), name="unsure"),
        _example(Answer("\x00", TEXT.index("\x00")), name="vanished"),
        _example(Answer(long.strip(), 0), context=long, name="long"),
        _example(Answer("Ada", 0), question="met " * 9, name="cut"),
        *(_example(name=f"none{number}") for number in range(7)),
    ]
    found = _features(examples, 36, max_question_tokens=8)
    assert [row.example for row in found.rows] == [0, 1, 5]
    assert found.notes == (
        "questions longer than 8 tokens and cut: 1 (cut)",
        "questions with their answer once, but not at answer_start, so used where it is: 1 (moved)",
        "questions left out, without an answer: 7 (none0, none1, none2, none3, none4 and 2 more)",
        "questions left out, as their answers occur in several places: 1 (unsure)",
        "questions left out, as no token is left of their answer: 1 (vanished)",
        "questions left out, as no window holds their whole answer: 1 (long)",
    )
    other = _features(examples, 36, max_question_tokens=8, training=False)
    assert {row.example for row in other.rows} == set(range(len(examples)))
    assert other.notes == found.notes[:1]
    # In 2.0, too, what cannot be learned from has no weight: it does not say "no answer".
    second = _features(examples[:6], 36, max_question_tokens=8, training=False, unanswerable=True)
    weights = {row.example: float(row.values["weights"]) for row in second.rows}
    assert weights == {0: 1, 1: 1, 2: 0, 3: 0, 4: 0, 5: 1}


def test_an_answer_that_does_not_fit_is_refused_in_training_only():
    wrong = _example(Answer("Eve", 3))
    with pytest.raises(DataError, match="question x: the answer 'Eve' is not at character 3"):
        _features([wrong])
    found = _features([wrong], training=False)
    assert [row.values["weights"] for row in found.rows] == [0]
    assert found.notes == (
        "questions with an answer that is not at answer_start, nor once elsewhere: 1 (x)",
    )


def test_too_little_room_is_refused():
    with pytest.raises(DataError, match=r"its 2 tokens leave only 15 of .* 20 .* at least 21"):
        _features([_example()], 20)
    _features([_example()], 21)


def test_a_context_without_tokens_has_a_feature():
    (row,) = _features([_example(context="\u200b")], training=False).rows
    assert row.tokens["input_ids"].tolist() == [2, *TOKENIZER.encode("met in"), 3, 3]


@pytest.mark.skipif(not SHARED, reason="BERT_JAX_SHARED is not set")
@pytest.mark.parametrize(
    ("archive", "file", "vocab"),
    [
        ("squad", "squad-v1.1.json[:3]", "bert-base-uncased-vocab.txt"),
        ("zh_cmrc2018", "cmrc2018_dev.json[:60]", "bert-base-chinese-vocab.txt"),
    ],
)
def test_real_answers_are_where_their_tokens_are(tmp_path, archive, file, vocab):
    folder = Path(SHARED) / "data"
    with tarfile.open(folder / f"{archive}.tar.xz", "r:xz") as packed:
        packed.extractall(tmp_path, filter="data")
    tokenizer = load_vocab(folder / "vocab" / vocab, lowercase=True)
    examples = read_questions(str(tmp_path / archive / file)).rows
    rows = _features(examples, 256, tokenizer=tokenizer, training=False).rows
    exact = checked = 0
    for row in rows:
        if not row.values["weights"]:
            continue
        first, last = row.values["labels"] - row.decoding.position
        context = examples[row.example].context
        text = context[row.decoding.starts[first] : row.decoding.ends[last]]
        answers = [answer.text for answer in examples[row.example].answers]
        assert any(answer.strip() in text for answer in answers), json.dumps([text, answers])
        exact += text in answers
        checked += 1
    assert checked > 150
    assert exact / checked > 0.98  # the others begin or end within a piece
