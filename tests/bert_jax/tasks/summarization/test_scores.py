import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from bert_jax.tasks.summarization.scores import rouge_scores


def test_rouge_of_english_is_that_of_the_library():
    pairs = [("The cats sat on mats.", "A cat sits on the mat"), ("One two three", "three two")]
    library = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, value in rouge_scores(pairs).items():
        each = [library.score(*pair)[name].fmeasure for pair in pairs]
        assert value == pytest.approx(np.mean(each))
    assert rouge_scores([]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}


def test_rouge_of_chinese_counts_characters():
    # 我爱北京 against 我爱南京: 3 of 4 characters, 1 of 3 pairs, and in order 我爱京.
    found = rouge_scores([("我爱北京。", "我爱南京！")], characters=True)
    assert found == pytest.approx({"rouge1": 3 / 4, "rouge2": 1 / 3, "rougeL": 3 / 4})
    assert rouge_scores([("BERT模型v2", "bert 模型 V2")], characters=True)["rouge2"] == 1
