"""A request goes on from its checkpoint on another machine that shares the database and the bucket, no more."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.processes import supervision
from tests.support.s3 import running_bucket

from tintype.files.checkpoints import work_of_requests
from tintype.settings import load_settings
from tintype.store import Outcome

pytestmark = pytest.mark.anyio


async def test_a_training_goes_on_from_its_checkpoint_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        one, other = (
            load_settings(
                data_dir=tmp_path / name, storage=bucket.url, database=f"sqlite:///{tmp_path / 'shared.db'}",
                heartbeat_seconds=1.0, lease_seconds=10.0,
            )
            for name in ("one", "other")
        )  # fmt: skip
        async with supervision(one) as here:
            here.start()
            request_id = await here.submit(steps=60, seconds=0.1, checkpoint_every=4)
            await here.until(request_id, lambda request: request.step >= 9)
            here.processes[0].kill()
            here.processes[0].wait()
            assert list((one.work_dir / request_id).glob("checkpoints/[0-9]*")) == []

            async with supervision(other) as there:
                there.start()
                request = await there.finished(request_id)
                assert request.outcome is Outcome.OK
                assert request.output is not None
                assert request.output["resumed_at"] >= 8
                assert any("from its checkpoint at step" in line for line in await there.messages(request_id))
        assert request_id not in work_of_requests(other), "what nobody goes on with leaves the bucket as well"
