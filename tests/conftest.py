"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real figures, from the environment variable LLMPP_DATA."""
    folder = os.environ.get("LLMPP_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = f"LLMPP_DATA must name the data folder, got {folder!r}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
