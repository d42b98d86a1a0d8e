"""The card of an encoded dataset: what is in it, in a page that people read."""

import json
from collections import Counter
from collections.abc import Sequence

from eosvos.data.parquet.layout import INDEX, SKIPPED
from eosvos.data.parquet.reading import EncodedDataset
from eosvos.data.sequence import size_text

_LICENSES = {
    "davis2016": "DAVIS is for non-commercial use (davischallenge.org).",
    "davis2017": "DAVIS is for non-commercial use (davischallenge.org).",
    "youtube-vos": "YouTube-VOS is for non-commercial research (youtube-vos.org).",
    "coco": "COCO's annotations are CC BY 4.0; its pictures are under the terms of Flickr and of their authors.",
    "voc": "PASCAL VOC's pictures are under the terms of Flickr and of their authors.",
    "synthetic": "Made by a generator; free of others' rights.",
}
_OWN = "What the owner of the pictures and masks allows."
_SHOWN = 20
"""Lines of a list at most; the rest is counted."""


def facts(dataset: EncodedDataset, size: int) -> dict[str, str]:
    """What is in a dataset, a line each.

    Args:
        dataset: which.
        size: bytes of its data files.
    """
    objects = Counter(len(dataset.visible(index)) for index in range(len(dataset.sequences)))
    counts = ", ".join(f"{number} in {sequences:,}" for number, sequences in sorted(objects.items()))
    index = dataset.index
    found = {
        "sequences": f"{len(dataset.sequences)}",
        "frames": f"{index.num_rows}",
        "annotated": f"{index.num_rows - index['ids'].null_count} of the frames",
        "objects": f"{sum(number * sequences for number, sequences in objects.items())}",
        "per sequence": f"{counts} sequences",
        "categories": _shares(Counter(one for each in dataset.sequences for one in each.categories.values())) or "none",
        "resolutions": _shares(_resolutions(dataset)),
        "bytes": f"{size:,}",
        "hash": dataset.hash,
    }
    skipped = dataset.spec.get("skipped", ())
    return found | ({"skipped": f"{len(skipped)} sequences, named in {SKIPPED}"} if skipped else {})


def card(dataset: EncodedDataset, size: int, hashes: Sequence[str]) -> str:
    """Markdown.

    Args:
        dataset: what the card is of.
        size: bytes of its data files.
        hashes: of its sequences, in order.
    """
    lines = ["# An encoded dataset", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in facts(dataset, size).items()]
    lines += ["", "## Made from", "", "```", json.dumps(dict(dataset.spec), indent=2), "```", ""]
    lines += ["## License", "", _LICENSES.get(str(dataset.spec.get("layout")), _OWN), ""]
    lines += ["## Sequences", "", "| sequence | frames | SHA-256 |", "|---|---|---|"]
    lines += [
        f"| {sequence.dataset}/{sequence.name} | {len(sequence)} | `{value}` |"
        for sequence, value in list(zip(dataset.sequences, hashes, strict=True))[:_SHOWN]
    ]
    if len(hashes) > _SHOWN:
        lines += ["", f"and {len(hashes) - _SHOWN:,} more: the metadata of `{INDEX}` has the hashes of all."]
    return "\n".join(lines) + "\n"


def _resolutions(dataset: EncodedDataset) -> Counter[str]:
    """Frames of each size."""
    table = dataset.index.select(["height", "width"]).group_by(["height", "width"]).aggregate([([], "count_all")])
    return Counter({size_text((row["height"], row["width"])): row["count_all"] for row in table.to_pylist()})


def _shares(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common(_SHOWN))
    return shown + (f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else "")
