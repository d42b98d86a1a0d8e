"""COCO: polygons and both kinds of RLE give the pixels that the official library gives, and what is wrong is named."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_masks

from eosvos.data.readers.coco import read_coco
from eosvos.data.sequence import Sequence
from eosvos.errors import BadInput

HEIGHT, WIDTH = 12, 16
Bits = NDArray[np.bool_]
Content = dict[str, Any]


def box(top: int, left: int, bottom: int, right: int) -> Bits:
    bits = np.zeros((HEIGHT, WIDTH), bool)
    bits[top:bottom, left:right] = True
    return bits


def polygon(top: int, left: int, bottom: int, right: int) -> list[int]:
    """Of ``box``."""
    return [left, top, right, top, right, bottom, left, bottom]


def counted(bits: Bits) -> dict[str, Any]:
    """Uncompressed RLE, counted here."""
    values = bits.flatten(order="F")
    changes = np.flatnonzero(np.diff(values, prepend=False))
    return {"size": list(bits.shape), "counts": np.diff(changes, prepend=0, append=values.size).tolist()}


def compressed(bits: Bits) -> dict[str, Any]:
    rle = coco_masks.encode(np.asfortranarray(bits.astype(np.uint8)))
    return {"size": list(bits.shape), "counts": rle["counts"].decode()}


def annotation(number: int, segmentation: Any, image: int = 7, category: int = 18, **others: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, **others}


def coco(*annotations: dict[str, Any]) -> Content:
    """Images 7 (``a/first.jpg``), 3 (``second.jpg``) and 5, which has no annotation."""
    names = {7: "a/first.jpg", 3: "second.jpg", 5: "none.jpg"}
    return {
        "images": [{"id": n, "file_name": name, "height": HEIGHT, "width": WIDTH} for n, name in names.items()],
        "annotations": list(annotations),
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images of ``coco``."""
    folder = tmp_path_factory.mktemp("coco") / "images"
    (folder / "a").mkdir(parents=True)
    for name in ("a/first.jpg", "second.jpg"):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), len(name), np.uint8)).save(folder / name)
    return folder


def read(root: Path, content: Any) -> list[Sequence]:
    path = root.parent / "instances.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco(root, path)


def mask(sequence: Sequence) -> NDArray[np.uint8]:
    ids = sequence.frame(0)[1]
    assert ids is not None
    return ids.numpy()


