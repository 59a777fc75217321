"""Neural architecture search in which a large language model predicts how well an architecture will perform.

Names are imported when they are first used, so that `import llmpp` is instant.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmpp import hsnas
    from llmpp.architecture import Architecture
    from llmpp.errors import (
        InputError,
        LlmError,
        MissingAnswersError,
        MissingExtraError,
        PredictorError,
        ShapeError,
        SpaceError,
        TrainingError,
    )
    from llmpp.frontier import Frontier
    from llmpp.llm_predictor import LlmPredictor
    from llmpp.predictor import MlpPredictor, Predictor, hardware_names, load_latency, load_predictor
    from llmpp.report_card import ReportCard, evaluate
    from llmpp.result import Candidate, Iteration, SearchResult
    from llmpp.space import SPACES, SearchSpace
    from llmpp.task import Cost, Figures, Task, cost, load_task, task_names

__all__ = [
    "SPACES",
    "Architecture",
    "Candidate",
    "Cost",
    "Figures",
    "Frontier",
    "InputError",
    "Iteration",
    "LlmError",
    "LlmPredictor",
    "MissingAnswersError",
    "MissingExtraError",
    "MlpPredictor",
    "Predictor",
    "PredictorError",
    "ReportCard",
    "SearchResult",
    "SearchSpace",
    "ShapeError",
    "SpaceError",
    "Task",
    "TrainingError",
    "cost",
    "evaluate",
    "hardware_names",
    "hsnas",
    "load_latency",
    "load_predictor",
    "load_task",
    "task_names",
]

_HOMES = {
    "architecture": ["Architecture"],
    "errors": [
        "InputError",
        "LlmError",
        "MissingAnswersError",
        "MissingExtraError",
        "PredictorError",
        "ShapeError",
        "SpaceError",
        "TrainingError",
    ],
    "frontier": ["Frontier"],
    "llm_predictor": ["LlmPredictor"],
    "predictor": ["MlpPredictor", "Predictor", "hardware_names", "load_latency", "load_predictor"],
    "report_card": ["ReportCard", "evaluate"],
    "result": ["Candidate", "Iteration", "SearchResult"],
    "space": ["SPACES", "SearchSpace"],
    "task": ["Cost", "Figures", "Task", "cost", "load_task", "task_names"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name from its home."""
    if name == "hsnas":
        return import_module("llmpp.hsnas")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'llmpp' has no attribute {name!r}")
    value = getattr(import_module(f"llmpp.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
