"""Images with masks: each is a sequence of one frame."""

from pathlib import Path

from eosvos.data.readers.clip import IMAGE_ENDINGS, natural_order
from eosvos.data.readers.files import FrameFiles
from eosvos.data.readers.folders import MASK_ENDINGS, existing, read_names, stems
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

LAYOUT = "the layout images"
VOC_LAYOUT = "the layout of PASCAL VOC"


def read_images(root: Path, split: str = "") -> list[Sequence]:
    """Images ``images/**/NAME.jpg`` with masks ``masks/**/NAME.png``, whose values are object ids, and 255 is void.

    A sequence's name is the path of its image below ``images``, without the ending.

    Args:
        root: folder that holds ``images`` and ``masks``.
        split: folder below ``images`` to read alone, such as ``coco``; all of it unless given.

    Raises:
        BadInput: a folder that is missing, no image, or an image without a mask or the other way round.
    """
    root = existing(Path(root).resolve(), LAYOUT)
    images, masks = existing(root / "images", LAYOUT), existing(root / "masks", LAYOUT)
    top = existing((images / split).resolve(), LAYOUT)
    if not top.is_relative_to(images):
        raise BadInput(f"--split {split}: leaves {images}; name a folder below it")
    folders = {top, *(path for path in top.rglob("*") if path.is_dir())}
    found: list[Sequence] = []
    for folder in sorted(folders, key=lambda folder: natural_order(str(folder))):
        below = folder.relative_to(images)
        if not any(part.startswith(".") for part in below.parts):
            prefix = "" if folder == images else f"{below.as_posix()}/"
            found += _pairs("images", prefix, folder, masks / below)
    if not found:
        raise BadInput(
            f"{top}: holds no image ({', '.join(IMAGE_ENDINGS)}); give the folder that has images/ and masks/"
        )
    return found


def read_voc(root: Path, split: str) -> list[Sequence]:
    """PASCAL VOC: ``JPEGImages`` with ``SegmentationObject``, as ``ImageSets/Segmentation/SPLIT.txt`` lists them.

    Raises:
        BadInput: a folder, a list, a listed image or its mask that is missing.
    """
    root = existing(Path(root).resolve(), VOC_LAYOUT)
    folders = (existing(root / name, VOC_LAYOUT) for name in ("JPEGImages", "SegmentationObject"))
    images, masks = (stems(folder, IMAGE_ENDINGS) for folder in folders)
    names = read_names(existing(root / "ImageSets" / "Segmentation", VOC_LAYOUT) / f"{split}.txt")
    for name in names:
        for place, files in (("JPEGImages", images), ("SegmentationObject", masks)):
            if name not in files:
                raise BadInput(
                    f"{root / place / name}: no such file, but {split}.txt lists it; unpack the archive again"
                )
    return [_one("voc", name, images[name], masks[name]) for name in sorted(names)]


def _pairs(dataset: str, prefix: str, images: Path, masks: Path) -> list[Sequence]:
    there, annotated = stems(images, IMAGE_ENDINGS), stems(masks, MASK_ENDINGS)
    for stem in sorted(there.keys() - annotated.keys()):
        raise BadInput(
            f"{masks / stem}.png: no such mask, though there is {there[stem]}; restore it or remove the image"
        )
    for stem in sorted(annotated.keys() - there.keys()):
        raise BadInput(f"{annotated[stem]}: a mask without an image; restore {images / stem}.jpg or remove the mask")
    return [_one(dataset, prefix + stem, there[stem], annotated[stem]) for stem in sorted(there, key=natural_order)]


def _one(dataset: str, name: str, image: Path, mask: Path) -> Sequence:
    return Sequence(dataset, name, (image.stem,), False, FrameFiles((image,), (mask,)))
