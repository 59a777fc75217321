"""The label-smoothed loss to its definition, and the dropout and attention that trainings use."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tokenizers")

from llmpp import attention  # noqa: E402
from llmpp.dropout import drop  # noqa: E402
from llmpp.smoothed_loss import row_losses, summed_loss  # noqa: E402
from llmpp.special_tokens import PAD  # noqa: E402
from llmpp.transformer import Transformer  # noqa: E402
from small_networks import slow_loss  # noqa: E402
from toy_training import ONE, toy_corpus  # noqa: E402


def test_the_loss_and_its_gradients_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    model = Transformer(replace(ONE, encoder_dim=48), vocabulary=toy_corpus().vocabulary, qkv_dim=8)
    tensors = toy_corpus().batches("train", max_tokens=9000)[0].tensors()
    assert (tensors[2] != PAD).sum() > 600  # more rows than are looked at at a time
    loss = summed_loss(model.network(), *tensors)
    loss.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    expected = slow_loss(model(*tensors[:2]).flatten(0, 1), tensors[2].flatten())
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-3)
    for name, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(found[name], p.grad, rtol=1e-4, atol=1e-3)


def test_the_loss_of_a_target_without_any_chance_is_finite_and_right() -> None:
    outputs = torch.tensor([[200.0, 0.0], [1.0, 1.0]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 0.5]])
    target = torch.tensor([2, 3])
    logits = (outputs @ weight.T).double()
    expected = [slow_loss(logits[i : i + 1], target[i : i + 1]) for i in (0, 1)]
    found = row_losses(outputs, weight, target)
    torch.testing.assert_close(found.double(), torch.stack(expected), rtol=1e-6, atol=1e-4)


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 99, requires_grad=True)
    dropped = drop(x, 0.3)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.detach().mean()) == pytest.approx(1, abs=0.01)
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad, dropped)
    assert drop(x, 0.0) is x
    assert drop(x.bfloat16(), 0.3).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["masked", "causal", "free"])
def test_attention_with_dropout_is_that_without_when_nothing_drops(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(3, 2, n, 4) for n in (5, 5, 5))
    mask = torch.rand(3, 1, 1, 5) > 0.4
    mask[..., 0] = True
    settings: dict[str, Any] = {"is_causal": kind == "causal"}
    given = (queries, keys, values, mask if kind == "masked" else None)
    expected = attention.attend(*given, **settings)
    monkeypatch.setattr(attention, "drop", lambda x, share: x)
    torch.testing.assert_close(attention.attend(*given, dropout=0.5, **settings), expected)
