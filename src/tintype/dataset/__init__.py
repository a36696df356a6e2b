"""From a stranger's archive to examples that can be trained: unpacked safely, decoded, captioned, cropped, reported."""

from __future__ import annotations

from tintype.dataset.archive import Limits
from tintype.dataset.dataset import Dataset, Example, open_dataset
from tintype.dataset.prepare import DatasetOptions
from tintype.dataset.report import DatasetReport
from tintype.dataset.report_page import write_page
from tintype.dataset.sizes import MULTI_RESOLUTION, SINGLE_RESOLUTION, Bucket, fit

__all__ = [
    "MULTI_RESOLUTION",
    "SINGLE_RESOLUTION",
    "Bucket",
    "Dataset",
    "DatasetOptions",
    "DatasetReport",
    "Example",
    "Limits",
    "fit",
    "open_dataset",
    "write_page",
]
