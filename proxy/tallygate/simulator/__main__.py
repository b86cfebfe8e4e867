"""`python -m tallygate.simulator --port 8081`: the simulator as a process."""

import asyncio

import click
import uvloop

from tallygate.simulator.endpoints import PROFILES
from tallygate.simulator.server import running_simulator
from tallygate.simulator.service import SimulatorSettings


async def _serve(host: str, port: int, settings: SimulatorSettings) -> None:
    async with running_simulator(settings=settings, host=host, port=port) as simulator:
        click.echo(f"simulator listening on {simulator.url}")
        await asyncio.Event().wait()


@click.command(help="A mock AI API that counts what it serves.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8081, show_default=True, help="0: any free port, printed at the start.")
@click.option("--tokens", default=32, show_default=True, help="Output tokens where a request asks for none.")
@click.option("--tps", default=0, show_default=True, help="Tokens a second of one answer; 0: as fast as possible.")
@click.option("--delay-ms", default=0, show_default=True, help="Time to the first token.")
@click.option("--api-key", default="", help="The only key accepted; empty accepts any or none.")
@click.option("--profile", type=click.Choice(PROFILES), help="One API alone: its paths, with its keys and errors.  [default: all]")
def main(*, host: str, port: int, tokens: int, tps: int, delay_ms: int, api_key: str, profile: str | None) -> None:
    settings = SimulatorSettings(tokens=tokens, tps=tps, delay_ms=delay_ms, api_key=api_key, profile=profile or "")
    try:
        uvloop.run(_serve(host, port, settings))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
