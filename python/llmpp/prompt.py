"""The prompt of LLM-PP, as a pure function: task, demonstrations and architectures in, text out.

The parts are those of the paper's ablation (arXiv 2310.16712): each can be switched off.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from llmpp.architecture import Architecture
from llmpp.errors import InputError, unknown
from llmpp.space import HYPERPARAMETERS
from llmpp.task import Figures, Task, cost_measures
from llmpp.text import read_text

#: One prompt asks about so many architectures, where the model's context holds them.
DEFAULT_BATCH = 150

_DEFINITIONS = """\
encoder_dim, decoder_dim: embedding width of the encoder, of the decoder
encoder_layers, decoder_layers: number of layers
encoder_ffn, decoder_ffn: feed-forward width of each layer, first layer first
encoder_heads, decoder_heads: self-attention heads of each layer
cross_heads: encoder-decoder attention heads of each decoder layer
cross_span: how many of the last encoder layers each decoder layer attends to"""

_PAPER = (
    "Every architecture is an encoder-decoder Transformer (Vaswani et al., 2017). Training data, optimiser, "
    "learning-rate schedule and number of updates are the same for all of them."
)
_GFLOPS = (
    "gflops is the cost of one forward pass over one sentence pair of {length} source and {length} target "
    "tokens, output projection included."
)
_INSTRUCTION = (
    "Work from the demonstrations: find how depth, width, feed-forward size, heads and cross-attention span "
    "go together with {metric}, and carry that over to the new architectures."
)
_PRECISION = (
    "Tell close architectures apart. Give {count} decimals, and repeat a value only where you expect a tie."
)
_FORM = (
    "Answer with one line for each architecture to score, its number and your estimate separated by one "
    "space, and nothing else."
)
_FORM_JSON = (
    'Answer with one JSON object, {"estimates": [{"number": 1, "estimate": ...}, ...]}, with one entry for '
    "each architecture to score, and nothing else."
)
_COUNTS = {2: "two", 3: "three", 4: "four", 5: "five"}
_SECTION = re.compile(r"\n# ([^\n]+)\n(.*?)(?=\n# |\Z)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class PromptParts:
    """Which parts a prompt has beside the demonstrations and the form of the answer.

    Attributes:
        role: Who the model is.
        hyperparameters: What each hyperparameter means.
        task_name: The task in words.
        sentence_pairs: Source and target sentences of the task, given by the user.
        paper: The architecture's paper, and that training is the same for all.
        gflops: What GFLOPs are.
        instruction: That estimates are to be worked out from the demonstrations.
    """

    role: bool = True
    hyperparameters: bool = True
    task_name: bool = True
    sentence_pairs: tuple[tuple[str, str], ...] = ()
    paper: bool = True
    gflops: bool = True
    instruction: bool = True

    def without(self, names: Iterable[str]) -> "PromptParts":
        """Switches parts off.

        Raises:
            InputError: If there is no such part.
        """
        off: dict[str, Any] = {}
        for name in names:
            if name not in PARTS:
                raise unknown("part of the prompt", name, list(PARTS))
            off[name] = False
        return replace(self, **off)

    def showing(self, sentence_pairs: Iterable[tuple[str, str]]) -> "PromptParts":
        """Adds sentence pairs of the task."""
        return replace(self, sentence_pairs=tuple(sentence_pairs))


#: The parts that can be switched off.
PARTS = tuple(field.name for field in fields(PromptParts) if field.default is True)


def read_sentence_pairs(path: Path) -> list[tuple[str, str]]:
    """Reads sentence pairs, one per line, source and target separated by a tab.

    Raises:
        InputError: If the file cannot be read, is empty, or a line has no two sentences.
    """
    lines = [line for line in read_text(path, "the sentence pairs").splitlines() if line.strip()]
    pairs = [tuple(sentence.strip() for sentence in line.split("\t")) for line in lines]
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not all(pair):
            raise InputError(
                f"{path}, line {number}: expected two sentences with a tab between, got {pair!r:.80}"
            )
    if not pairs:
        raise InputError(f"{path} holds no sentence pairs")
    return [(source, target) for source, target in pairs]


def ladder(sentence_pairs: Sequence[tuple[str, str]] = ()) -> dict[str, PromptParts]:
    """Lists the paper's ablation: prompts that grow part by part, from demonstrations alone to all parts."""
    parts = PromptParts(
        role=False, hyperparameters=False, task_name=False, paper=False, gflops=False, instruction=False
    )
    rungs = {"demonstrations": parts}
    steps = {
        "+ role and hyperparameters": {"role": True, "hyperparameters": True},
        "+ task name": {"task_name": True},
        "+ sentence pairs": {"sentence_pairs": tuple(sentence_pairs)},
        "+ paper": {"paper": True},
        "+ gflops": {"gflops": True},
        "+ instruction": {"instruction": True},
    }
    for name, change in steps.items():
        parts = replace(parts, **change)  # type: ignore[arg-type]
        rungs[name] = parts
    return rungs


_DEMONSTRATIONS, _QUESTIONS = "Demonstrations", "Architectures to score"


