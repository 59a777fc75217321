"""Upper bounds on what an architecture may cost."""

import math
from collections.abc import Mapping
from numbers import Real

from llmpp.errors import InputError, unknown
from llmpp.result import MEASURES


def check_constraints(constraints: Mapping[str, float] | None, *, has_hardware: bool) -> dict[str, float]:
    """Checks bounds by name: latency_ms, gflops, params_m.

    Raises:
        InputError: If a name is unknown, a bound is not a positive number, or latency is bounded without
            hardware to predict it for.
    """
    checked = {}
    for name, bound in (constraints or {}).items():
        if name not in MEASURES:
            raise unknown("constraint", name, list(MEASURES))
        is_number = isinstance(bound, Real) and not isinstance(bound, bool)
        if not is_number or not math.isfinite(bound) or bound <= 0:
            raise InputError(f"the bound of `{name}` must be a positive number, got {bound!r}")
        checked[name] = float(bound)
    if "latency_ms" in checked and not has_hardware:
        raise InputError("a bound of `latency_ms` needs `hardware`: a name or the path of a latency model")
    return checked
