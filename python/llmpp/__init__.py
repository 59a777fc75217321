"""Neural architecture search in which a large language model predicts how well an architecture will perform."""

from llmpp import hsnas
from llmpp.architecture import Architecture
from llmpp.errors import InputError, MissingExtraError, PredictorError, ShapeError, SpaceError
from llmpp.predictor import MlpPredictor, Predictor, hardware_names, load_latency, load_predictor
from llmpp.result import Candidate, Iteration, SearchResult
from llmpp.space import SPACES, SearchSpace
from llmpp.task import Cost, Figures, Task, cost, load_task, task_names

__all__ = [
    "SPACES",
    "Architecture",
    "Candidate",
    "Cost",
    "Figures",
    "InputError",
    "Iteration",
    "MissingExtraError",
    "MlpPredictor",
    "Predictor",
    "PredictorError",
    "SearchResult",
    "SearchSpace",
    "ShapeError",
    "SpaceError",
    "Task",
    "cost",
    "hardware_names",
    "hsnas",
    "load_latency",
    "load_predictor",
    "load_task",
    "task_names",
]
