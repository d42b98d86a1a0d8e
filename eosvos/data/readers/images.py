"""Images with masks: each is a sequence of one frame."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from eosvos.data.readers.clip import IMAGE_ENDINGS, natural_order
from eosvos.data.readers.files import FrameFiles
from eosvos.data.readers.folders import MASK_ENDINGS, Folder, is_name, read_names
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
    named = Folder.named(root, LAYOUT)
    images, masks = (named / "images").existing(), (named / "masks").existing()
    top = PurePosixPath(split)
    if not all(map(is_name, top.parts)):
        raise BadInput(f"--split {split}: leaves {images}; name a folder below it")
    (images / split).existing()
    below = {*_folders_below(images, top), *_folders_below(masks, top)}
    found = [
        sequence
        for folder in sorted(below, key=lambda folder: natural_order(str(folder)))
        for sequence in _pairs(folder, images, masks)
    ]
    if not found:
        raise BadInput(
            f"{images / split}: holds no image ({', '.join(IMAGE_ENDINGS)}); give the folder that has images/ and "
            "masks/"
        )
    return found


def read_voc(root: Path, split: str) -> list[Sequence]:
    """PASCAL VOC: ``JPEGImages`` with ``SegmentationObject``, as ``ImageSets/Segmentation/SPLIT.txt`` lists them.

    Raises:
        BadInput: a folder, a list, a listed image or its mask that is missing.
    """
    named = Folder.named(root, VOC_LAYOUT)
    folders = ((named / name).existing() for name in ("JPEGImages", "SegmentationObject"))
    images, masks = (folder.stems(IMAGE_ENDINGS) for folder in folders)
    names = read_names((named / "ImageSets" / "Segmentation").existing(), split)
    for name in names:
        for place, files in (("JPEGImages", images), ("SegmentationObject", masks)):
            if name not in files:
                raise BadInput(
                    f"{named / place / name}: no such file, but {split}.txt lists it; unpack the archive again"
                )
    return [_one("voc", name, images[name], masks[name]) for name in sorted(names)]


def _folders_below(top: Folder, below: PurePosixPath, around: tuple[Path, ...] = ()) -> Iterator[PurePosixPath]:
    """Folder ``below`` and all in it, as seen from ``top``; ``around`` it are these.

    Raises BadInput for a link to a folder around itself.
    """
    folder = top / str(below)
    real = folder.path.resolve()
    if real in around:
        raise BadInput(f"{folder}: a symbolic link to a folder around it; remove the link")
    yield below
    for name in folder.folders():
        yield from _folders_below(top, below / name, (*around, real))


def _pairs(below: PurePosixPath, images: Folder, masks: Folder) -> list[Sequence]:
    """The sequences of one folder, which is ``below`` in both."""
    images, masks = images / str(below), masks / str(below)
    there, labelled = images.stems(IMAGE_ENDINGS), masks.stems(MASK_ENDINGS)
    for stem in sorted(there.keys() - labelled.keys()):
        raise BadInput(
            f"{masks / stem}.png: no such mask, though there is {there[stem]}; restore it or remove the image"
        )
    for stem in sorted(labelled.keys() - there.keys()):
        raise BadInput(f"{labelled[stem]}: a mask without an image; restore {images / stem}.jpg or remove the mask")
    return [_one("images", str(below / stem), there[stem], labelled[stem]) for stem in sorted(there, key=natural_order)]


def _one(dataset: str, name: str, image: Path, mask: Path) -> Sequence:
    return Sequence(dataset, name, (image.stem,), False, FrameFiles((image,), (mask,)))
