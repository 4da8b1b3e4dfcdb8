"""Folders that are made whole or not at all."""

import pytest

from bert_jax.errors import UserError
from commands.folders import whole_folder


def test_a_folder_that_cannot_be_made_is_named_without_an_option(tmp_path):
    """Two options end here: --output, and --export hf after a whole training."""
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "hf"
    with pytest.raises(UserError, match=f"^{folder} cannot be written"), whole_folder(folder):
        pass
