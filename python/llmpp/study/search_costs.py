"""What a search cost: evaluations and seconds by predictor, those before it was killed counted once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmpp.result import SearchResult
from llmpp.scoring_usage import ScoringUsage
from llmpp.text import read_text


def costs_of(result: SearchResult, supernets: Mapping[str, ScoringUsage]) -> dict[str, Any]:
    """Counts a search's evaluations and seconds; predictors are called as in the search's history.

    The seconds of a predictor are those of its iterations: drawing architectures and predicting latencies is
    included. A supernet keeps its scores, so an iteration that is done again after a kill hardly scores: what
    scoring takes is counted by what the supernet says of the kept scores, and of iterations only the rest.

    Args:
        result: What came of the search.
        supernets: What scoring by each supernet has cost in this start.
    """
    evaluations, seconds = dict[str, int](), dict[str, float]()
    for iteration in result.history:
        name = iteration.predictor
        evaluations[name] = evaluations.get(name, 0) + iteration.n_evaluations
        seconds[name] = seconds.get(name, 0.0) + iteration.seconds
    scoring = {name: usage.seconds + usage.seconds_cached for name, usage in supernets.items()}
    spent = _spent(Path(result.run_dir or "."))
    for name in seconds.keys() & scoring.keys():
        seconds[name] = max(0.0, seconds[name] - spent.get(name, 0.0)) + scoring[name]
    return {
        "n_evaluations": evaluations,
        "seconds_by_predictor": {name: round(value, 4) for name, value in seconds.items()},
        "n_supernet_evaluations": sum(usage.n_evaluations + usage.n_cached for usage in supernets.values()),
        "supernet_seconds": round(sum(scoring.values()), 4),
        "search_seconds": round(sum(seconds.values()), 4),
        "best_scores": [iteration.best_score for iteration in result.history],
    }


def _spent(run_dir: Path) -> dict[str, float]:
    """Sums up the seconds in which each supernet scored, over all starts of a run."""
    path, found = run_dir / "usage.json", dict[str, float]()
    content = json.loads(read_text(path, "the run")) if path.is_file() else {"predictors": {}, "earlier": []}
    for start in (content["predictors"], *content["earlier"]):
        for name, usage in start.items():
            found[name] = found.get(name, 0.0) + usage["seconds"]
    return found
