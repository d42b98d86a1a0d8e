"""The device that computes: asked for by name, or a GPU where there is one."""

from typing import Literal

from eosvos.errors import BadInput

Device = Literal["auto", "cpu", "cuda", "mps"]


def choose_device(name: Device) -> str:
    """The name that PyTorch has for it; ``auto`` is a GPU by CUDA, else the CPU.

    Apple's GPU (``mps``) has to be asked for: nobody has compared its masks with those of the CPU.

    Raises:
        BadInput: this machine has no such device.
    """
    import torch  # late, so that commands name devices without it

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if present["cuda"] else "cpu"
    if not present[name]:
        there = ", ".join(device for device, is_there in present.items() if is_there)
        raise BadInput(f"--device {name}: this machine has none; choose one of auto, {there}")
    return name