def test_an_image_is_a_sequence_of_one_frame(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two, alone = box(1, 1, 5, 6), box(6, 8, 10, 14), box(2, 3, 4, 5)
    content = coco(
        annotation(30, [polygon(6, 8, 10, 14)], category=1),
        annotation(9, counted(alone), image=3, iscrowd=0),
        annotation(20, compressed(one)),
        annotation(31, counted(box(0, 0, 12, 16)), iscrowd=1),
    )
    first, second = read(root, content)
    assert (first.dataset, first.name, first.frame_names, first.merge_objects) == ("coco", "a/first", ("first",), False)
    assert (first.categories, second.categories) == ({1: "dog", 2: "person"}, {1: "dog"})
    np.testing.assert_array_equal(mask(first), one + 2 * two)
    np.testing.assert_array_equal(mask(second), alone)
    assert first.read(0).image == (root / "a/first.jpg").read_bytes()
    assert "1 of 3 images have no object and are left out" in caplog.text
    assert pickle.loads(pickle.dumps(first)).read(0) == first.read(0)


def test_parts_of_one_object(root: Path) -> None:
    (first,) = read(root, coco(annotation(1, [polygon(1, 1, 3, 3), polygon(6, 8, 10, 14), [4, 4, 9, 9]])))
    np.testing.assert_array_equal(mask(first), box(1, 1, 3, 3) | box(6, 8, 10, 14))


def test_the_smaller_object_is_on_top_and_of_equal_ones_the_later(root: Path) -> None:
    small, large, later = box(2, 2, 4, 4), box(1, 1, 9, 9), box(2, 3, 4, 5)
    (first,) = read(root, coco(*(annotation(n, counted(bits)) for n, bits in enumerate((small, large, later)))))
    np.testing.assert_array_equal(mask(first), np.where(later, 3, np.where(small, 1, 2 * large)))


@pytest.mark.parametrize(
    "segmentation",
    [
        [polygon(20, 20, 30, 30)],
        [polygon(-9, -9, -3, -2)],
        [[1, 1, 1, 1, 1, 1]],
        [[1, 1, 9, 9]],
        counted(box(0, 0, 0, 0)),
    ],
    ids=["beyond", "before", "a point", "a line", "no pixel"],
)
def test_an_object_without_pixels_keeps_its_number(root: Path, segmentation: Any) -> None:
    bits = box(1, 1, 3, 3)
    (first,) = read(root, coco(annotation(1, segmentation), annotation(2, counted(bits), category=1)))
    np.testing.assert_array_equal(mask(first), 2 * bits)
    assert first.categories[2] == "person"


corners = st.lists(st.tuples(*[st.floats(-40, 60, width=16) | st.integers(-3, 20)] * 2), min_size=3, max_size=9)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # the library's decoding with numpy 2
@given(parts=st.lists(corners, min_size=1, max_size=3))
def test_polygons_are_those_of_the_official_library(root: Path, parts: list[list[tuple[float, float]]]) -> None:
    polygons = [[float(number) for corner in part for number in corner] for part in parts]
    expected = coco_masks.decode(coco_masks.merge(coco_masks.frPyObjects(polygons, HEIGHT, WIDTH)))
    (first,) = read(root, coco(annotation(1, polygons)))
    np.testing.assert_array_equal(mask(first), expected)


@given(
    bits=st.binary(min_size=HEIGHT * WIDTH // 8, max_size=HEIGHT * WIDTH // 8),
    encode=st.sampled_from([counted, compressed]),
)
def test_run_lengths_are_the_pixels(root: Path, bits: bytes, encode: Callable[[Bits], dict[str, Any]]) -> None:
    pixels = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(HEIGHT, WIDTH).astype(bool)
    (first,) = read(root, coco(annotation(1, encode(pixels))))
    np.testing.assert_array_equal(mask(first), pixels)


@given(text=st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12))
def test_a_damaged_text_of_run_lengths(root: Path, text: str) -> None:
    (first,) = read(root, coco(annotation(1, {"size": [HEIGHT, WIDTH], "counts": text})))
    try:
        drawn = mask(first)
    except BadInput as error:
        message = str(error)
    else:
        assert drawn.max() <= 1
        return
    assert "instances.json: the segmentation of annotation 1 has RLE" in message


def changed(kind: str, place: int, **values: Any) -> Content:
    """``coco`` with two annotations, and other values in one item of ``kind``."""
    content = coco(annotation(1, [polygon(1, 1, 5, 5)]), annotation(2, [polygon(1, 1, 5, 5)], image=3))
    content[kind][place] |= values
    return content


def without(kind: str, key: str) -> Content:
    content = changed(kind, 0)
    del content[kind][0][key]
    return content


CROWD = annotation(1, counted(box(0, 0, 5, 5)), iscrowd=1)
BAD: dict[str, tuple[Any, str]] = {
    "not JSON": ("{", "instances.json: not a JSON file"),
    "deep": ("[" * 100_000, "instances.json: not a JSON file"),
    "a list": ([], "not in the form of COCO's instances"),
    "no images": ({"annotations": [], "categories": []}, "not in the form of COCO's instances .*'images'"),
    "panoptic": (coco({"image_id": 7, "segments_info": []}), "not in the form of COCO's instances .*'id'"),
    "captions": (without("annotations", "segmentation"), "not in the form of COCO's instances .*'segmentation'"),
    "no file_name": (without("images", "file_name"), "not in the form of COCO's instances .*'file_name'"),
    "text for an id": (changed("images", 0, id="7"), "'7' is no whole number"),
    "no Unicode": (changed("categories", 0, name="\ud800"), r"'\\ud800' is no plain text"),
    "line break": (changed("images", 0, file_name="a\n.jpg"), r"'a\\n.jpg' is no plain text"),
    "image twice": (changed("images", 1, id=7), "id 7 occurs twice among the images"),
    "annotation twice": (changed("annotations", 1, id=1), "id 1 occurs twice among the annotations"),
    "category twice": (changed("categories", 1, id=18), "id 18 occurs twice among the categories"),
    "file twice": (changed("images", 1, file_name="a/first.jpg"), "two images have a file_name like a/first"),
    "unknown image": (changed("annotations", 0, image_id=4), "annotation 1 has image_id 4, .* unknown"),
    "unknown category": (changed("annotations", 0, category_id=4), "annotation 1 has .*category_id 4.* unknown"),
    "odd iscrowd": (changed("annotations", 0, iscrowd="0"), "annotation 1 has .*iscrowd '0'.* unknown"),
    "no such file": (changed("images", 0, file_name="b.jpg"), "images/b.jpg: no such image, but .* names it"),
    "parent": (changed("images", 0, file_name="../images/second.jpg"), "no path below the folder"),
    "absolute": (changed("images", 0, file_name="/etc/hostname"), "no path below the folder"),
    "backslash": (changed("images", 0, file_name="a\\first.jpg"), "no path below the folder"),
    "huge": (changed("images", 0, height=50_000, width=50_000), "image 7 has 50000x50000 pixels"),
    "flat": (changed("images", 0, height=0), "image 7 has 16x0 pixels"),
    "too many": (coco(*(annotation(n, [[1, 1, 2, 2, 1, 2]]) for n in range(255))), "has 255 objects; .* room for 254"),
    "crowds alone": (coco(CROWD), "no image has an annotation that is an object"),
    "nothing": (coco(), "no image has an annotation that is an object"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(root: Path, case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(BadInput, match=message) as raised:
        read(root, content)
    assert str(root.parent) in str(raised.value)
    assert "\n" not in str(raised.value)


SEGMENTATIONS: dict[str, tuple[Any, str]] = {
    "boxes alone": ([], "holds no polygons and no RLE"),
    "flat list": ([1, 1, 5, 1, 5, 5], "holds no polygons and no RLE"),
    "text": ([["1", "1", "5", "1", "5", "5"]], "holds no polygons and no RLE"),
    "odd": ([[1, 1, 5, 1, 5, 5, 3]], "has a polygon that is not pairs of numbers"),
    "not a number": ([[1, 1, float("nan"), 1, 5, 5]], "has a polygon that is not pairs of numbers"),
    "far": ([[1, 1, 1e300, 1, 5, 5]], "has a polygon that is longer than 1,000,000 pixels"),
    "integer beyond all": ([[1, 1, 10**400, 1, 5, 5]], "holds no polygons and no RLE"),
    "other size": ({"size": [6, 8], "counts": [48]}, r"has RLE of size \[6, 8\] for 48 pixels"),
    "too long": ({"size": [12, 16], "counts": [190, 3]}, "for 193 pixels"),
    "too short": ({"size": [12, 16], "counts": [190]}, "for 190 pixels"),
    "negative": ({"size": [12, 16], "counts": [-1, 193]}, "counts that are not whole numbers"),
    "no counts": ({"size": [12, 16]}, "counts that are not whole numbers"),
    "cut off": ({"size": [12, 16], "counts": "PPPP"}, "counts in a damaged text"),
}


@pytest.mark.parametrize("case", SEGMENTATIONS)
def test_a_bad_segmentation_is_named_when_it_is_drawn(root: Path, case: str) -> None:
    segmentation, message = SEGMENTATIONS[case]
    (first,) = read(root, coco(annotation(4, segmentation)))
    with pytest.raises(BadInput, match=f"instances.json: the segmentation of annotation 4 .*{message}"):
        first.read(0)


def test_another_size_than_the_image_has(root: Path) -> None:
    content = coco(annotation(1, [polygon(1, 1, 5, 5)]))
    content["images"][0] |= {"height": 24, "width": 32}
    with pytest.raises(BadInput, match=r"first.jpg: the mask has 32x24 pixels, its frame .*first.jpg has 16x12"):
        read(root, content)[0].frame(0)


def test_a_link_that_leaves_the_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/second.jpg").symlink_to("/etc/hostname")
    with pytest.raises(BadInput, match=r"second\.jpg: a symbolic link that leaves"):
        read(tmp_path / "images", coco(annotation(1, [polygon(1, 1, 5, 5)], image=3)))


def test_a_missing_file(root: Path) -> None:
    with pytest.raises(BadInput, match=r"other.json: cannot be read .*; correct --annotations"):
        read_coco(root, root.parent / "other.json")
