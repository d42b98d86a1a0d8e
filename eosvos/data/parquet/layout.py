"""The files of an encoded dataset, and the columns of the data files and of the index.

A row group per frame means that exactly the frames that are asked for are read. Its price is a footer of about 0.6 kB
per frame, so a file holds at most ``MAX_ROWS`` frames: then opening one takes about 30 ms and a frame about 0.1 ms
(measured: 2,500 row groups 10 to 28 ms, 4,096 row groups 28 ms, with statistics and dictionaries left out).

Whatever is no data file has a name with an underscore, which pyarrow, pandas and Ray leave out of a folder's rows.
"""

import pyarrow as pa

FORMAT = "eosvos frames"
VERSION = 1
INDEX = "_index.parquet"
OLD_INDEX = "index.parquet"  # of datasets that were encoded before the index had its underscore
CARD = "_README.md"
SKIPPED = "_skipped.txt"
CLAIM = "_encoding.json"  # while the encoding is unfinished
METADATA_KEY = b"eosvos"
MAX_ROWS = 4096
FILE_BYTES = 256 * 2**20

_LABELS = [
    ("dataset", pa.string()),
    ("sequence", pa.string()),
    ("position", pa.int32()),
    ("name", pa.string()),
]
_OBJECTS = [
    ("ids", pa.list_(pa.uint8())),  # present in the mask, rising; null where the frame has no mask
    ("areas", pa.list_(pa.int32())),  # pixels per id
    ("boxes", pa.list_(pa.list_(pa.int32()))),  # x0, y0, x1, y1 per id, the last two one beyond the object
    ("height", pa.int32()),
    ("width", pa.int32()),
]
# Image and mask side by side: on a remote file system one request brings both.
DATA_SCHEMA = pa.schema([*_LABELS, ("image", pa.binary()), ("mask", pa.binary()), *_OBJECTS])
INDEX_SCHEMA = pa.schema(
    [
        *_LABELS,
        ("file", pa.string()),
        ("row_group", pa.int32()),
        ("merge_objects", pa.bool_()),
        *_OBJECTS,
        ("categories", pa.list_(pa.string())),  # per id, null where it is not known; older indices lack the column
    ]
)
