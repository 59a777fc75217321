"""`Architecture`: a Transformer in readable form, with HAT's notations in and out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from llmpp import hat
from llmpp.errors import InputError
from llmpp.ranges import positive_integer, positive_integers
from llmpp.text import read_text

_LISTS_OF = {
    "encoder": ("encoder_ffn", "encoder_heads"),
    "decoder": ("decoder_ffn", "decoder_heads", "cross_heads", "cross_span"),
}


@dataclass(frozen=True)
class Architecture:
    """An encoder-decoder Transformer; lists hold one value per layer, first layer first.

    Attributes:
        encoder_dim: Embedding width of the encoder.
        encoder_ffn: Feed-forward width of each encoder layer.
        encoder_heads: Self-attention heads of each encoder layer.
        decoder_dim: Embedding width of the decoder.
        decoder_ffn: Feed-forward width of each decoder layer.
        decoder_heads: Self-attention heads of each decoder layer.
        cross_heads: Encoder-decoder attention heads of each decoder layer.
        cross_span: How many of the last encoder layers each decoder layer attends to, from 1.

    Raises:
        InputError: If a value is no positive integer, or lists of one side differ in length.

    Example:
        >>> a = Architecture(512, (1024,), (4,), 512, (1024, 2048), (4, 8), (8, 8), (1, 3))
        >>> a.decoder_layers
        2
        >>> Architecture.from_hat(a.to_hat()) == a
        True
    """

    encoder_dim: int
    encoder_ffn: tuple[int, ...]
    encoder_heads: tuple[int, ...]
    decoder_dim: int
    decoder_ffn: tuple[int, ...]
    decoder_heads: tuple[int, ...]
    cross_heads: tuple[int, ...]
    cross_span: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("encoder_dim", "decoder_dim"):
            object.__setattr__(self, name, positive_integer(name, getattr(self, name)))
        for lists in _LISTS_OF.values():
            for name in lists:
                values = positive_integers(name, getattr(self, name))
                if not values:
                    raise InputError(f"{name} must have at least one layer")
                object.__setattr__(self, name, values)
            lengths = {name: len(getattr(self, name)) for name in lists}
            if len(set(lengths.values())) > 1:
                raise InputError(f"lists must have one value per layer, but their lengths are {lengths}")

    @property
    def encoder_layers(self) -> int:
        """The number of encoder layers."""
        return len(self.encoder_ffn)

    @property
    def decoder_layers(self) -> int:
        """The number of decoder layers."""
        return len(self.decoder_ffn)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Architecture":
        """Builds an architecture from the mapping that `to_dict` writes.

        Raises:
            InputError: If a field is missing, unknown, or not what it should be.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != names:
            got = sorted(map(str, data)) if isinstance(data, Mapping) else repr(data)
            raise InputError(f"an architecture needs exactly the fields {sorted(names)}, got {got}")
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain integers and lists, ready for JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_hat(cls, source: str | Sequence[str] | Mapping[str, Any]) -> "Architecture":
        """Reads HAT's YAML text, its list of ten lines, or its nested dict.

        Lists that are longer than the number of layers are cut to it, as HAT does.

        Raises:
            InputError: If a key is missing or a value is not what HAT writes.
        """
        return cls(**hat.parse(source))

    def to_hat(self, form: Literal["yaml", "lines", "dict"] = "yaml") -> Any:
        """Writes HAT's YAML text (`str`), list of ten lines (`list[str]`) or nested dict.

        Raises:
            InputError: If `form` is none of these.
        """
        return hat.render(self.to_dict(), form)

    def values(self) -> tuple[tuple[int, ...], ...]:
        """Lists the values of the ten hyperparameters, in the order of a space's features."""
        return (
            (self.encoder_dim,),
            (len(self.encoder_ffn),),
            self.encoder_ffn,
            self.encoder_heads,
            (self.decoder_dim,),
            (len(self.decoder_ffn),),
            self.decoder_ffn,
            self.decoder_heads,
            self.cross_heads,
            self.cross_span,
        )

    @classmethod
    def from_values(cls, values: Sequence[Sequence[int]]) -> "Architecture":
        """Builds an architecture from what `values` lists."""
        (e_dim,), _, e_ffn, e_heads, (d_dim,), _, d_ffn, d_heads, c_heads, c_span = map(tuple, values)
        return cls(e_dim, e_ffn, e_heads, d_dim, d_ffn, d_heads, c_heads, c_span)


def read_architectures(path: Path) -> list[Architecture]:
    """Reads architectures from JSON (one, or a list), from JSON lines, or one from HAT's YAML.

    Each may be in our fields, in HAT's nested form, or an object with such an `architecture` in it, as in a
    file of answers; a header line is passed over.

    Raises:
        InputError: If the file is none of these, or holds none.
    """
    text = read_text(path, "the architectures")
    try:
        found = [_from_json(entry) for entry in _entries(text)]
    except json.JSONDecodeError:
        found = [Architecture.from_hat(text)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not found:
        raise InputError(f"{path} holds no architectures")
    return found


def _entries(text: str) -> list[Any]:
    """Parses JSON or JSON lines. A list of HAT's lines is one entry; the header of answers is none."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        data = [json.loads(line) for line in text.splitlines() if line.strip()]
    is_lines = isinstance(data, list) and data and all(isinstance(line, str) for line in data)
    entries = data if isinstance(data, list) and not is_lines else [data]
    return [entry for entry in entries if not (isinstance(entry, dict) and "schema" in entry)]


def _from_json(entry: Any) -> Architecture:
    inner = entry.get("architecture", entry) if isinstance(entry, dict) else entry
    is_hat = not isinstance(inner, dict) or "encoder" in inner or any("-" in key for key in inner)
    return Architecture.from_hat(inner) if is_hat else Architecture.from_dict(inner)
