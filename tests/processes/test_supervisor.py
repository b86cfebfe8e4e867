"""The supervisor with real processes."""

import json
import signal
import socket
import threading
from urllib.parse import urlsplit

import psutil
import redis
from supervised import eventually, get

from tallygate.processes.console import GIVES_WAY

REFUSED = 'tallygate_refused_total{capability="chat",credential="acme-prod",limit="spend_limit_exceeded",org="acme"}'


def test_a_killed_worker_is_replaced_while_the_port_stays_open_and_its_counts_go_on(supervised):
    for _ in range(20):
        get(supervised.gateway)
    before = supervised.worker_pids()
    for pid in before:  # both at once: nobody is left to accept
        psutil.Process(pid).kill()

    eventually(lambda: get(supervised.gateway)[0] == 200, "a worker accepts again, and until then nothing is refused")
    assert [get(supervised.gateway)[0] for _ in range(19)] == [200] * 19
    after = eventually(lambda: len(pids := supervised.worker_pids()) == 2 and pids, "two workers again")
    assert not before & after
    assert supervised.metric(REFUSED) == 40
    eventually(lambda: supervised.metric('tallygate_worker_up{worker="1"}') == 1, "the second worker is up")
    eventually(lambda: supervised.metric('tallygate_worker_starts_total{worker="0"}') == 2, "the first one was started twice")


def test_the_console_gives_way_to_the_workers(supervised):
    ours = psutil.Process(supervised.process.pid).nice()
    niceness = {
        name: child.nice() for child in supervised.children() for name in child.cmdline() if name.startswith("placeholder_")
    }
    assert niceness == {"placeholder_worker": ours, "placeholder_console": ours + GIVES_WAY}


def test_sigterm_lets_open_answers_finish_refuses_new_connections_and_ends_cleanly(supervised):
    answers = []
    client = threading.Thread(target=lambda: answers.append(get(f"{supervised.gateway}/slow/1500")))
    client.start()
    eventually(lambda: supervised.metric("tallygate_open_requests") == 1, "the request is open")

    supervised.process.send_signal(signal.SIGTERM)

    eventually(lambda: not _connects(supervised.gateway), "new connections are refused")
    assert not answers, "the open request was still running when the port closed"
    client.join()
    assert answers == [(200, "first last")]
    assert supervised.wait() == 0


def test_while_draining_the_console_says_not_ready_and_still_shows_metrics(supervised):
    client = threading.Thread(target=lambda: get(f"{supervised.gateway}/slow/3000"))
    client.start()
    eventually(lambda: supervised.metric("tallygate_open_requests") == 1, "the request is open")
    assert get(f"{supervised.console}/readyz")[0] == 200

    supervised.process.send_signal(signal.SIGTERM)

    def says_so():
        status, body = get(f"{supervised.console}/readyz")
        return status == 503 and "shutting down" in body

    eventually(says_so, "not ready, and why")
    client.join()
    assert supervised.wait() == 0


def test_a_second_sigterm_ends_at_once_and_says_that_requests_were_cut_off(supervised):
    def ask():
        try:
            get(f"{supervised.gateway}/slow/60000", timeout=60)
        except OSError as error:
            failures.append(error)
        except Exception as error:
            failures.append(error)

    failures = []
    client = threading.Thread(target=ask)
    client.start()
    eventually(lambda: supervised.metric("tallygate_open_requests") == 1, "the request is open")
    supervised.process.send_signal(signal.SIGTERM)
    eventually(lambda: not _connects(supervised.gateway), "draining")

    supervised.process.send_signal(signal.SIGTERM)

    assert supervised.wait(15) == 3
    client.join()
    assert failures, "the client saw its answer break off"


def test_children_end_with_a_killed_supervisor_and_the_next_one_starts_with_the_same_counts(supervisors):
    first = supervisors()
    get(first.gateway)
    children = first.children()
    assert len(children) == 4, "two workers, the console and Valkey"

    first.process.kill()

    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert len(gone) == 4
    second = supervisors()
    assert second.metric(REFUSED) == 1


def test_children_end_with_a_supervisor_that_is_killed_while_they_start(supervisors):
    """They wait for a store that went away with it, and would keep the port and the lock on the data directory."""
    first = supervisors(wait_ready=False)
    children = eventually(lambda: (found := first.children()) and len(found) >= 4 and found, "all children run")
    first.process.kill()
    first.process.wait()
    eventually(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), "all ended")


def test_valkey_keeps_its_data_over_a_kill_of_everything(supervisors):
    first = supervisors()
    with redis.Redis(unix_socket_path=str(first.data_dir / "valkey" / "valkey.sock")) as store:
        store.set("spent", "7")
        assert store.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    children = first.children()
    for process in (psutil.Process(first.process.pid), *children):
        process.kill()
    psutil.wait_procs(children, timeout=20)

    second = supervisors()

    with redis.Redis(unix_socket_path=str(second.data_dir / "valkey" / "valkey.sock")) as store:
        assert store.get("spent") == b"7"


