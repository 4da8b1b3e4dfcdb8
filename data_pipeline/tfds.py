"""Data sets of TensorFlow Datasets. The library is imported when the first one is opened."""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from data_pipeline.errors import DataError

PREFIX = "tfds:"


def is_dataset(name: str) -> bool:
    """Whether TensorFlow Datasets has a data set of that name, such as "glue/sst2"."""
    if name.startswith(PREFIX):
        return True
    if not re.fullmatch(r"\w+(/[\w.:-]+)*", name):
        return False
    import tensorflow_datasets as tfds

    return name.split("/")[0] in tfds.list_builders(with_community_datasets=False)


class Dataset:
    """A data set, such as "tfds:wikipedia/20230601.en"; `download` gets its data.

    They are kept in the folder that the environment variable TFDS_DATA_DIR names, by default in the
    library's own.
    """

    def __init__(self, name: str):
        self.name = name
        with self._explained():
            import tensorflow_datasets as tfds

            folder = os.environ.get("TFDS_DATA_DIR")
            self._builder = tfds.builder(name.removeprefix(PREFIX), data_dir=folder)
            self.info = self._builder.info

    def download(self, split: str) -> None:
        """Downloads the data unless they are there; checks `split`, such as "train+test[:10%]"."""
        self._check(split)  # some data sets know their splits only once they are downloaded
        with self._explained():
            self._builder.download_and_prepare()
        self._check(split)

    def _check(self, split: str) -> None:
        splits = list(self.info.splits)
        if splits and re.split(r"[\[+ ]", split)[0] not in (*splits, "all"):
            raise DataError(f"{self.name} has the splits {', '.join(splits)}, not {split!r}")

    def records(self, split: str, **options: Any) -> Iterable[dict[str, Any]]:
        """The records of a downloaded split, NumPy values by feature; options of `as_dataset`."""
        import tensorflow_datasets as tfds

        with self._explained():
            records: Iterable[dict[str, Any]] = tfds.as_numpy(
                self._builder.as_dataset(split=split, **options)
            )
        return records

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns whatever the library raises into a DataError: the cause is the name or its data."""
        try:
            yield
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                f"TensorFlow Datasets cannot give {self.name} ({reason}); for its data sets see "
                "https://www.tensorflow.org/datasets/catalog"
            ) from None
