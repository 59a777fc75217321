"""Supernets, where the verb `search` takes predictors."""

from pathlib import Path
from typing import TYPE_CHECKING

from llmpp.errors import InputError, require

if TYPE_CHECKING:
    from llmpp.supernet_predictor import SupernetPredictor


def open_supernets(
    *named: str | None, corpus: Path | None, is_raced: bool, device: str, n_threads: int
) -> list["str | SupernetPredictor | None"]:
    """Opens the supernets among predictors: those that are directories. The others are left as they are.

    Args:
        named: The predictors, as they were given.
        corpus: What supernets score on.
        is_raced: Whether supernets race.
        device: Where supernets are computed.
        n_threads: Threads of the CPU.

    Raises:
        InputError: If a supernet cannot be used, it or the corpus is missing.
    """
    supernets = [name for name in named if name is not None and Path(name).is_dir()]
    if bool(supernets) != (corpus is not None):
        given = f"--corpus {corpus}" if corpus else f"the supernet {supernets[0]}"
        lacking = "the directory of a supernet as --initial or --baseline" if corpus else "--corpus"
        raise InputError(f"{given} needs {lacking}: a supernet scores by its loss on a corpus")
    if not supernets:
        return [*named]
    require("torch", "train")
    from llmpp.scoring_race import Race
    from llmpp.supernet_predictor import SupernetPredictor

    race = Race() if is_raced else None
    return [
        SupernetPredictor(name, str(corpus), race=race, device=device, n_threads=n_threads)
        if name in supernets
        else name
        for name in named
    ]
