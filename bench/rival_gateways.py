"""The rivals that `bench.rivals` installs, each started with as much of tallygate's work as it can do.

What each can and cannot do, with its source, is in `bench.same_work`.
"""

import hashlib
import json
from contextlib import AsyncExitStack

import redis
import yaml
from valkey_process import running_valkey

from bench import procfs
from bench.contenders import Contender, Stage, free_port, program
from bench.money import BUDGET_NANO_USD, PURSE, REQUEST_NANO_USD, Budgets
from bench.rivals import LITELLM, PORTKEY, TENSORZERO, clean_environment
from bench.workload import INPUT_NANO_USD, MODEL, OUTPUT_NANO_USD, Target

CALLERS = 100  # requests come from so many in turn, as tallygate's from its organizations
AMPLE_NANO_USD = 10**13  # a budget that nobody reaches; TensorZero's script cannot count more than 14 digits
STARTING_SECONDS = 180.0  # LiteLLM imports for half a minute on a busy core

_LITELLM_KEYS = f"""
from litellm.proxy._types import UserAPIKeyAuth, hash_token


async def key_of_caller(request, api_key):
    if not api_key.startswith("sk-"):
        raise ValueError("no such key")
    budget = {BUDGET_NANO_USD / 1e9} if api_key.startswith("sk-{PURSE}-") else {AMPLE_NANO_USD / 1e9}
    token = hash_token(api_key)
    limits = {{"rpm_limit": 10**9, "tpm_limit": 10**11, "max_parallel_requests": 10**6}}
    return UserAPIKeyAuth(api_key=token, token=token, spend=0.0, max_budget=budget, **limits)
"""

_TENSORZERO_PROGRAM = """
import signal, sys
from tensorzero.tensorzero import _start_http_gateway
gateway = _start_http_gateway(
    config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=sys.argv[2], async_setup=False
)
print("listening:", gateway.base_url, flush=True)
signal.pause()
"""

_TENSORZERO_CONFIGURATION = f"""
[gateway]
observability.enabled = false

[models."{MODEL}"]
routing = ["upstream"]

[models."{MODEL}".providers.upstream]
type = "openai"
model_name = "{MODEL}"
api_base = "http://127.0.0.1:@UPSTREAM@/v1"
api_key_location = "none"
cost = [
  {{ pointer = "/usage/prompt_tokens", cost_per_million = {INPUT_NANO_USD / 1000}, required = true }},
  {{ pointer = "/usage/completion_tokens", cost_per_million = {OUTPUT_NANO_USD / 1000}, required = true }},
]

[rate_limiting]
default_cost = {REQUEST_NANO_USD / 1e9:.9f}

[[rate_limiting.rules]]
priority = 0
model_inferences_per_minute = 1_000_000_000
tokens_per_minute = 100_000_000_000
cost_per_week = {AMPLE_NANO_USD / 1e9:.1f}
scope = [{{ tag_key = "caller", tag_value = "tensorzero::each" }}]

[[rate_limiting.rules]]
always = true
cost_per_week = {BUDGET_NANO_USD / 1e9:.9f}
scope = [{{ tag_key = "purse", tag_value = "tensorzero::each" }}]
"""


