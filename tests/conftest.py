"""Settings for all tests: no downloads, and what a machine lacks leaves its tests out instead of failing them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Before transformers is imported: a test that would fetch something fails instead.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis  # noqa: E402
import pytest  # noqa: E402

DATA_VARIABLE = "RSTAR_FAST_DATA"

# Tests share their cores with whatever else runs: time limits are pytest-timeout's matter.
hypothesis.settings.register_profile("rstar_fast", deadline=None, print_blob=True)
hypothesis.settings.load_profile("rstar_fast")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public problems with keys that RSTAR_FAST_DATA names; tests that ask for it run only where it does."""
    return Path(os.environ[DATA_VARIABLE])


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Waiting for each other on a busy machine, torch's threads take a hundred times as long as one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_configure(config: pytest.Config) -> None:
    folder = os.environ.get(DATA_VARIABLE)
    if folder and not Path(folder).is_dir():
        raise pytest.UsageError(f"{DATA_VARIABLE} is {folder!r}, which is no folder: name one, or unset it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = []
    if not os.environ.get(DATA_VARIABLE):
        left_out += [item for item in items if "data_dir" in getattr(item, "fixturenames", ())]
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_cuda():
        left_out += on_gpu
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """nano's."""
    from tiny_models import nano_tokenizer

    return nano_tokenizer()
