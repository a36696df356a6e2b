"""Images of a model whose use is reported are counted, each once, and only where a licence key is set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tintype.files.generations import count_images, last_reported, unreported
from tintype.settings import Settings

MODEL = "flux-1-dev"


def test_images_are_counted_by_whoever_makes_them_and_wait_for_the_days_end(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, bfl_license_key="a key")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: count_images(settings, MODEL, 3), range(50)))
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0) + timedelta(days=1)
    assert unreported(settings, now) == []
    assert unreported(settings, midnight + timedelta(minutes=59)) == [], "what began before midnight is written after"
    [day] = unreported(settings, midnight + timedelta(minutes=61))
    assert (day.model, day.images) == (MODEL, 150)
    day.mark_reported()
    assert unreported(settings, midnight + timedelta(days=9)) == []
    last = last_reported(settings)
    assert last is not None
    assert (last.day, last.images) == (day.day, 150)


def test_without_a_key_or_of_another_model_nothing_is_counted(tmp_path: Path) -> None:
    count_images(Settings(data_dir=tmp_path), MODEL, 3)
    count_images(Settings(data_dir=tmp_path, bfl_license_key="a key"), "", 3)
    assert list(tmp_path.iterdir()) == []
