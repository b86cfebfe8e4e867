"""Saturating load: wrk over keep-alive connections, one thread, prepared requests in turn."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from bench.pinning import Pinning
from bench.workload import Target, http_request

CONNECTIONS = 32
MARK = "bench-result "

_SCRIPT = """
local requests, n, i = {}, 0, 0
init = function(args)
  local file = assert(io.open(args[1], "rb"))
  while true do
    local length = file:read("*line")
    if not length then break end
    n = n + 1
    requests[n] = file:read(tonumber(length))
  end
  file:close()
end
request = function()
  i = i % n + 1
  return requests[i]
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '%s{"requests":%d,"duration_us":%d,"bad_status":%d,"socket_errors":%d,"p50_us":%d,"p99_us":%d}\\n', "@MARK@",
    summary.requests, summary.duration, e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
""".replace("@MARK@", MARK)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrkResult:
    """requests: answered in all. failed: those that were not answered 2xx or 3xx."""

    requests: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float


def parse(output: str) -> WrkResult:
    """The line that the script writes at the end. Raises ValueError if there is none."""
    for line in output.splitlines():
        if line.startswith(MARK):
            found = json.loads(line.removeprefix(MARK))
            return WrkResult(
                requests=found["requests"],
                seconds=found["duration_us"] / 1e6,
                failed=found["bad_status"] + found["socket_errors"],
                p50_ms=found["p50_us"] / 1e3,
                p99_ms=found["p99_us"] / 1e3,
            )
    raise ValueError(f"wrk printed no result: {output[-500:]}")


class Wrk:
    """Runs wrk against targets, each with its requests in a file of its own."""

    def __init__(self, directory: Path, pinning: Pinning) -> None:
        self._directory = directory
        self._pinning = pinning
        self._script = directory / "wrk.lua"
        self._script.write_text(_SCRIPT)

    def prepare(self, name: str, target: Target, bodies: list[bytes]) -> None:
        with self._file(name).open("wb") as file:
            for turn, body in enumerate(bodies):
                request = http_request(target, body, turn=turn)
                file.write(b"%d\n%b" % (len(request), request))

    async def run(self, name: str, target: Target, seconds: float) -> WrkResult:
        """Load for a time, which is rounded up: wrk knows whole seconds only."""
        process = await asyncio.create_subprocess_exec(
            "wrk",
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{-(-seconds // 1):.0f}s",
            "--timeout=60s",
            f"-s{self._script}",
            f"http://127.0.0.1:{target.port}",
            "--",
            str(self._file(name)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=self._pinning.pin_load,
        )
        output, _ = await process.communicate()
        return parse(output.decode())

    def _file(self, name: str) -> Path:
        return self._directory / f"{name.replace(' ', '-').replace('/', '-')}.requests"
