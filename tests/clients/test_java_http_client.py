"""Java's HttpClient with its defaults: it offers h2c with each request, and is answered as HTTP/1.1 (RFC 9110 section 7.8)."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from client_gateway import Visit
from installed import PROGRAMS

RUN_SECONDS_MAX = 120


@pytest.mark.clients
def test_javas_client_works_with_its_defaults_and_is_counted(visit: Visit, tmp_path: Path) -> None:
    java = shutil.which("java")
    assert java, "Java is not on this machine: it needs a JDK of version 11 or newer (Debian: default-jdk-headless)"
    ended = subprocess.run(
        [java, str(PROGRAMS / "JavaHttpClient.java")],
        check=False,
        env={"PATH": os.environ.get("PATH", os.defpath), "GATEWAY_URL": visit.url, "GATEWAY_KEY": visit.key},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
    )
    assert ended.returncode == 0, ended.stderr

    posts = ["plain HTTP_1_1 200 usage", "stream HTTP_1_1 200 whole stream", "chunked HTTP_1_1 200 usage"]
    assert [line.strip() for line in ended.stdout.splitlines()] == ["models HTTP_1_1 200", *posts * 2, *["models HTTP_1_1 200"] * 8]
    assert all(asked.headers["upgrade"] == "h2c" for asked in visit.asked())
    assert [served.generated_tokens for served in visit.counted() if served.endpoint == "openai_chat"] == [7] * 6
