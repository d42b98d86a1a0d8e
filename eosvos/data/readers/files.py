"""Frames that are files: what readers of folders share."""

from dataclasses import dataclass
from pathlib import Path

from eosvos.data.sequence import EncodedFrame
from eosvos.errors import BadInput


@dataclass(frozen=True)
class FrameFiles:
    """Position -> encoded frame, read from an image file and a mask file (None where there is no mask)."""

    images: tuple[Path, ...]
    masks: tuple[Path | None, ...]

    def __call__(self, position: int) -> EncodedFrame:
        """Raises BadInput naming a file that cannot be read."""
        image, mask = self.images[position], self.masks[position]
        data = file_bytes(mask) if mask else None
        return EncodedFrame(file_bytes(image), data, str(image), str(mask) if mask else "")


def file_bytes(path: Path) -> bytes:
    """What is in a file. Raises BadInput where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); restore the file") from error
