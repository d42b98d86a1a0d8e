"""Videos as folders of frames, with a folder of masks for each, of some frames or of all."""

from pathlib import Path

from eosvos.data.readers.clip import IMAGE_ENDINGS
from eosvos.data.readers.folders import Folder, video
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

LAYOUT = "the layout frames"


def read_frames(root: Path, masks: Path) -> list[Sequence]:
    """Frames ``ROOT/NAME/*.jpg`` with masks ``MASKS/NAME/*.png``; values are object ids, and 255 is void.

    Where the frames lie in ``root`` itself it is one video, called as the folder is, or as the one around it where it
    is called ``frames``.

    Raises:
        BadInput: a folder that is missing, a video without frames or masks, a mask without a frame, or frames in
            ``root`` itself beside videos.
    """
    frames, labels = Folder.named(root, LAYOUT), Folder.named(masks, LAYOUT)
    if stray := frames.stems(IMAGE_ENDINGS):
        for name in sorted({*frames.folders()} & {*labels.folders()}):
            raise BadInput(
                f"{next(iter(stray.values()))}: a frame beside the folder {name} of a video; move either elsewhere"
            )
        name = frames.path.parent.name if frames.path.name == "frames" else frames.path.name
        return [video("frames", name, frames, labels)]
    names, labelled = frames.folders(), labels.folders()
    if not names:
        raise BadInput(f"{frames}: holds no frames and no folders of frames; correct --root")
    for name in labelled:
        if name not in names:
            raise BadInput(f"{labels / name}: masks without frames; restore {frames / name} or remove the folder")
    return [video("frames", name, frames / name, labels / name) for name in names]
