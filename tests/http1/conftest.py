"""Every test of the upstream leg runs on both event loops: uvloop serves, asyncio is where uvloop has no wheel."""

import asyncio

import uvloop


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
