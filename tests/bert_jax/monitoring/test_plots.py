from bert_jax.monitoring.plots import plot_confusion


def test_dollar_signs_in_the_names_of_classes_are_no_formulas(tmp_path):
    path = tmp_path / "confusion.png"
    plot_confusion(["$10-$20", "a$b_$"], ["a$b_$", "a$b_$"], path)
    assert path.read_bytes().startswith(b"\x89PNG")
