"""Checkpoints: whole or not there, safe to load, and enough to go on from bit for bit."""

from pathlib import Path
from typing import Any

import torch

from openanimals.modeling.weights import WeightsError, find_state_dict, load_file, local_file
from openanimals.utils.errors import UserError, naming
from openanimals.utils.files import atomic_path, expanded, write_text

FORMAT = 1
LAST = "model_last.pth"
BEST = "model_best.pth"
FINAL = "model_final.pth"


class CheckpointError(UserError):
    """A checkpoint that cannot be read, written or used; names the file and the cause."""


def write(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain containers; the file at ``path`` is replaced only when it is whole.

    Raises:
        CheckpointError: the disk is full or cannot be written. What was at ``path`` is still there.
    """
    try:
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
    except (OSError, RuntimeError) as error:  # torch's zip writer raises RuntimeError
        raise CheckpointError(
            f"{path} could not be written ({error.__cause__ or error}); is there space left? A "
            "run goes on from its last checkpoint, which is whole, with --resume"
        ) from error


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU, ours or another's. Nothing in it is executed.

    Returns:
        Its weights as "model", and what else it holds.

    Raises:
        WeightsError: it is an address on the network.
        CheckpointError: the file is missing, truncated, no checkpoint, or of a later format.
    """
    path = local_file(path)
    with naming(path, "cannot be read"):
        if not path.is_file():
            raise CheckpointError(f"no checkpoint at {path.absolute()}")
    try:
        content = load_file(path)
    except WeightsError as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged: {error}") from error
    state = find_state_dict(content)
    if state is None:
        found = type(content).__name__
        if isinstance(content, dict):
            found = f"one with {', '.join(map(str, content)) or 'nothing'}"[:80]
        raise CheckpointError(
            f"{path} is not a checkpoint: expected a dict with weights as 'model', found {found}"
        )
    others = content if "model" in content else {}
    version = others.get("format", FORMAT)
    if isinstance(version, int) and version > FORMAT:
        raise CheckpointError(f"{path} has format {version}; this version reads up to {FORMAT}")
    return {**others, "model": state}


class RunFolder:
    """The output folder of a run: where its checkpoints are, and which is the latest.

    Args:
        path: created when something is written; ``~`` is the home.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)

    def latest(self) -> Path | None:
        """Return the checkpoint that was written last, None if the run has none."""
        pointer = self.path / "last_checkpoint"
        with naming(self.path, "cannot be read"):
            if pointer.is_file():
                return self.path / pointer.read_text().strip()
            # Killed between the first checkpoint and the pointer to it, or the pointer was lost.
            found = [path for path in self.path.glob("model_*.pth") if path.name != BEST]
        return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)

    def finished(self) -> Path | None:
        """Return the checkpoint to use: the final one, else the latest, else the best."""
        final, best = self.path / FINAL, self.path / BEST
        if final.is_file():
            return final
        return self.latest() or (best if best.is_file() else None)

    def refuse_if_used(self) -> None:
        """Raise unless a new run may start here.

        Raises:
            CheckpointError: the folder holds checkpoints.
        """
        with naming(self.path, "cannot be read"):
            found = sorted(path.name for path in self.path.glob("model_*.pth"))
        if found:
            raise CheckpointError(
                f"{self.path} holds the checkpoints of another run ({', '.join(found[:3])}"
                f"{', ...' if len(found) > 3 else ''}): go on with it by --resume, or choose "
                "another OUTPUT_DIR"
            )

    def save(self, name: str, content: dict[str, Any], resumable: bool = True) -> None:
        """Write a checkpoint; if one can resume from it, make it the latest."""
        write(self.path / name, {"format": FORMAT, **content})
        if resumable:
            write_text(self.path / "last_checkpoint", name)
