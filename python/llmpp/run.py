"""The run directory: what a search was asked, did and found, readable without this library.

| file | what |
|---|---|
| `settings.json` | task, hardware, constraints, strategy, seed, predictors, evolution, versions |
| `candidates.parquet` | every candidate scored, as `SearchResult.to_frame` |
| `history.json` | one record per iteration |
| `usage.json` | requests, tokens and dollars of predictors that ask a language model, cached and new apart |
| `result.json` | status, best candidate and its ties, what was reachable, the Pareto front |
| `best.json`, `best.yml` | the best architecture, in our fields and in HAT's |
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmpp import _core
from llmpp.errors import InputError
from llmpp.result import Iteration, Scored, SearchResult, frame
from llmpp.space import SearchSpace
from llmpp.text import replace_text

RUN_SCHEMA = "llmpp.run/1"


@dataclass(frozen=True)
class RunDirectory:
    """A directory that holds one run.

    Attributes:
        path: Where it is.
    """

    path: Path

    @classmethod
    def create(cls, path: Path) -> "RunDirectory":
        """Makes the directory.

        Raises:
            InputError: If it exists and is not empty, or cannot be made.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            is_empty = not any(path.iterdir())
        except OSError as error:
            raise InputError(f"cannot make the run directory {path}: {error}") from error
        if not is_empty:
            raise InputError(f"the run directory {path} is not empty: name another, or remove it")
        return cls(path)

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Writes what the search was asked, and with which versions."""
        versions = {name: version(name) for name in ("llmpp", "numpy", "polars")}
        machine = {
            "python": platform.python_version(),
            "kernel": _core.kernel(),
            "machine": platform.machine(),
        }
        self._write_json("settings.json", {**settings, "versions": versions | machine})

    def write_progress(
        self, space: SearchSpace, predictors: tuple[str, ...], scored: Scored, history: list[Iteration]
    ) -> None:
        """Writes what was scored so far; a file is replaced only once its successor is whole."""
        temporary = self.path / "candidates.parquet.part"
        frame(space, predictors, scored).write_parquet(temporary)
        temporary.replace(self.path / "candidates.parquet")
        self._write_json("history.json", {"iterations": [asdict(iteration) for iteration in history]})

    def write_usage(self, usage: Mapping[str, Any]) -> None:
        """Writes what predictors have spent so far, by name."""
        self._write_json("usage.json", {"predictors": dict(usage)})

    def write_result(self, result: SearchResult) -> None:
        """Writes what was found."""
        front = [candidate.to_dict() for candidate in result.pareto_front()]
        self._write_json("result.json", {**result.to_dict(), "pareto_front": front})
        if result.best:
            architecture = result.best.architecture
            self._write("best.json", json.dumps(architecture.to_dict(), indent=2) + "\n")
            self._write("best.yml", architecture.to_hat())

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(name, json.dumps({"schema": RUN_SCHEMA, **content}, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        replace_text(self.path / name, text)
