"""Text and JSON files: written whole or not at all, read with errors that name the file."""

import json
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from data_pipeline.errors import DataError

# Strings in JSON may hold halves of surrogate pairs, which cannot be written to a file.
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 file without a byte-order mark; line ends are kept as they are."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        folder, hint = Path(path).parent, ""
        if str(path).endswith("]"):
            hint = "; for some of its rows write FILE[FROM:TO], where this kind of file has rows"
        elif isinstance(error, FileNotFoundError) and folder.is_dir():
            names = sorted(file.name for file in folder.iterdir())
            hint = f"; its folder has: {', '.join(names[:10])}" + (" ..." if names[10:] else "")
        elif isinstance(error, FileNotFoundError):
            hint = f"; there is no folder {folder}"
        elif isinstance(error, IsADirectoryError):
            hint = "; name a file in it"
        raise DataError(f"{path} cannot be read ({error.strerror}){hint}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (see byte {error.start:,}); convert text with iconv -t UTF-8, "
            "and save a spreadsheet as .csv"
        ) from None


def parse_json(text: str, place: str, remedy: str = "") -> Any:
    """The value of a JSON text, with U+FFFD for each half of a surrogate pair in it.

    An error message names the `place` of the text and ends with the `remedy`.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        reason = str(error)
    except RecursionError:
        reason = "its lists or objects are nested too deeply"
    else:
        return _without_surrogates(value) if _ESCAPED_SURROGATE.search(text) else value
    raise DataError(f"{place} is not JSON ({reason})" + (remedy and f"; {remedy}"))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(inner) for inner in value]
    if isinstance(value, dict):
        return {_without_surrogates(k): _without_surrogates(v) for k, v in value.items()}
    return value


def read_json(path: str | Path, remedy: str = "") -> Any:
    """The value of a JSON file; see `parse_json`."""
    return parse_json(read_text(path), str(path), remedy)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON; see `write_text`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file under another name and renames it, so that nobody reads half of it."""
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)


def json_lines(records: Iterable[Mapping[str, Any]]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def file_checksum(path: Path) -> str:
    """CRC-32 of a file as eight hexadecimal digits."""
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return f"{crc:08x}"
