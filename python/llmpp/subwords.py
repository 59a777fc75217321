"""Subwords: one vocabulary for source and target, learned from the training text.

Byte-pair encoding of UTF-8 bytes (Sennrich et al. 2016, arXiv 1508.07909), by the library `tokenizers`. A
text is normalised first: Unicode's NFC, runs of white space as one space, none at the ends. Words and
punctuation are encoded apart. The alphabet is the bytes that the training text has, so a vocabulary can be
small; any other byte becomes `<unk>`, and without one, decoding restores the normalised text to the letter.
The names of the special tokens mean nothing when they stand in a text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from llmpp.errors import InputError, require
from llmpp.ranges import integer
from llmpp.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

#: Pairs of subwords that occur less often are not merged: nothing could be learned about them.
_MIN_FREQUENCY = 2


@dataclass(frozen=True, eq=False)
class Subwords:
    """A learned vocabulary.

    Attributes:
        tokenizer: The `tokenizers.Tokenizer`.
    """

    tokenizer: Any

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> "Subwords":
        """Learns a vocabulary; equal texts give an equal one, on any number of threads.

        Args:
            texts: The training text, source and target.
            size: Subwords, special tokens included, in 5..2^24.

        Raises:
            InputError: If the texts have more distinct bytes than that, or too few pairs that repeat.
            MissingExtraError: If tokenizers is not installed.
        """
        size = integer("vocabulary", size, len(SPECIAL_TOKENS) + 1, 2**24)
        tokenizer = _empty_tokenizer()
        trainer = require("tokenizers.trainers", "train").BpeTrainer(
            vocab_size=size,
            min_frequency=_MIN_FREQUENCY,
            special_tokens=list(SPECIAL_TOKENS),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        _check_size(size, tokenizer.get_vocab_size())
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> "Subwords":
        """Reads what `to_json` wrote.

        Raises:
            InputError: If the text is not of that form.
            MissingExtraError: If tokenizers is not installed.
        """
        library = require("tokenizers", "train")
        try:
            tokenizer = library.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise InputError(
                f"tokenizers {library.__version__} cannot read the vocabulary: {error}"
            ) from error
        if [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] != [BOS, PAD, EOS, UNK]:
            raise InputError(f"a vocabulary must begin with {', '.join(SPECIAL_TOKENS)}")
        tokenizer.encode_special_tokens = True  # not part of the JSON
        return cls(tokenizer)

    def to_json(self) -> str:
        """Writes the vocabulary in the format of the library, usable without llmpp."""
        return str(self.tokenizer.to_str(pretty=True)) + "\n"

    def __len__(self) -> int:
        return int(self.tokenizer.get_vocab_size())

    def normalise(self, text: str) -> str:
        """Returns what decoding restores of a text."""
        return str(self.tokenizer.normalizer.normalize_str(text))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Turns texts into subwords, without special tokens at their ends."""
        return [encoding.ids for encoding in self.tokenizer.encode_batch_fast(texts)]

    def decode(self, rows: Iterable[ArrayLike]) -> list[str]:
        """Turns subwords into texts; a row ends at its first `</s>`, and `<s>` and `<pad>` are left out.

        Args:
            rows: Subwords of each text, as lists, arrays or tensors.

        Raises:
            InputError: If a number is not in the vocabulary.
        """
        return [str(self.tokenizer.decode(self._words(row), skip_special_tokens=False)) for row in rows]

    def _words(self, row: ArrayLike) -> list[int]:
        words = np.asarray(row, np.int64)
        words = words[: int(np.argmax(words == EOS))] if (words == EOS).any() else words
        if len(words) and not 0 <= words.min() <= words.max() < len(self):
            raise InputError(
                f"subwords must be in 0..{len(self) - 1}, got {words.min()}..{words.max()}: "
                "do they come from another vocabulary?"
            )
        return [int(word) for word in words if word not in (BOS, PAD)]


def _empty_tokenizer() -> Any:
    library = require("tokenizers", "train")
    rules, decoders = library.normalizers, library.decoders
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL_TOKENS[UNK]))
    one_space = rules.Replace(library.Regex(r"\s+"), " ")
    tokenizer.normalizer = rules.Sequence([rules.NFC(), one_space, rules.Strip()])
    # A space before the first word makes it the same subword there as elsewhere; the decoder takes it away.
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    tokenizer.encode_special_tokens = True
    return tokenizer


def _check_size(asked: int, got: int) -> None:
    if got < asked:
        raise InputError(
            f"`vocabulary` is {asked}, but the training text allows only {got} subwords: "
            f"ask for at most {got}, or give more text"
        )
    if got > asked:
        raise InputError(
            f"`vocabulary` must be at least {got} ({len(SPECIAL_TOKENS)} special tokens and the distinct "
            f"bytes of the training text), got {asked}"
        )
