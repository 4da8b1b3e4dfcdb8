import sysconfig

from data_pipeline.text import embedded
from data_pipeline.text.embedded import embedded_documents, module_prose, prose, python_files

DOCSTRING = """\
Compute the sum of two arrays, element by
element, with ``broadcasting``.

A second paragraph that refers to :func:`~numpy.add` and has **bold** words.

Parameters
----------
first : array_like, optional
    The first of the two arrays to be added
    together here.
axis : int

Args:
  second: The second array to be added to the first.
  *rest (int): Further arrays that are added at the end.

.. code-block:: python

    total = add(1, 2)  # this is a comment that reads like prose.

>>> add(1, 2)
3

For example::

    this is a literal block with words and a full stop at its end.

- The first item of this list is a whole sentence.
- The second item is also a whole sentence,
  which goes on here.

+------+------+
| a    | b    |
+------+------+

```
fenced code that reads like a sentence, with words in it.
```

add(first, second, /, *, where=True) -> ndarray
"""


def test_prose_keeps_sentences_and_drops_the_rest():
    assert prose(DOCSTRING) == [
        "Compute the sum of two arrays, element by element, with broadcasting.",
        "A second paragraph that refers to numpy.add and has bold words.",
        "The first of the two arrays to be added together here.",
        "The second array to be added to the first.",
        "Further arrays that are added at the end.",
        "The first item of this list is a whole sentence.",
        "The second item is also a whole sentence, which goes on here.",
    ]


MODULE = '''\
"""The docstring of the module comes first of all."""

def outer():
    """The function comes after its module does."""

    def inner():
        """A function inside a function is not documentation."""

class Thing:
    """The class follows with \\\\d an invalid escape in it."""

    x = "\\d"

    async def method(self):
        """The method stands inside of its class here."""

if True:
    def conditional():
        """A conditional function is documented as well."""
'''


def test_module_prose_is_in_source_order_and_silent(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    starts = [paragraph.split()[1] for paragraph in module_prose(path)]
    assert starts == ["docstring", "function", "class", "method", "conditional"]


def test_files_that_do_not_parse_give_nothing(tmp_path):
    for data in (b'"""unclosed', b'"""a"""\x00', b'"""caf\xe9 is not the declared encoding"""'):
        (tmp_path / "bad.py").write_bytes(data)
        assert module_prose(tmp_path / "bad.py") == []
    assert module_prose(tmp_path / "missing.py") == []


def test_documents_repeat_no_paragraph(tmp_path, monkeypatch):
    sentences = [f"This is sentence number {word} of the module." for word in "abcdefgh"]
    for name, chosen in {"a": sentences[:5], "b": sentences, "c": sentences[3:]}.items():
        text = "\n\n".join(chosen)
        (tmp_path / f"{name}.py").write_text(f'"""{text}"""')
    monkeypatch.setattr(embedded, "python_files", lambda: sorted(tmp_path.glob("*.py")))
    monkeypatch.setattr(embedded, "_topics", lambda: iter([]))
    # b has three new sentences and c none: too few for a document.
    assert list(embedded_documents()) == ["\n".join(sentences[:5])]


def test_the_interpreter_carries_documentation():
    files = list(python_files())
    assert files == list(python_files())
    folders = sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")
    below = {str(path).removeprefix(folder) for path in files for folder in folders}
    assert {"/argparse.py", "/numpy/linalg/_linalg.py"} <= below
    assert not any("/test/" in name or "/tests/" in name for name in below)
    assert len(next(embedded._topics())) >= 1
