"""The training loop, for Transformers and for supernets; one that was stopped goes on where it was.

Every random choice is a function of the seed and of the number of an update or epoch, or comes from torch's
generator, whose state is kept with the weights: a run that was killed ends with the very weights of one that
was not (on a CPU, with as many threads).
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from llmpp.batches import Batch
from llmpp.checkpoint import Place, average, read_state, write_state
from llmpp.corpus import Corpus
from llmpp.device import autocast
from llmpp.errors import TrainingError
from llmpp.recipe import Recipe
from llmpp.smoothed_loss import summed_loss
from llmpp.trainee import Trainee
from llmpp.training_files import TrainingFiles
from llmpp.training_log import Meter, Progress, Report
from llmpp.transformer import Transformer
from llmpp.translation import Quality, Translator
from llmpp.validation import ScoringSet

#: Updates between two lines of the log.
_LOG_EVERY = 50
_BETAS = (0.9, 0.98)


class Training:
    """One training: its state, and the loop."""

    def __init__(
        self, trainee: Trainee, corpus: Corpus, recipe: Recipe, files: TrainingFiles, report: Report | None
    ) -> None:
        self.trainee, self.corpus, self.recipe, self.files = trainee, corpus, recipe, files
        self.report = report or (lambda _: None)
        self.parameters = list(trainee.model.parameters())
        self.device = self.parameters[0].device
        self.optimiser = torch.optim.Adam(self.parameters, lr=0.0, betas=_BETAS, fused=True)
        self.place = Place()
        self.valid = ScoringSet.of(corpus.pairs["valid"], self.device)
        self.valid_loss: float | None = None
        self.meter = Meter()

    def run(self, made: dict[str, Any]) -> dict[str, Any]:
        """Trains to the end, and returns what came of it; at once where there is a result already."""
        # Where a batch cannot hold the longest sentence, this raises before anything is written.
        self.corpus.batches("train", max_tokens=self.recipe.max_tokens)
        subject, recipe = self.trainee.describe(), self.recipe.to_dict()
        record = {"subject": subject, "corpus": self.corpus.hash, "recipe": recipe, **made}
        with self.files.held(record, self.corpus):
            result = self.files.read_result()
            if result is None:
                self._train()
                return self._finish(made)
            self.files.tidy()
            return result

    def _train(self) -> None:
        """Makes the updates that are left."""
        recipe, files = self.recipe, self.files
        if files.state.is_file():
            self.place = read_state(files.state, self.trainee.model, self.optimiser)
        files.log.begin(self.place.update)
        start = time.perf_counter() - self.place.seconds
        batches = self._batches()
        for update in range(self.place.update + 1, recipe.n_updates + 1):
            self._update(update, [next(batches) for _ in range(recipe.n_accumulated)])
            self.place.seconds = time.perf_counter() - start
            if update % _LOG_EVERY == 0 or recipe.is_judged(update):
                self._log()
            if recipe.is_judged(update):
                self._judge()
                self.place.seconds = time.perf_counter() - start
                write_state(files.state, self.trainee.model, self.optimiser, self.place)

    def _batches(self) -> Iterator[Batch]:
        """Yields batches for ever, from the present place on, which moves with them."""
        place = self.place
        while True:
            epoch = self.corpus.batches(
                "train", max_tokens=self.recipe.max_tokens, seed=self.recipe.seed, epoch=place.epoch
            )
            for batch in epoch.after(place.batch):
                place.batch += 1
                yield batch
            place.epoch, place.batch = place.epoch + 1, 0

    def _update(self, update: int, batches: list[Batch]) -> None:
        """Makes one step of the optimiser, by the mean gradient over tokens and architectures."""
        architectures = self.trainee.chosen(update)
        n_tokens = sum(batch.n_target_tokens for batch in batches)
        self.optimiser.zero_grad(set_to_none=True)
        self.trainee.model.train()
        loss = torch.zeros((), device=self.device)
        for batch in batches:
            tensors = batch.tensors(self.device)
            for architecture in architectures:
                with autocast(self.device, self.recipe.precision):
                    network = self.trainee.network(architecture)
                    part = summed_loss(network, *tensors, self.recipe.smoothing)
                part = part / (n_tokens * len(architectures))
                part.backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
        limit = self.recipe.clip_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))
        self._check_is_finite(update, float(loss), norm)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate(update)
        self.optimiser.step()
        self.place.update = update
        self.place.n_tokens += n_tokens
        self.meter.add(float(loss), norm, n_tokens)

    def _check_is_finite(self, update: int, loss: float, norm: float) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        rate = self.recipe.rate(update)
        kept = self.place.best_update
        where = f"{self.files.best} is from update {kept}" if kept else "no checkpoint was written before"
        raise TrainingError(
            f"the training diverged in update {update}: loss {loss}, gradient norm {norm}, learning rate "
            f"{rate:.2g}. {where}. Train again, in another directory, with a smaller `peak_rate`, a longer "
            "`n_warm_up`, or a `clip_norm`"
        )

    def _log(self) -> None:
        """Writes a line on the updates since the last one."""
        place, meter = self.place, self.meter
        speed = meter.tokens_per_second()
        line = {
            "kind": "update",
            "update": place.update,
            "epoch": place.epoch,
            "loss": meter.loss,
            "rate": self.recipe.rate(place.update),
            "gradient_norm": meter.norm,
            "n_tokens": place.n_tokens,
            "seconds": round(place.seconds, 3),
        }
        self.files.log.write(line)
        tokens_left = (self.recipe.n_updates - place.update) * place.n_tokens / place.update
        seconds_left = tokens_left * place.seconds / place.n_tokens
        n_updates = self.recipe.n_updates
        self.report(Progress(place.update, n_updates, meter.loss, self.valid_loss, speed, seconds_left))
        self.meter = Meter()

    def _judge(self) -> None:
        """Validates, and keeps the weights where they are the best, and for the average."""
        place, files = self.place, self.files
        start = time.perf_counter()
        losses = self._losses()
        self.valid_loss = math.fsum(losses.values()) / len(losses)
        self._check_is_finite(place.update, self.valid_loss, 0.0)
        is_best = place.best_loss is None or self.valid_loss < place.best_loss
        if is_best:
            self.trainee.save(files.best)
            place.best_update, place.best_loss = place.update, self.valid_loss
        self.trainee.save(files.snapshot(place.update))
        for old in files.snapshots()[: -self.recipe.n_averaged]:
            old.unlink()
        line = {"kind": "validation", "update": place.update, "loss": self.valid_loss, "losses": losses}
        files.log.write({**line, "is_best": is_best, "seconds": round(time.perf_counter() - start, 3)})
        self.meter = Meter()

    def _losses(self) -> dict[str, float]:
        """The validation loss of each judged architecture, in nats per target token."""
        self.trainee.model.eval()
        with torch.inference_mode(), autocast(self.device, self.recipe.precision):
            judged = self.trainee.judged
            networks = [self.trainee.network(architecture) for architecture in judged.values()]
            losses = self.valid.losses(networks, self.recipe.smoothing).tolist()
        return dict(zip(judged, losses, strict=True))

    def _finish(self, made: dict[str, Any]) -> dict[str, Any]:
        """Averages, chooses, translates, and writes what came of it."""
        files, place, start = self.files, self.place, time.perf_counter()
        average(files.snapshots(), files.averaged)
        self._read(files.averaged)
        averaged = self._losses()
        averaged_loss = math.fsum(averaged.values()) / len(averaged)
        best_loss = place.best_loss if place.best_loss is not None else math.inf
        chosen = "averaged" if averaged_loss < best_loss else "best"
        if chosen == "best":
            self._read(files.best)
        self.trainee.save(files.model)
        result = {
            "kind": self.trainee.describe()["kind"],
            "n_updates": place.update,
            "n_target_tokens": place.n_tokens,
            "best_update": place.best_update,
            "best_loss": best_loss,
            "averaged_loss": averaged_loss,
            "chosen": chosen,
            "valid_loss": min(best_loss, averaged_loss),
            "valid_losses": self._losses(),
            **self._translated(),
            "seconds": round(place.seconds, 1),
            "seconds_to_finish": round(time.perf_counter() - start, 1),
            "tokens_per_second": round(place.n_tokens / place.seconds, 1),
            **made,
        }
        return files.write_result(result)

    def _read(self, path: Path) -> None:
        """Takes over the weights of a file."""
        kind = type(self.trainee.model)
        loaded = kind.load(path)  # type: ignore[attr-defined]
        self.trainee.model.load_state_dict(loaded.state_dict())

    def _translated(self) -> dict[str, Any]:
        """Translates the validation and test sets with a Transformer, and says what that is worth."""
        model = self.trainee.model
        if not isinstance(model, Transformer):
            return {}
        translator, found = Translator(model.eval(), self.corpus.subwords), {}
        for name in self.corpus.sets:
            if name == "train":
                continue
            texts = translator.translate(
                self.corpus.sources(name),
                n_beams=self.recipe.n_beams,
                length_penalty=self.recipe.length_penalty,
            )
            found[name] = Quality.of(texts, self.corpus.references(name)).to_dict()
        return {"n_params": model.n_params, **found}
