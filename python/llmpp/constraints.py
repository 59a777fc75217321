"""Upper bounds on what an architecture may cost."""

from collections.abc import Mapping

from llmpp.errors import InputError, unknown
from llmpp.ranges import positive
from llmpp.result import MEASURES


def check_constraints(constraints: Mapping[str, float] | None, *, has_hardware: bool) -> dict[str, float]:
    """Checks bounds by name: latency_ms, gflops, params_m.

    Raises:
        InputError: If a name is unknown, a bound is not a positive number, or latency is bounded without
            hardware to predict it for.
    """
    if not isinstance(constraints, Mapping | None):
        raise InputError(f"`constraints` must map names to bounds, got {constraints!r}")
    checked = {}
    for name, bound in (constraints or {}).items():
        if name not in MEASURES:
            raise unknown("constraint", name, list(MEASURES))
        checked[name] = positive(f"the bound of `{name}`", bound)
    if "latency_ms" in checked and not has_hardware:
        raise InputError("a bound of `latency_ms` needs `hardware`: a name or the path of a latency model")
    return checked
