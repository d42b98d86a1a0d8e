"""Encoded datasets: a folder of Parquet files with one row and one row group per frame, and an index of them."""

from eosvos.data.parquet.reading import EncodedDataset, open_dataset
from eosvos.data.parquet.writing import encode

__all__ = ["EncodedDataset", "encode", "open_dataset"]