async def start_litellm(stage: Stage, stores: AsyncExitStack, upstream_port: int) -> Contender:
    """One worker. Keys come from a function of ours, its documented way without a database; limits and spend are in the store."""
    executable = LITELLM.path()
    store, port = stores.enter_context(running_valkey(append_only=True)), free_port()
    stage.pinning.pin_to_proxy(store.pid)
    home = stage.directory / "litellm"
    home.mkdir()
    (home / "bench_keys.py").write_text(_LITELLM_KEYS)
    (home / "config.yaml").write_text(yaml.safe_dump(_litellm_configuration(upstream_port, store.port)))
    command = [str(executable), "--config", str(home / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    environment = clean_environment(home, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_MODE="PRODUCTION", LITELLM_LOG="ERROR")
    process = stage.start("litellm.run", [*command, "--num_workers", "1", "--telemetry", "False"], environment=environment)
    await stage.listening("litellm.run", process, port, patience_seconds=STARTING_SECONDS)

    def charged(account: str) -> int:
        counter = f"spend:key:{hashlib.sha256(f'sk-{account}'.encode()).hexdigest()}"
        with redis.Redis(port=store.port) as client:
            return round(float(client.get(counter) or 0) * 1e9)

    return Contender(
        name="LiteLLM",
        version=f"LiteLLM {LITELLM.version}",
        target=Target(port=port, keys=tuple(f"sk-caller-{number}" for number in range(CALLERS))),
        measured=procfs.family(process.pid),
        others={"store": (store.pid,)},
        own_events=1,
        is_slow=True,
        budgets=Budgets(target=lambda account: Target(port=port, keys=(f"sk-{account}",)), charged=charged),
    )


def _litellm_configuration(upstream_port: int, store_port: int) -> dict[str, object]:
    prices = {"input_cost_per_token": INPUT_NANO_USD / 1e9, "output_cost_per_token": OUTPUT_NANO_USD / 1e9}
    upstream = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream_port}/v1", "api_key": "sk-upstream", **prices}
    store = {"host": "127.0.0.1", "port": store_port}
    return {
        "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
        "general_settings": {
            "master_key": "sk-master",
            "custom_auth": "bench_keys.key_of_caller",
            "custom_auth_run_common_checks": True,
        },
        # A cache that keeps no answers is how the proxy is given its store for limits and spend.
        "litellm_settings": {"cache": True, "cache_params": {"type": "redis", **store, "supported_call_types": []}},
        "router_settings": {"redis_host": store["host"], "redis_port": store["port"]},
    }


async def start_tensorzero(stage: Stage, stores: AsyncExitStack, upstream_port: int) -> Contender:
    """The gateway that its Python package embeds, with limits in the store. It looks at no key: callers are told apart by a tag.

    With a second window of the same quantity and scope every request fails (its script gets one key twice), so there is one each.
    """
    python = TENSORZERO.path()
    store = stores.enter_context(running_valkey(append_only=True))
    stage.pinning.pin_to_proxy(store.pid)
    configuration = stage.directory / "tensorzero.toml"
    configuration.write_text(_TENSORZERO_CONFIGURATION.replace("@UPSTREAM@", str(upstream_port)))
    command = [str(python), "-c", _TENSORZERO_PROGRAM, str(configuration), f"redis://127.0.0.1:{store.port}"]
    process = stage.start("tensorzero", command, environment=clean_environment(stage.directory, RUST_LOG="error"))
    port = int((await stage.said("tensorzero", process, "listening: http://127.0.0.1:", STARTING_SECONDS)).partition("/")[0])

    def dressed(body: bytes, key: str) -> bytes:
        """Its name of the model, and the caller; an account with a budget is a purse too."""
        tags = {"caller": key} | ({"purse": key} if key.startswith(PURSE) else {})
        asked = json.loads(body)
        return json.dumps(asked | {"model": f"tensorzero::model_name::{MODEL}", "tensorzero::tags": tags}).encode()

    def target(*keys: str) -> Target:
        return Target(port=port, path="/openai/v1/chat/completions", keys=keys, dress=dressed)

    def charged(account: str) -> int:
        tag, budget = ("purse", BUDGET_NANO_USD) if account.startswith(PURSE) else ("caller", AMPLE_NANO_USD)
        scope = {"resource": "cost", "scope_key": [{"type": "TagEach", "key": tag, "value": account}]}
        with redis.Redis(port=store.port) as client:
            balance = client.hget(f"tensorzero_ratelimit:{json.dumps(scope, separators=(',', ':'))}", "balance")
        return budget - int(balance) if balance else 0

    return Contender(
        name="TensorZero",
        version=f"TensorZero {TENSORZERO.version}",
        target=target(*(f"caller-{number}" for number in range(CALLERS))),
        measured=(process.pid,),
        others={"store": (store.pid,)},
        own_events=1,
        budgets=Budgets(target=target, charged=charged),
    )


async def start_portkey(stage: Stage, upstream_port: int) -> Contender:
    """Its provider and the upstream's address come with each request: the open gateway has no keys of its own."""
    script = PORTKEY.path()
    port = free_port()
    environment = clean_environment(stage.directory, NODE_ENV="production", TRUSTED_CUSTOM_HOSTS="127.0.0.1")
    command = [program("node"), str(script), f"--port={port}", "--headless"]
    process = stage.start("portkey", command, environment=environment)
    await stage.listening("portkey", process, port, patience_seconds=STARTING_SECONDS)
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{upstream_port}/v1")
    return Contender(
        name="Portkey",
        version=f"Portkey {PORTKEY.version}",
        target=Target(port=port, headers=headers),
        measured=procfs.family(process.pid),
    )
