"""From a stranger's archive to examples that can be trained: unpacked safely, decoded, captioned, cropped, reported."""

from __future__ import annotations

from tintype.dataset.archive import Limits as Limits
from tintype.dataset.dataset import Dataset as Dataset, Example as Example, open_dataset as open_dataset
from tintype.dataset.prepare import DatasetOptions as DatasetOptions
from tintype.dataset.report import DatasetReport as DatasetReport
from tintype.dataset.report_page import write_page as write_page
from tintype.dataset.sizes import (
    MULTI_RESOLUTION as MULTI_RESOLUTION,
    SINGLE_RESOLUTION as SINGLE_RESOLUTION,
    Bucket as Bucket,
    fit as fit,
)
