"""JSON files that a run or another program wrote."""

import json
from pathlib import Path
from typing import Any

from bert_jax.errors import UserError


def read_json(path: Path, remedy: str = "copy it again") -> dict[str, Any]:
    """A JSON file that holds an object; `remedy` ends the message about one that does not."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); {remedy}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object; {remedy}")
    return values
