"""Prices: every endpoint has one with its source, a settings file takes their place, and what it gets wrong is said."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from tintype import catalog
from tintype.catalog import operations
from tintype.catalog.flux_lora import FLUX_LORA
from tintype.errors import SettingsError

FLUX = FLUX_LORA.id


@pytest.mark.parametrize("endpoint", catalog.ENDPOINTS, ids=lambda endpoint: endpoint.id)
def test_every_endpoint_has_a_price_with_source_and_date_and_counts_its_operations(endpoint: catalog.Endpoint) -> None:
    given = dict(endpoint.examples[0])
    given |= {name: value or "https://example.com/photos.zip" for name, value in given.items() if name.endswith("_url")}
    input, price = endpoint.parse(given), endpoint.price
    assert price.price > 0
    assert price.units(input) > 0
    assert price.source
    assert datetime.date.fromisoformat(price.date)
    assert endpoint.operations(input) > 0


def test_operations_are_in_proportion_to_what_is_computed() -> None:
    once = operations.generating("flux", 1024 * 1024, 10, 1, guided=False)
    assert operations.generating("flux", 1024 * 1024, 20, 2, guided=True) == 8 * once
    assert operations.training("flux", 1024 * 1024, 10) > once
    assert operations.generating("flux", 512 * 512, 10, 1, guided=False) < once / 2


def test_a_settings_file_says_what_is_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(f'["{FLUX}"]\nprice = 1\ndate = 2026-11-01\n')
    stated = catalog.read_prices(file)
    price = catalog.price_of(FLUX, stated)
    assert (price.price, price.date, price.source) == (1.0, "2026-11-01", FLUX_LORA.price.source)
    assert catalog.price_of("ideogram/v4", stated) == catalog.price_of("ideogram/v4", {})
    assert catalog.price_of("no/longer/there", stated).price == 0
    assert catalog.read_prices(None) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[", "cannot be read"),
        ('["no/such"]\nprice = 1', "there is no endpoint 'no/such'"),
        (f'["{FLUX}"]', "does not say price"),
        (f'["{FLUX}"]\nunit = "images"', "says more"),
        (f'["{FLUX}"]\nprice = -1', "is -1"),
        (f'["{FLUX}"]\nprice = inf', "is inf"),
        (f'["{FLUX}"]\nprice = nan', "is nan"),
        (f'["{FLUX}"]\nprice = true', "is True"),
        (f'["{FLUX}"]\nprice = "0.03"', "is '0.03'"),
        (f'"{FLUX}" = 3', "does not say price"),
    ],
)
def test_a_settings_file_that_cannot_be_understood_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="TINTYPE_PRICES") as refused:
        catalog.read_prices(file)
    assert told in str(refused.value)


def test_a_settings_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        catalog.read_prices(tmp_path / "none.toml")
