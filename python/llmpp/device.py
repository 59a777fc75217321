"""Where torch computes: the device, and the precision of products."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import torch

from llmpp.errors import InputError
from llmpp.recipe import Precision

Item = TypeVar("Item")


def find_device(name: str = "auto") -> torch.device:
    """Finds a device.

    Args:
        name: 'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one.

    Raises:
        InputError: If there is no such device on this machine.
    """
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if n_gpus else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(
            f"`device` must be 'auto', 'cpu', 'cuda' or such as 'cuda:1', got {name!r}"
        ) from error
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        if (device.index or 0) >= n_gpus:
            raise InputError(f"`device` is {name!r}, but torch finds {n_gpus} GPUs here: use 'cpu' or 'auto'")
    elif device.type != "cpu":
        raise InputError(f"`device` must be a CPU or a CUDA GPU, got {name!r}")
    return device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Has products of matrices computed in a precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def precision_notes(device: torch.device, precision: Precision) -> tuple[str, ...]:
    """What a user should know about a precision on a device."""
    if precision == "bf16" and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return ("this CPU has no bfloat16 arithmetic: `bf16` takes about ten times as long as `fp32`",)
    return ()


def for_each(function: Callable[[Item], object], items: Sequence[Item], device: torch.device) -> None:
    """Calls a function with each item, without gradients, in the precision that holds here.

    On a CPU, this is side by side: each call has one thread, so that what it computes does not depend on how
    many torch may use.
    """
    n_before = torch.get_num_threads()
    if device.type != "cpu" or n_before < 2:
        for item in items:
            function(item)
        return
    is_cast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def call(item: Item) -> None:
        # Both are torch's state of a thread.
        with torch.inference_mode(), torch.autocast("cpu", dtype, enabled=is_cast):
            function(item)

    try:
        with ThreadPoolExecutor(n_before, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(call, items):
                pass
    finally:
        torch.set_num_threads(n_before)
