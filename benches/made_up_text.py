"""Parallel text of a made-up language, about as long and as varied as image captions.

Words follow Zipf's law; nouns have an adjective now and then; the target has other words, puts verbs last,
and has endings that depend on the noun.
"""

from pathlib import Path

import numpy as np

from llmpp.corpus import Corpus
from llmpp.preparation import prepare

_LETTERS = {"source": "aeioubdfgklmnprst", "target": "aeiouäöübchfgklmnrstwz"}
_N_WORDS = 1500
#: Which words are verbs, adjectives and nouns: the rest of their number divided by 5.
_VERB, _ADJECTIVE = 0, 1


def prepare_made_up(folder: Path, *, n_train: int, n_valid: int, vocabulary: int, seed: int) -> Corpus:
    """Prepares a corpus of the language in `folder`."""
    draw = np.random.Generator(np.random.PCG64(seed))
    words = {side: _words(draw, letters) for side, letters in _LETTERS.items()}
    files = {}
    for name, n in (("train", n_train), ("valid", n_valid)):
        path = folder / f"{name}.tsv"
        lines = ["\t".join(_sentence(draw, words)) for _ in range(n)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files[name] = path
    prepare(train=files["train"], valid=files["valid"], output=folder / "corpus", vocabulary=vocabulary)
    return Corpus.load(folder / "corpus")


def _words(draw: np.random.Generator, letters: str) -> list[str]:
    """Makes different words, the frequent ones short."""
    found = dict[str, None]()
    while len(found) < _N_WORDS:
        n = 2 + len(found) // 400 + int(draw.integers(0, 4))
        found["".join(draw.choice(list(letters), n))] = None
    return list(found)


def _sentence(draw: np.random.Generator, words: dict[str, list[str]]) -> tuple[str, str]:
    """Makes one to three clauses."""
    sides: tuple[list[str], list[str]] = ([], [])
    for _ in range(int(draw.integers(1, 4))):
        subject, verb, thing = (_phrase(draw), _word(draw, _VERB), _phrase(draw))
        for number in (*subject, verb, *thing):
            sides[0].append(words["source"][number])
        for phrase in (subject, thing):
            ending = "nsr"[phrase[-1] % 3]
            sides[1].extend(words["target"][number] + ending * (len(phrase) > 1) for number in phrase)
        sides[1].append(words["target"][verb])
    return " ".join(sides[0]) + " .", " ".join(sides[1]) + " ."


def _phrase(draw: np.random.Generator) -> tuple[int, ...]:
    noun = _word(draw, int(draw.integers(2, 5)))
    return (_word(draw, _ADJECTIVE), noun) if draw.random() < 0.4 else (noun,)


def _word(draw: np.random.Generator, kind: int) -> int:
    """Draws a word of a kind by Zipf's law."""
    n = _N_WORDS // 5
    rank = int(np.exp(draw.random() * np.log(n + 1))) - 1
    return 5 * min(rank, n - 1) + kind
