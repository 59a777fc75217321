"""Translating text with a trained Transformer, and what the translations are worth: BLEU and chrF."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llmpp.corpus import TOKENIZER
from llmpp.decoding import beam_search
from llmpp.errors import InputError, require
from llmpp.ranges import integer
from llmpp.special_tokens import EOS, PAD
from llmpp.subwords import Subwords
from llmpp.text import read_text
from llmpp.transformer import Transformer

#: The file of a trained network in its directory, beside the vocabulary.
MODEL = "model.safetensors"
#: Budget of a batch: its rows times its longest source.
MAX_TOKENS = 2048


@dataclass(frozen=True)
class Quality:
    """What translations are worth, by sacrebleu (arXiv 1804.08771).

    Attributes:
        bleu: BLEU, in 0..100.
        chrf: chrF2, in 0..100.
        bleu_signature: How BLEU was computed, in sacrebleu's words.
        chrf_signature: The same of chrF.
        n_sentences: Sentences translated.
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str
    n_sentences: int

    @classmethod
    def of(cls, translations: Sequence[str], references: Sequence[str]) -> "Quality":
        """Compares translations with references, one for each.

        Raises:
            InputError: If there are none, or not as many references.
            MissingExtraError: If sacrebleu is not installed.
        """
        if not translations or len(translations) != len(references):
            raise InputError(
                f"each translation needs a reference, but there are {len(translations)} and {len(references)}"
            )
        metrics = require("sacrebleu.metrics", "train")
        bleu, chrf = metrics.BLEU(), metrics.CHRF()
        scores = [
            metric.corpus_score(list(translations), [list(references)]).score for metric in (bleu, chrf)
        ]
        signatures = [str(metric.get_signature()) for metric in (bleu, chrf)]
        return cls(scores[0], scores[1], signatures[0], signatures[1], len(translations))

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Translator:
    """A trained Transformer with its vocabulary.

    Attributes:
        model: The Transformer.
        subwords: The vocabulary that it was trained with.
    """

    model: Transformer
    subwords: Subwords

    @classmethod
    def load(cls, path: str | Path, device: torch.device | None = None) -> "Translator":
        """Opens what `llmpp train` or `llmpp export` wrote.

        Args:
            path: The directory, or a model in it; the vocabulary lies beside the model.
            device: Where to compute; the CPU by default.

        Raises:
            InputError: If there is no Transformer, no vocabulary, or they do not fit.
        """
        path = find_model(path)
        model = Transformer.load(path)
        subwords = Subwords.from_json(read_text(path.with_name(TOKENIZER), "the vocabulary"))
        check_vocabulary(model.sizes.vocabulary, len(subwords), path)
        return cls(model.to(device or torch.device("cpu")).eval(), subwords)

    def translate(
        self,
        sentences: Sequence[str],
        *,
        n_beams: int = 4,
        length_penalty: float = 0.6,
        max_tokens: int = MAX_TOKENS,
    ) -> list[str]:
        """Translates sentences; a blank one stays blank.

        Args:
            sentences: The sentences.
            n_beams: Beams; 1 to translate greedily.
            length_penalty: From 0; above it, longer translations are favoured.
            max_tokens: Budget of a batch: its rows times its longest source.

        Raises:
            InputError: If a setting is out of its range, or a sentence is too long for the network.
        """
        max_tokens = integer("max_tokens", max_tokens, 1, 2**31 - 1)
        rows = [[*row, EOS] for row in self.subwords.encode(list(sentences))]
        longest = self.model.sizes.max_length
        for number, row in enumerate(rows, 1):
            if len(row) > longest:
                raise InputError(
                    f"sentence {number} has {len(row)} subwords, but this network takes at most {longest}: "
                    "break it up"
                )
        found = [""] * len(rows)
        for batch in _batches(rows, max_tokens):
            source = torch.full((len(batch), max(len(rows[i]) for i in batch)), PAD)
            for line, i in zip(source, batch, strict=True):
                line[: len(rows[i])] = torch.tensor(rows[i])
            best = beam_search(
                self.model,
                source.to(self.model.embedding.device),
                n_beams=n_beams,
                length_penalty=length_penalty,
            )
            for i, text in zip(batch, self.subwords.decode(best.tokens[:, 0].tolist()), strict=True):
                found[i] = text
        return found


def _batches(rows: Sequence[Sequence[int]], max_tokens: int) -> Iterator[list[int]]:
    """Yields places of sentences of similar lengths; blank ones, which only have an end, are left out."""
    batch: list[int] = []
    for i in sorted((i for i, row in enumerate(rows) if len(row) > 1), key=lambda i: len(rows[i])):
        if batch and (len(batch) + 1) * len(rows[i]) > max_tokens:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def find_model(path: str | Path) -> Path:
    """Finds the file of a trained network, given it or its directory.

    Raises:
        InputError: If there is none.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise InputError(
                f"{path} holds no {MODEL}: has its training ended? `llmpp train`, or `llmpp train-supernet` "
                "where it was begun by that, goes on with it"
            )
        return path / MODEL
    if not path.is_file():
        raise InputError(f"there is no model {path}: name a file, or the directory of a training")
    return path


def check_vocabulary(n_model: int, n_subwords: int, path: Path) -> None:
    """Checks that a network and a vocabulary are of one size.

    Raises:
        InputError: If they are not.
    """
    if n_model != n_subwords:
        raise InputError(
            f"{path} was trained on {n_model} subwords, but the vocabulary has {n_subwords}: "
            "use the corpus that it was trained on"
        )