def build_prompt(
    task: Task,
    demonstrations: Sequence[Figures],
    architectures: Sequence[Architecture],
    *,
    parts: PromptParts | None = None,
    names: Mapping[str, str] | None = None,
    structured: bool = False,
) -> str:
    """Writes the message that asks for the quality of architectures.

    Args:
        task: The task; its words, metric and sizes enter the text.
        demonstrations: Trained architectures to show, in this order.
        architectures: What is asked about; numbered from 1 in this order.
        parts: The parts of the prompt; all by default.
        names: Other names for hyperparameters and 'gflops', in the lines that describe architectures.
        structured: Ask for a JSON object instead of lines.

    Returns:
        The text, ending in a line break.

    Raises:
        InputError: If there is nothing to show or nothing to ask.
        SpaceError: If an architecture lies outside the task's space.

    Example:
        >>> from llmpp import load_task
        >>> task = load_task("wmt14.en-de")
        >>> prompt = build_prompt(task, task.demonstrations("123"), task.space.sample(2))
        >>> prompt.splitlines()[0], prompt.splitlines()[-1][:14]
        ('# Role', '2 encoder_dim=')
    """
    if not demonstrations or not architectures:
        raise InputError(
            f"a prompt needs at least one demonstration and one architecture to score, got "
            f"{len(demonstrations)} and {len(architectures)}"
        )
    parts = parts or PromptParts()
    if not all(isinstance(figures.valid_score, (int, float)) for figures in demonstrations):
        raise InputError("every demonstration needs a `valid_score`")
    digits = decimals(figures.valid_score for figures in demonstrations)
    lines = describe(task, [*(figures.architecture for figures in demonstrations), *architectures], names)
    shown, asked = lines[: len(demonstrations)], lines[len(demonstrations) :]
    label = metric_label(task)
    scores = [f"{label}={figures.valid_score:.{digits}f}" for figures in demonstrations]
    sections = [
        ("Role", _role(task.metric) if parts.role else ""),
        ("Instructions", _instructions(task, parts, digits, _FORM_JSON if structured else _FORM)),
        ("Hyperparameters", _DEFINITIONS if parts.hyperparameters else ""),
        ("Sentence pairs of the task", _sentences(parts.sentence_pairs)),
        (_DEMONSTRATIONS, "\n".join(map(" ".join, zip(shown, scores, strict=True)))),
        (_QUESTIONS, "\n".join(f"{number} {line}" for number, line in enumerate(asked, 1))),
    ]
    return "\n\n".join(f"# {title}\n{body}" for title, body in sections if body) + "\n"


def decimals(scores: Iterable[float]) -> int:
    """Counts the decimals that tell scores apart: 2, or as many as give their range 50 steps."""
    scores = list(scores)
    width = max(scores) - min(scores)
    return 2 if width <= 0 else max(2, min(8, math.ceil(math.log10(50) - math.log10(width))))


def metric_label(task: Task) -> str:
    """The metric's name in the lines of demonstrations: lower case, without spaces."""
    return re.sub(r"[\s=]+", "_", task.metric.strip().lower())


def _role(metric: str) -> str:
    return (
        "You estimate how well Transformer architectures translate. You are shown architectures "
        f"together with the {metric} that each reached after full training, and you estimate the {metric} "
        "that further architectures would reach after the same training."
    )


def _instructions(task: Task, parts: PromptParts, digits: int, form: str) -> str:
    """Numbers the instructions that the parts call for."""
    length, count = task.sentence_length, _COUNTS.get(digits, str(digits))
    words = f"The task is {task.words or task.name}. " if parts.task_name else ""
    items = [
        (True, f"{words}Quality is {task.metric} on the validation set; higher is better."),
        (parts.paper, _PAPER),
        (parts.gflops, _GFLOPS.format(length=length)),
        (parts.instruction, _INSTRUCTION.format(metric=task.metric)),
        (True, _PRECISION.format(count=count)),
        (True, form),
    ]
    texts = [text for is_part, text in items if is_part]
    return "\n".join(f"{number}. {text}" for number, text in enumerate(texts, 1))


def _sentences(pairs: Sequence[tuple[str, str]]) -> str:
    """Writes sentence pairs, each sentence on one line."""
    lines = (f"source: {' '.join(s.split())}\ntarget: {' '.join(t.split())}" for s, t in pairs)
    return "\n".join(lines)


def describe(
    task: Task, architectures: Sequence[Architecture], names: Mapping[str, str] | None = None
) -> list[str]:
    """Writes each architecture as one line of `name=value`, its GFLOPs last."""
    names = names or {}
    gflops = cost_measures(task.space.genomes(architectures), task)["gflops"]
    digits = _gflops_decimals(task)
    lines = []
    for architecture, cost in zip(architectures, gflops, strict=True):
        values = zip(HYPERPARAMETERS, architecture.values(), strict=True)
        fields = [f"{names.get(name, name)}={','.join(map(str, value))}" for name, value in values]
        lines.append(" ".join([*fields, f"{names.get('gflops', 'gflops')}={cost:.{digits}f}"]))
    return lines


def _gflops_decimals(task: Task) -> int:
    """Decimals that tell the costs of a space's architectures apart; the same in every prompt of a task."""
    genomes = task.space.genomes(task.space.sample(64))
    return decimals(cost_measures(genomes, task)["gflops"].tolist())


@dataclass(frozen=True)
class PromptShape:
    """What a reader of replies has to know of a prompt.

    Attributes:
        n: The number of architectures asked about.
        shown: The qualities of the demonstrations.
    """

    n: int
    shown: tuple[float, ...]


def read_shape(prompt: str) -> PromptShape:
    """Finds in a prompt how many architectures it asks about, and the qualities that it shows.

    Raises:
        InputError: If the text is no prompt of `build_prompt`.
    """
    sections = dict(_SECTION.findall("\n" + prompt))
    asked = re.findall(r"^(\d+) \S+=", sections.get(_QUESTIONS, ""), re.MULTILINE)
    shown = re.findall(r"=(-?\d+\.\d+)$", sections.get(_DEMONSTRATIONS, ""), re.MULTILINE)
    if not shown or not asked or list(map(int, asked)) != list(range(1, len(asked) + 1)):
        raise InputError(f"this is no prompt of llmpp: {prompt[:60]!r}")
    return PromptShape(len(asked), tuple(map(float, shown)))
