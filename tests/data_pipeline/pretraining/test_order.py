"""The order of documents and the cutting of the stream into batches."""

import numpy as np

from data_pipeline.pretraining import order
from data_pipeline.pretraining.order import (
    Cursor,
    batches_of_examples,
    block_documents,
    blocks_per_epoch,
    documents_per_block,
)


def epoch_order(split, seed, epoch):
    blocks = range(blocks_per_epoch(split))
    return np.concatenate([block_documents(split, seed, epoch, block) for block in blocks])


def test_every_epoch_visits_every_document_once(make_corpus, monkeypatch):
    monkeypatch.setattr(order, "SENTENCES_PER_BLOCK", 20)
    split = make_corpus([[[5, 6]] * (1 + n % 5) for n in range(50)]).split("train")
    assert documents_per_block(split) == 7  # 20 sentences, of 3 in a document
    assert blocks_per_epoch(split) == 8
    orders = [epoch_order(split, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for documents in orders:
        assert sorted(documents.tolist()) == list(range(50))
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    np.testing.assert_array_equal(orders[0], epoch_order(split, 0, 0))


def test_block_has_at_least_one_document(make_corpus, monkeypatch):
    monkeypatch.setattr(order, "SENTENCES_PER_BLOCK", 1)
    split = make_corpus([[[5]] * 9] * 3).split("train")
    assert documents_per_block(split) == 1
    assert blocks_per_epoch(split) == 3


def test_stream_resumes_at_every_cursor():
    sizes = [3, 1, 8]

    def plan(epoch, block):
        return 100 * epoch + 10 * block + np.arange(sizes[block])

    def take(count, cursor):
        stream = batches_of_examples(plan, len(sizes), 4, cursor)
        return [next(stream) for _ in range(count)]

    whole = take(9, Cursor(0, 0, 0))
    expected = np.concatenate([plan(epoch, block) for epoch in range(3) for block in range(3)])
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in whole]), expected)
    # Never at the end of a block, always at the beginning of the next.
    assert all(cursor.offset < sizes[cursor.block] for _, cursor in whole)
    for number, (_, cursor) in enumerate(whole[:-1]):
        resumed = take(len(whole) - number - 1, cursor)
        for (rows, after), (other, other_after) in zip(resumed, whole[number + 1 :], strict=True):
            np.testing.assert_array_equal(rows, other)
            assert after == other_after
