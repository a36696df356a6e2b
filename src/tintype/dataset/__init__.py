"""From a stranger's archive to examples that can be trained: unpacked safely, decoded, captioned, cropped, reported."""

from __future__ import annotations

from tintype.dataset.archive import Limits
from tintype.dataset.buckets import MULTI_RESOLUTION, SINGLE_RESOLUTION, Bucket, fit
from tintype.dataset.darkroom import Wishes
from tintype.dataset.examples import Dataset, Example, open_dataset
from tintype.dataset.page import write_page
from tintype.dataset.report import DatasetReport

__all__ = [
    "MULTI_RESOLUTION",
    "SINGLE_RESOLUTION",
    "Bucket",
    "Dataset",
    "DatasetReport",
    "Example",
    "Limits",
    "Wishes",
    "fit",
    "open_dataset",
    "write_page",
]
