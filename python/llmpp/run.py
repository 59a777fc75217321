"""The run directory: what a search was asked, did and found, readable without this library.

| file | what |
|---|---|
| `settings.json` | task, hardware, constraints, strategy, seed, predictors, evolution, versions |
| `candidates.parquet` | every candidate scored, as `SearchResult.to_frame` |
| `earlier.parquet` | scores that earlier starts were given, where the run was resumed |
| `history.json` | one record per iteration; its seconds are those of all starts of the run |
| `usage.json` | what predictors spent that count it, cached apart: in this start, and in earlier ones |
| `result.json` | status, best candidate and its ties, what was reachable or measured, the Pareto front |
| `best.json`, `best.yml` | the best architecture, in our fields and in HAT's |
| `latency.safetensors` | the latency model, where measuring what was found corrected it |
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmpp import _core
from llmpp.architecture import Architecture
from llmpp.errors import InputError
from llmpp.replacement import replaced
from llmpp.result import Iteration, Scored, SearchResult, architecture_schema, frame
from llmpp.space import SearchSpace
from llmpp.text import read_text, replace_text

RUN_SCHEMA = "llmpp.run/1"
#: Settings on which no score depends.
_MAY_DIFFER = ("n_threads", "keep", "verify", "notes")


@dataclass(frozen=True)
class RunDirectory:
    """A directory that holds one run.

    Attributes:
        path: Where it is.
        earlier: The iterations of earlier starts.
        spent: What predictors spent in each earlier start, by name.
    """

    path: Path
    earlier: tuple[Iteration, ...] = ()
    spent: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def create(cls, path: Path, *, resume: bool = False) -> "RunDirectory":
        """Makes the directory.

        Args:
            path: Where.
            resume: Take one that holds a run.

        Raises:
            InputError: If it cannot be made, is not empty and not to be resumed or no run, or is damaged.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            is_empty = not any(path.iterdir())
        except OSError as error:
            raise InputError(f"cannot make the run directory {path}: {error}") from error
        if not is_empty and not resume:
            raise InputError(
                f"the run directory {path} is not empty: name another, remove it, or resume the run in it"
            )
        if not is_empty and not (path / "settings.json").is_file():
            raise InputError(f"the directory {path} is not empty and holds no run: name another")
        earlier = cls(path)
        return cls(path, *earlier._before())

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Writes what the search was asked, and with which versions.

        Raises:
            InputError: If the directory holds the run of a search that was asked something else.
        """
        if (self.path / "settings.json").exists():
            self._check_settings(settings)
        versions = {name: version(name) for name in ("llmpp", "numpy", "polars")}
        machine = {
            "python": platform.python_version(),
            "kernel": _core.kernel(),
            "machine": platform.machine(),
        }
        self._write_json("settings.json", {**settings, "versions": versions | machine})

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        path = self.path / "settings.json"
        try:
            before = self._read_json(path.name)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged, so the run cannot be resumed: {error}") from error
        for name, value in json.loads(json.dumps(settings)).items():
            if name not in _MAY_DIFFER and before.get(name) != value:
                raise InputError(
                    f"the run in {self.path} was asked `{name}` {before.get(name)!r}, not {value!r}: resume "
                    "it with the same, or name another directory"
                )

    def _before(self) -> tuple[tuple[Iteration, ...], tuple[Mapping[str, Any], ...]]:
        """Reads what earlier starts did and spent."""
        try:
            history, usage = self._read_json("history.json"), self._read_json("usage.json")
            iterations = tuple(Iteration(**row) for row in history.get("iterations", ()))
            spent = (*usage.get("earlier", ()), *([usage["predictors"]] if usage else []))
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"{self.path} is damaged, so the run cannot be resumed: {error}") from error
        return iterations, spent

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return dict(json.loads(read_text(path, "the run"))) if path.exists() else {}

    def known_scores(self) -> dict[str, dict[Architecture, float]]:
        """Reads the scores that earlier starts were given, and puts them where this start overwrites nothing.

        Returns:
            Predictor -> architecture -> score.

        Raises:
            InputError: If a file is damaged, or cannot be written.
        """
        known: dict[str, dict[Architecture, float]] = {}
        for name in ("earlier.parquet", "candidates.parquet"):
            for row in self._scores(self.path / name):
                predictor, score = row.pop("predictor"), row.pop("score")
                known.setdefault(predictor, {})[Architecture.from_dict(row)] = score
        if known:
            self._write_earlier(known)
        return known

    @staticmethod
    def _scores(path: Path) -> list[dict[str, Any]]:
        import polars as pl

        if not path.exists():
            return []
        try:
            return pl.read_parquet(path).select(["predictor", "score", *architecture_schema()]).to_dicts()
        except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise InputError(f"{path} is damaged, so the run cannot be resumed: {error}") from error

    def _write_earlier(self, known: Mapping[str, Mapping[Architecture, float]]) -> None:
        import polars as pl

        rows = [
            {"predictor": name, "score": score, **architecture.to_dict()}
            for name, scores in known.items()
            for architecture, score in scores.items()
        ]
        schema = {"predictor": pl.String(), "score": pl.Float64(), **architecture_schema()}
        with replaced(self.path / "earlier.parquet") as temporary:
            pl.DataFrame(rows, schema=schema).write_parquet(temporary)

    def write_progress(
        self, space: SearchSpace, predictors: tuple[str, ...], scored: Scored, history: list[Iteration]
    ) -> None:
        """Writes what was scored so far; a file is replaced only once its successor is whole."""
        with replaced(self.path / "candidates.parquet") as temporary:
            frame(space, predictors, scored).write_parquet(temporary)
        iterations = [*history, *self.earlier[len(history) :]]
        self._write_json("history.json", {"iterations": [asdict(iteration) for iteration in iterations]})

    def write_usage(self, usage: Mapping[str, Any]) -> None:
        """Writes what predictors have spent in this start, by name, and what they spent before it."""
        self._write_json("usage.json", {"predictors": dict(usage), "earlier": list(self.spent)})

    def remove_latency(self) -> None:
        """Removes a corrected latency model that an earlier start wrote."""
        (self.path / "latency.safetensors").unlink(missing_ok=True)

    def write_latency(self, data: bytes) -> None:
        """Writes a latency model that was corrected."""
        with replaced(self.path / "latency.safetensors") as temporary:
            temporary.write_bytes(data)

    def write_result(self, result: SearchResult) -> None:
        """Writes what was found."""
        front = [candidate.to_dict() for candidate in result.pareto_front()]
        self._write_json("result.json", {**result.to_dict(), "pareto_front": front})
        if result.best:
            architecture = result.best.architecture
            self._write("best.json", json.dumps(architecture.to_dict(), indent=2) + "\n")
            self._write("best.yml", architecture.to_hat())
        else:  # measuring what was found may have dropped the one that is there
            for name in ("best.json", "best.yml"):
                (self.path / name).unlink(missing_ok=True)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self._write(name, json.dumps({"schema": RUN_SCHEMA, **content}, indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        replace_text(self.path / name, text)
