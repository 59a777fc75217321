"""Claims: files that say which run does a job just now, and whether that run is still there.

On one machine a claim holds as long as its process lives, which is told by the process's id and birth, so
that another process with the same id, also after a restart of the machine, is not taken for it. From another
machine only the heartbeat can be seen.
"""

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CLAIM_SCHEMA = "llmpp.study-claim/1"


@dataclass(frozen=True)
class Owner:
    """A run that claims jobs.

    Attributes:
        host: Its machine.
        pid: Its process.
        birth: What tells the process from another of the same id; empty where the system does not say.
        token: What tells it from all other runs.
    """

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    birth: str = field(default_factory=lambda: birth_of(os.getpid()) or "")
    token: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Claim:
    """What a claim's file says.

    Attributes:
        job: Id of the job.
        owner: Who does it.
        is_exclusive: Whether no other job may run beside it.
        started: When it was begun, in seconds since 1970.
        heartbeat: When its run last said that it is there.
    """

    job: str
    owner: Owner
    is_exclusive: bool
    started: float
    heartbeat: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields, ready for JSON."""
        return {"schema": CLAIM_SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Claim":
        """Builds a claim from what `to_dict` returns."""
        rest = {name: data[name] for name in ("job", "is_exclusive", "started", "heartbeat")}
        return cls(owner=Owner(**data["owner"]), **rest)

    def holds(self, now: float, patience: float) -> bool:
        """Whether its run is still there; one elsewhere may be silent for so many seconds."""
        if self.owner.host != socket.gethostname():
            return now - self.heartbeat <= patience
        birth = birth_of(self.owner.pid)
        if birth is None:
            return False
        return birth == self.owner.birth if birth else now - self.heartbeat <= patience


def read_claim(path: Path) -> Claim | None:
    """Reads a claim; None if there is none, or what is there cannot be one."""
    try:
        return Claim.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def birth_of(pid: int) -> str | None:
    """Tells when a process began; None if it does not live, and '' where the system does not say when."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return ""
    # State and start time, in the numbering of proc(5) the fields 3 and 22.
    return None if fields[0] in {"Z", "X"} else f"{boot}/{fields[19]}"
