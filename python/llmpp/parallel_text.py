"""Parallel text as its owner has it: two files with a sentence per line, or one with two columns.

Files are UTF-8, plain or compressed by gzip. Lines that cannot be used are counted by reason, with the
numbers of the first ones, so that nothing is dropped in silence.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from llmpp.errors import InputError
from llmpp.task import is_file

#: One TSV, or the files of source and target.
Files: TypeAlias = str | Path | Sequence[str | Path]

#: Why a line is dropped: a side is empty; a side is longer than allowed; it is not UTF-8, or holds a NUL; it
#: has not exactly two columns.
REASONS = ("blank", "over_long", "undecodable", "misaligned")
_N_FIRST = 10
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Pair(NamedTuple):
    """A sentence and its translation, without the ends of their lines."""

    line: int
    source: str
    target: str


@dataclass
class LineReport:
    """What became of the lines of a text.

    Attributes:
        n_lines: Lines read.
        dropped: Lines dropped, by reason.
        first: Numbers of the first of them, from 1, by reason.
    """

    n_lines: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    first: dict[str, list[int]] = field(default_factory=lambda: {reason: [] for reason in REASONS})

    def drop(self, reason: str, line: int) -> None:
        """Counts a line that is not used."""
        self.dropped[reason] += 1
        if len(self.first[reason]) < _N_FIRST:
            self.first[reason].append(line)

    @property
    def n_kept(self) -> int:
        """Lines that are used."""
        return self.n_lines - sum(self.dropped.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns the report for a record; the numbers of the first ten lines stand for each reason."""
        reasons = {r: {"n": self.dropped[r], "first_lines": list(self.first[r])} for r in REASONS}
        return {"n_lines": self.n_lines, "n_pairs": self.n_kept, "dropped": reasons}

    def __str__(self) -> str:
        parts = [f"{n} {reason}" for reason, n in self.dropped.items() if n]
        return f"{self.n_lines} lines" + (f", of which {', '.join(parts)}" if parts else "")


@dataclass(frozen=True)
class ParallelText:
    """The files of one set.

    Attributes:
        files: One TSV, or source and target.
    """

    files: tuple[Path, ...]

    @classmethod
    def of(cls, name: str, files: Files) -> "ParallelText":
        """Takes one path, or a pair of them.

        Raises:
            InputError: If it is neither, or one of them is no regular file: they are read more than once.
        """
        paths = tuple(Path(path) for path in ([files] if isinstance(files, (str, Path)) else files))
        if len(paths) not in (1, 2):
            raise InputError(
                f"`{name}` must be one TSV, or a source and a target file; got {len(paths)} files"
            )
        for path in paths:
            if not is_file(path):
                raise InputError(f"`{name}`: there is no regular file {path}")
        return cls(paths)

    def __str__(self) -> str:
        return " and ".join(map(str, self.files))

    def pairs(self, report: LineReport) -> Iterator[Pair]:
        """Yields the pairs that are text on both sides, and counts the other lines.

        Raises:
            InputError: If a file cannot be read, most of its lines are not UTF-8, or two files have different
                numbers of lines.
        """
        n_undecodable = [0] * len(self.files)
        for report.n_lines, raw in enumerate(self._rows(), 1):
            sides = [_decode(side) for side in raw]
            for index, side in enumerate(sides):
                n_undecodable[index] += side is None
            if None in sides:
                report.drop("undecodable", report.n_lines)
                continue
            columns = [column for side in sides if side is not None for column in self._columns(side)]
            reason = _problem(columns)
            if reason:
                report.drop(reason, report.n_lines)
            else:
                yield Pair(report.n_lines, *columns)
        self._check_is_text(n_undecodable, report)

    def _columns(self, line: str) -> list[str]:
        return line.split("\t") if len(self.files) == 1 else [line]

    def _rows(self) -> Iterator[list[bytes]]:
        """Yields the same line of every file."""
        readers = [_lines(path) for path in self.files]
        for n_before, row in enumerate(zip_longest(*readers)):
            if None in row:
                counts = [
                    n_before + (line is not None) + sum(1 for _ in r)
                    for line, r in zip(row, readers, strict=True)
                ]
                raise InputError(
                    f"{self.files[0]} has {counts[0]} lines and {self.files[1]} has {counts[1]}: "
                    "line n of one must be the translation of line n of the other"
                )
            yield list(row)

    def _check_is_text(self, n_undecodable: list[int], report: LineReport) -> None:
        for path, n in zip(self.files, n_undecodable, strict=True):
            if 2 * n > report.n_lines:
                raise InputError(
                    f"{path} is not text in UTF-8: {n} of its {report.n_lines} lines cannot be decoded. "
                    "Convert it, such as by `iconv -f LATIN1 -t UTF-8`"
                )


def _problem(columns: list[str]) -> str | None:
    is_empty = [not column.strip() for column in columns]
    if all(is_empty):
        return "blank"
    if len(columns) != 2:
        return "misaligned"
    return "blank" if any(is_empty) else None


def _decode(raw: bytes) -> str | None:
    if b"\0" in raw:
        return None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a file, plain or compressed, without their ends and a byte order mark."""
    try:
        with path.open("rb") as plain:
            is_compressed = plain.read(2) == _GZIP
        with gzip.open(path) if is_compressed else path.open("rb") as file:
            for number, line in enumerate(file):
                # Only line feeds end a line: other separators of Unicode may stand within a sentence.
                text = line.removesuffix(b"\n").removesuffix(b"\r")
                if number == 0:
                    text = text.removeprefix(_BYTE_ORDER_MARK)
                    _check_is_not_utf_16(path, text)
                yield text
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged or was cut off: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _check_is_not_utf_16(path: Path, first: bytes) -> None:
    """Its lines would be counted wrongly, and the message be about their number."""
    if first.startswith(_UTF_16):
        raise InputError(f"{path} is UTF-16, not UTF-8: convert it, such as by `iconv -f UTF-16 -t UTF-8`")
