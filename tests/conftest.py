"""Fixtures: the data beside the checkout, a toy corpus, and a language model's endpoint on the loopback."""

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from pytest_httpserver import HTTPServer

from asking import FAST, TASK, Ask
from command import Command, Ended
from llmpp import LlmPredictor, cli
from llmpp.cpu_threads import threads
from llmpp.survey import SurveySettings
from stand_in import StandIn

if TYPE_CHECKING:
    from llmpp.corpus import Corpus
    from llmpp.report_card import ReportCard

# The same examples everywhere, so that a failure can be repeated; no deadline, since machines may be busy.
settings.register_profile("llmpp", derandomize=True, deadline=None)
settings.load_profile("llmpp")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real figures, from the environment variable LLMPP_DATA."""
    folder = os.environ.get("LLMPP_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = f"LLMPP_DATA must name the data folder, got {folder!r}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keeps tests away from the replies that the user of this machine has paid for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small matrices gain nothing from threads, and lose much where other processes run."""
    pytest.importorskip("torch")
    with threads(1):
        yield


@pytest.fixture(scope="module")
def quick_students(one_thread: None) -> Iterator[None]:
    """Makes training short and the network small, on one thread."""
    from llmpp import distill

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "N_STEPS", 15)
        patch.setattr(distill, "choose", partial(distill.choose, sizes=((3,),)))
        yield


@pytest.fixture(scope="module")
def extended(quick_students: None) -> "ReportCard":
    """The card of one split with all that was tried beyond the plan, and a live model."""
    from llmpp.report_card import evaluate
    from report_cards import LIVE, one_split

    return evaluate(one_split(), live=LIVE, n_seeds=2, n_bootstrap=200, extended=True)


@pytest.fixture(scope="session")
def corpus() -> "Corpus":
    """Short sentences of the toy language."""
    from toy_training import toy_corpus

    return toy_corpus()


@pytest.fixture(scope="session")
def checkpoint(corpus: "Corpus", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a supernet that was never trained, but whose architectures differ."""
    from toy_training import toy_supernet

    path = tmp_path_factory.mktemp("supernet") / "model.safetensors"
    toy_supernet(path, corpus)
    return path


@pytest.fixture(scope="session")
def http_server() -> Iterator[HTTPServer]:
    """A real server on the loopback, for all tests: stopping one takes half a second."""
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def stand_in(http_server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """An endpoint on the loopback, and no key in the environment."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    http_server.clear()
    stand = StandIn(http_server.url_for("/v1"))
    for path in ("/v1/chat/completions", "/v1/responses"):
        http_server.expect_request(path, method="POST").respond_with_handler(stand.handle)
    return stand


@pytest.fixture
def llmpp_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """The command in this process, in an empty directory that also holds its cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["llmpp", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        captured = capsys.readouterr()
        code = exited.value.code
        return Ended(code if isinstance(code, int) else int(bool(code)), captured.out, captured.err)

    return run


@pytest.fixture
def ask(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)

    def build(batch_size: int | None = None, max_attempts: int = 3, **model: Any) -> LlmPredictor:
        settings = SurveySettings(
            batch_size=batch_size,
            max_attempts=max_attempts,
            shuffle_demonstrations=model.pop("shuffle_demonstrations", False),
        )
        options = {
            "model": "gpt-4.1",
            "base_url": stand_in.url,
            "cache": tmp_path / "replies.sqlite",
            **FAST,
            **model,
        }
        return LlmPredictor(TASK, split="123", settings=settings, **options)

    return build


@pytest.fixture(scope="session")
def done_study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The file and the directory of a small study of 6 architectures that was run, with searches."""
    for package in ("torch", "safetensors", "tokenizers", "sacrebleu", "sklearn"):
        pytest.importorskip(package)
    from llmpp import distill
    from small_study import COMPARISON, run_here, write_small_study

    folder = tmp_path_factory.mktemp("study")
    file = write_small_study(folder, 6, **COMPARISON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "N_STEPS", 20)
        patch.setattr(distill, "N_FOLDS", 2)
        states = run_here(file, folder / "out")
    assert set(states.values()) == {"done"}
    return file, folder / "out"