def test_a_killed_valkey_is_started_again_with_its_data(supervised):
    path = str(supervised.data_dir / "valkey" / "valkey.sock")
    with redis.Redis(unix_socket_path=path) as store:
        store.set("spent", "7")
    [valkey] = [child for child in supervised.children() if "valkey-server" in " ".join(child.cmdline())]

    valkey.kill()

    def read():
        try:
            with redis.Redis(unix_socket_path=path) as store:
                return store.get("spent")
        except redis.ConnectionError:
            return None

    assert eventually(read, "Valkey answers again") == b"7"


def test_a_killed_console_comes_back_on_its_port_with_the_workers_counts(supervised):
    get(supervised.gateway)
    [console] = [child for child in supervised.children() if "placeholder_console" in " ".join(child.cmdline())]

    console.kill()

    assert get(f"{supervised.console}/healthz")[0] == 200
    assert supervised.metric(REFUSED) == 1


def test_sighup_reloads_every_worker(supervised):
    supervised.process.send_signal(signal.SIGHUP)

    seen = {}

    def all_reloaded():
        answer = json.loads(get(supervised.gateway)[1])
        seen[answer["pid"]] = answer["reloads"]
        return len(seen) == 2 and set(seen.values()) == {1}

    eventually(all_reloaded, "both workers have reloaded")


def test_a_changed_file_reloads_every_worker(supervisors, tmp_path):
    config = tmp_path / "config"
    config.mkdir()
    supervised = supervisors(config_dir=str(config))
    (config / "organizations.yaml").write_text("organizations: []\n")

    seen = {}

    def all_reloaded():
        answer = json.loads(get(supervised.gateway)[1])
        seen[answer["pid"]] = answer["reloads"]
        return len(seen) == 2 and set(seen.values()) == {1}

    eventually(all_reloaded, "both workers have reloaded")


def test_a_data_directory_serves_one_supervisor_only(supervisors):
    first = supervisors()

    second = supervisors(wait_ready=False)

    assert second.wait() == 1
    assert f"process {first.process.pid}" in second.log.read_text()
    assert get(first.gateway)[0] == 200


def test_a_port_in_use_is_told_in_a_sentence(supervisors):
    first = supervisors()
    address = urlsplit(first.gateway).netloc

    second = supervisors("other", wait_ready=False, listen=address)

    assert second.wait() == 1
    assert f"cannot listen on {address}" in second.log.read_text()


def test_no_child_imports_what_lies_in_the_working_directory(supervisors, tmp_path):
    for name in ("tallygate", "proxy", "redis", "asyncio", "logging"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the working directory was imported')\n")

    served = supervisors()

    assert get(served.gateway)[0] == 200
    assert get(f"{served.console}/healthz")[0] == 200


def test_a_configuration_that_cannot_be_used_ends_serve_with_its_own_code(supervisors, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "plans.yaml").write_text("plans: {free: {api_acess: false}}\n")

    broken = supervisors(wait_ready=False, config_dir=str(tmp_path / "config"))

    assert broken.wait() == 78
    assert "plans.yaml:1" in broken.log.read_text()


def test_the_admin_token_is_made_at_the_first_start_and_never_shown_again(supervisors):
    first = supervisors()
    token = first.serving["admin_token"]
    first.process.send_signal(signal.SIGTERM)
    first.wait()

    second = supervisors()

    assert token.startswith("tga_")
    assert second.serving["admin_token"] is None
    kept = b"".join(path.read_bytes() for path in first.data_dir.rglob("*") if path.is_file())
    assert token.encode() not in kept


def test_an_admin_token_whose_digest_the_disk_had_no_room_for_is_made_again(supervisors, tmp_path):
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "admin_token.sha256").touch()

    assert supervisors().serving["admin_token"].startswith("tga_")


def _connects(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=1).close()
    except OSError:
        return False
    return True


def test_children_find_their_own_secrets_alone_and_an_open_data_directory_is_closed(supervisors, tmp_path):
    data = tmp_path / "data"
    (data / "metrics").mkdir(parents=True)
    (data / "admin_token.sha256").write_text("00" * 32)
    (data / "admin_token.sha256").chmod(0o644)
    data.chmod(0o777)
    secrets = {"upstream_api_key": "sk-of-the-upstream", "admin_token": "tga_of_the_admin", "metrics_token": "of-prometheus"}

    serving = supervisors(**secrets)

    held = {}
    for child in serving.children():
        kind = next((kind for kind in ("placeholder_worker", "placeholder_console") if kind in " ".join(child.cmdline())), "valkey")
        values = child.environ().values()
        held.setdefault(kind, set()).update(name for name, secret in secrets.items() if secret in values)
    assert held == {
        "placeholder_worker": {"upstream_api_key"},
        "placeholder_console": {"admin_token", "metrics_token"},
        "valkey": set(),
    }
    open_paths = [path for path in (data, *data.rglob("*")) if not path.is_symlink() and path.stat().st_mode & 0o077]
    assert not open_paths
