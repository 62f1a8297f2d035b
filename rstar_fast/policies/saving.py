"""Writing a checkpoint's folder as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rstar_fast.storage.atomic import whole_folder
from rstar_fast.types import InvalidInput


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` when all has been written (see `whole_folder`).

    Raises:
      InvalidInput: there is a file of this name.
    """
    folder = Path(folder).resolve()
    if folder.exists() and not folder.is_dir():
        raise InvalidInput(f"{str(folder)!r} is a file: give the folder of a checkpoint, or a new name")
    with whole_folder(folder) as partial:
        yield partial
