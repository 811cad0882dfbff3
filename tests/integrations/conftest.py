from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import serving
from ports import free_port

pytest.register_assert_rewrite("crowd")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of this module's own, that keeps nothing."""
    if shutil.which("redis-server") is None:
        pytest.fail(
            "redis-server is not installed, and these tests need one: apt-get install redis-server", pytrace=False
        )
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with serving.running(command, port, folder / "log"):
        yield f"redis://127.0.0.1:{port}/0"
