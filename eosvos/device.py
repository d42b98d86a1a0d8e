"""The device that computes: asked for by name, or the best one there is."""

from typing import Literal

from eosvos.errors import BadInput

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: Device) -> str:
    """``auto``: a GPU by CUDA, else Apple's, else the CPU.

    Raises:
        BadInput: this machine has no such device.
    """
    import torch  # late, so that commands name devices without it

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(device for device, is_there in present.items() if is_there)
    if not present[name]:
        there = ", ".join(device for device, is_there in present.items() if is_there)
        raise BadInput(f"--device {name}: this machine has none; choose one of auto, {there}")
    return name
