"""Rebuilds what is in this folder from the data it came from: `python -m llmpp.assets.rebuild DATA`.

| folder | made | from |
|---|---|---|
| `tasks` | here | `tfs`: figures of UBC-NLP/llmas, MIT (Jawahar et al., ACL Findings 2024) |
| `tasks/multi30k.en-de.json` | `llmpp study task` | `studies/multi30k`, which llmpp trained and timed |
| `answers` | here | `llm_answers`: a language model's replies, recorded for llmpp |
| `students` | `llmpp distill` | `answers` |
| `latency` | `llmpp fit-latency` | `hat_latency`: mit-han-lab/hardware-aware-transformers, MIT |

`make assets` does all of it; this module leaves the task of the study to its verb.
"""

import json
import sys
from pathlib import Path
from typing import Any

from llmpp import distill, latency
from llmpp.answers import Answer, Answers, write_answers
from llmpp.architecture import Architecture
from llmpp.task import TASK_SCHEMA, load_task, write_task

#: Recorded in every file, so that rebuilding on another day gives the same bytes.
DATE = "2026-11-24"

_LLMAS = "UBC-NLP/llmas, MIT (Jawahar et al., ACL Findings 2024, arXiv 2310.16712)"
_HAT = "measured by mit-han-lab/hardware-aware-transformers, MIT"
_MODEL = "claude (version not recorded)"
_WORDS = {
    "wmt14.en-de": ("WMT 2014 English-German translation", 32768),
    "wmt14.en-fr": ("WMT 2014 English-French translation", 44512),
    "wmt19.en-de": ("WMT 2019 English-German translation", 49600),
}
_IWSLT: dict[str, Any] = {
    "schema": TASK_SCHEMA,
    "name": "iwslt14.de-en",
    "space": "hat-iwslt",
    "vocabulary": 6632,
    "sentence_length": 23,
    "metric": "BLEU",
    "words": "IWSLT 2014 German-English translation",
    "source": "sizes of HAT (arXiv 2005.14187); the vocabulary is the target side of fairseq's preparation",
    "figures": [],
    "splits": {},
}
#: CSV of HAT, our name of the hardware, and the task that was measured.
_LATENCIES = [
    ("wmt14ende_gpu_titanxp.csv", "titan-xp", "wmt14.en-de"),
    ("wmt14enfr_gpu_titanxp.csv", "titan-xp", "wmt14.en-fr"),
    ("iwslt14deen_gpu_titanxp.csv", "titan-xp", "iwslt14.de-en"),
    ("wmt14ende_cpu_xeon.csv", "xeon-e5-2640", "wmt14.en-de"),
    ("wmt14ende_cpu_raspberrypi.csv", "raspberry-pi-4", "wmt14.en-de"),
    ("wmt14enfr_cpu_raspberrypi.csv", "raspberry-pi-4", "wmt14.en-fr"),
]


def rebuild(data: Path, assets: Path) -> None:
    """Rebuilds all assets below `assets` from the files below `data`."""
    for folder in ("tasks", "answers", "students", "latency"):
        (assets / folder).mkdir(parents=True, exist_ok=True)
    for name in _WORDS:
        write_task(assets / "tasks" / f"{name}.json", _task(name, data))
    write_task(assets / "tasks" / "iwslt14.de-en.json", _IWSLT)
    for name in _WORDS:
        path = assets / "answers" / f"{name}.jsonl"
        write_answers(path, _answers(name, data / "llm_answers"))
        student = assets / "students" / f"{name}.safetensors"
        command = f"llmpp distill {path.name} --task {name} -o {student.name}"
        distill.distill_file(path, student, load_task(name), command=command, date=DATE)
    for csv, hardware, task in _LATENCIES:
        model = assets / "latency" / f"{hardware}.{task}.safetensors"
        note = f"--note '{_HAT}'"
        command = f"llmpp fit-latency {csv} --task {task} --hardware {hardware} {note} -o {model.name}"
        latency.fit_file(
            data / "hat_latency" / csv,
            model,
            load_task(task),
            hardware=hardware,
            command=command,
            date=DATE,
            note=_HAT,
        )


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _task(name: str, data: Path) -> dict[str, Any]:
    rows = _read_jsonl(data / "tfs" / f"{name}.jsonl")
    words, vocabulary = _WORDS[name]
    splits = sorted({split for row in rows for split in row["demonstration_in"]})
    return {
        "schema": TASK_SCHEMA,
        "name": name,
        "space": "hat-wmt",
        "vocabulary": vocabulary,
        "sentence_length": 30,
        "metric": "BLEU",
        "words": words,
        "source": f"figures of {_LLMAS}; latency on a GPU that the source does not name",
        "splits": {str(s): [row["id"] for row in rows if s in row["demonstration_in"]] for s in splits},
        "figures": [
            {
                "id": row["id"],
                "valid_score": row["valid_bleu"],
                "test_score": row["test_bleu"],
                "latency_ms": round(row["latency_ms"], 3),
                "supernet_scores": row["supernet_valid_bleu"],
                "architecture": row["architecture"],
            }
            for row in rows
        ],
    }


def _answers(task: str, folder: Path) -> Answers:
    pool = {row["id"]: row["architecture"] for row in _read_jsonl(folder / "pool.jsonl")}
    figures = {row.id: row.architecture for row in load_task(task).figures}
    rows = []
    for prompt in _read_jsonl(folder / "index.jsonl"):
        if prompt["task"] != task:
            continue
        replies = (folder / "replies" / f"{prompt['name']}.txt").read_text(encoding="utf-8").splitlines()
        for number, (query, reply) in enumerate(zip(prompt["queries"], replies, strict=True), 1):
            got, answer = reply.split()
            if int(got) != number:
                raise ValueError(f"{prompt['name']}: line {number} answers {got}")
            known = figures[query["tfs"]] if "tfs" in query else Architecture.from_dict(pool[query["pool"]])
            split = str(prompt["split"] or "all")
            rows.append(Answer(known, float(answer), split, prompt["name"]))
    source = "recorded for llmpp, November 2026; sampling settings not recorded"
    return Answers({"task": task, "model": _MODEL, "source": source}, tuple(rows))


if __name__ == "__main__":
    rebuild(Path(sys.argv[1]), Path(__file__).parent)
