"""Where a file came from: versions, date and command, for the records inside weight files."""

import datetime as dt
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from llmpp.errors import InputError


def origin(command: str, packages: Sequence[str], date: str | None) -> dict[str, Any]:
    """Describes how a file is made.

    Args:
        command: The command that makes it again.
        packages: Packages whose versions matter.
        date: The date to record, `YYYY-MM-DD`; None for today.

    Raises:
        InputError: If the date is not one.
    """
    if date is None:
        date = dt.datetime.now(dt.timezone.utc).date().isoformat()
    elif not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise InputError(f"`date` must be YYYY-MM-DD, got {date!r}")
    return {"command": command, "date": date, "versions": {name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"
