"""The machine that something is measured on, for the record."""

import os
import platform
from pathlib import Path
from typing import Any

from llmpp.errors import require
from llmpp.provenance import origin


def describe_machine(device: str, runtime: str) -> dict[str, Any]:
    """Describes the machine: no name of a person or host.

    Args:
        device: Such as `cpu` or `cuda:0`.
        runtime: 'torch' or 'onnxruntime'.

    Returns:
        `processor`, `device_name`, `n_cpus` that this process may use, `system`, `python`, `versions`.
    """
    packages = ["llmpp", "torch"] + (["onnx", "onnxruntime"] if runtime == "onnxruntime" else [])
    return {
        "processor": processor(),
        "device_name": device_name(device),
        "n_cpus": n_cpus(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": origin("", packages, None)["versions"],
    }


def processor() -> str:
    """The name of the CPU, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """The name of the GPU, or of the CPU where that is the device."""
    if device.startswith("cuda"):
        return str(require("torch", "train").cuda.get_device_name(device))
    return processor()


def n_cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """The processes that ran or waited in the last minute, on average; None where that is not counted."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
