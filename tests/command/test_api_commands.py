"""Commands over the console's API: the same answers from the database here and from a console elsewhere."""

import asyncio
import csv
import http.server
import io
import json
import re
import threading
from contextlib import suppress

import pytest
from aiohttp import ClientSession, UnixConnector, web
from click.testing import CliRunner
from new_ledger import new_ledger
from test_ledger_commands import an_event

from tallygate.app.local_api import local_api
from tallygate.cli import main
from tallygate.commands.events import _followed
from tallygate.config.settings import load_settings
from tallygate.ledger.book import Book
from tallygate.ledger.entry import entry_of_stream

TOKEN = "tga_aaaabbbbccccddddeeeeffff"
ORGANIZATIONS = "organizations:\n- {id: acme, plan: enterprise, time_zone: Europe/Berlin}\n- {id: beta, plan: pay_as_you_go}\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A data directory with events, and a configuration, in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("TALLYGATE_URL", "TALLYGATE_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TALLYGATE_CONFIG_DIR", "conf")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "organizations.yaml").write_text(ORGANIZATIONS)
    (tmp_path / "tallygate-data").mkdir()
    events = [an_event(1), an_event(2, credential="acme-ci", cost_nano_usd=123_456_789_012), an_event(3, org="beta", status=500)]

    async def fill():
        database = await new_ledger(tmp_path / "tallygate-data")
        await Book(database).record([entry_of_stream(event[b"event"], event) for event in events])
        await database.close()

    asyncio.run(fill())
    return tmp_path


@pytest.fixture
def console(here, monkeypatch):
    """The API over TCP, in a thread of its own, as TALLYGATE_URL; each request's token is checked here."""
    started, loop, ended = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    found = {}

    async def serve():
        settings = load_settings({"data_dir": here / "tallygate-data", "config_dir": here / "conf"})
        async with local_api(settings, actor="tok_1") as api, ClientSession(connector=UnixConnector(str(api.socket))) as session:

            async def relay(request):
                if request.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return web.json_response({"error": {"message": "an admin token is needed", "param": None}}, status=401)
                headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
                url = f"http://api{request.rel_url}"
                async with session.request(request.method, url, headers=headers, data=await request.read()) as answer:
                    passed = {
                        name: answer.headers[name]
                        for name in answer.headers
                        if name.lower().startswith(("content-type", "tallygate"))
                    }
                    return web.Response(status=answer.status, body=await answer.read(), headers=passed)

            app = web.Application()
            app.router.add_route("*", "/{path:.*}", relay)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            found["url"] = f"http://127.0.0.1:{runner.addresses[0][1]}"
            started.set()
            await ended.wait()
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(20)
    yield found["url"]
    loop.call_soon_threadsafe(ended.set)
    thread.join(10)
    loop.close()


def run(*arguments, code=0, **environment):
    result = CliRunner().invoke(main, list(arguments), env=environment)
    assert result.exit_code == code, result.output
    return result


QUESTIONS = [
    ("usage", "--json"),
    ("usage", "--by", "credential", "--by", "model", "--each", "day", "--last", "2d"),
    ("usage", "--model", "house-model", "--credential", "acme-ci", "--csv"),
    ("events", "--json"),
    ("events", "--org", "beta", "--csv"),
    ("orgs", "list", "--json"),
    ("orgs", "show", "acme"),
    ("plans",),
    ("plans", "--json"),
    ("models", "gpt-4o*"),
    ("credentials", "list", "acme"),
    ("tokens", "list"),
    ("changes", "--json"),
]


def test_a_console_elsewhere_answers_what_the_database_here_answers(console):
    remote = {"TALLYGATE_URL": console, "TALLYGATE_TOKEN": TOKEN, "TALLYGATE_CONFIG_DIR": None}
    for question in QUESTIONS:
        assert run(*question, **remote).stdout == run(*question).stdout, question
    made = json.loads(run("orgs", "create", "new", "--plan", "pro", "--json", **remote).stdout)
    assert made["effective"]["spend_limits"]
    key = json.loads(run("credentials", "create", "new", "new-1", "--json", **remote).stdout)["api_key"]
    assert key.startswith("tg_new-1_")
    assert "give --yes" in run("credentials", "revoke", "new", "new-1", code=1, **remote).stderr
    assert json.loads(run("credentials", "revoke", "new", "new-1", "--yes", "--json", **remote).stdout)["status"] == "revoked"
    assert json.loads(run("changes", "--json").stdout)[0]["actor"] == "tok_1", "whose token it is"


def test_a_console_elsewhere_needs_a_token_and_its_own_stores(console):
    assert "TALLYGATE_TOKEN" in run("usage", "--url", console, code=2, TALLYGATE_CONFIG_DIR=None).stderr
    assert "an admin token is needed" in run("usage", "--url", console, "--token", "tga_other", code=1).stderr
    told = run("usage", "--url", console, "--token", TOKEN, "--data-dir", "x", code=2).stderr
    assert "--data-dir: not with a console elsewhere" in told
    assert "can be read by every user" in run("usage", "--url", console, "--token", TOKEN).stderr
    assert "works where serve runs" in run("audit", code=2, TALLYGATE_URL=console).stderr
    assert "must be a URL" in run("usage", "--url", "console", code=2).stderr
    assert "--token is for --url" in run("usage", "--token", TOKEN, code=2).stderr


def test_nobody_at_the_address_is_told_in_a_line(here):
    told = run("usage", code=1, TALLYGATE_URL="http://127.0.0.1:9", TALLYGATE_TOKEN=TOKEN).stderr

    assert "http://127.0.0.1:9 does not answer" in told
    assert "Traceback" not in told


def test_a_token_in_the_clear_to_another_machine_is_warned_of(here, console):
    warning = "can read the admin token"
    assert warning in run("usage", code=1, TALLYGATE_URL="http://console.invalid:9", TALLYGATE_TOKEN=TOKEN).stderr
    assert warning not in run("usage", code=1, TALLYGATE_URL="https://console.invalid:9", TALLYGATE_TOKEN=TOKEN).stderr
    assert warning not in run("usage", TALLYGATE_URL=console, TALLYGATE_TOKEN=TOKEN, TALLYGATE_CONFIG_DIR=None).stderr


def test_money_is_at_the_right_and_never_cut(here):
    for columns in ("20", "40", "200"):
        lines = run("usage", "--by", "credential", COLUMNS=columns).stdout.splitlines()
        amounts = [line.rsplit(maxsplit=1)[1] for line in lines if line.strip()]
        assert amounts == ["USD", "123.456789012", "0.001", "123.457789012"]
        assert len({len(line.rstrip()) for line in lines}) == 1


def test_totals_and_filters_add_up(here):
    *_, total = run("usage", "--by", "org").stdout.splitlines()
    rows = list(csv.DictReader(io.StringIO(run("usage", "--by", "org", "--csv").stdout)))
    assert total.split()[:2] == ["Total", str(sum(int(row["requests"]) for row in rows))]
    assert {row["org"] for row in csv.DictReader(io.StringIO(run("events", "--status", "500", "--csv").stdout))} == {"beta"}
    assert len(json.loads(run("events", "--limit", "2", "--json").stdout)) == 2
    assert len(json.loads(run("events", "--last", "today", "--capability", "chat", "--json").stdout)) <= 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("usage", "--last", "soon"), "today, yesterday, week, month, last-month"),
        (("usage", "--last", "7d", "--month", "2026-01"), "or --month, or --last"),
        (("usage", "--json", "--csv"), "not both"),
        (("usage", "--credential", "nobodys"), "--credential"),
        (("events", "--follow", "--to", "2026-01-01"), "goes on for ever"),
    ],
)
def test_wrong_options_are_named(here, arguments, says):
    assert says in run(*arguments, code=2).stderr


async def test_following_shows_what_comes_and_nothing_twice(monkeypatch):
    monkeypatch.setattr("tallygate.commands.events.POLL_SECONDS", 0)
    stored = [{"event_id": number, "sequence": 0} for number in range(3)]

    class Client:
        async def pages(self, path, key, question):
            assert (path, key, question["order"], question["org"]) == ("/api/events", "events", "asc", ("acme",))
            for entry in list(stored):
                yield entry

    followed = _followed(Client(), {"org": ("acme",)}, {(0, 0): None})
    assert [entry["event_id"] for entry in await anext(followed)] == [1, 2]
    stored += [{"event_id": 2, "sequence": 1}, {"event_id": 9, "sequence": 0}]
    assert [(entry["event_id"], entry["sequence"]) for entry in await anext(followed)] == [(2, 1), (9, 0)]
    await followed.aclose()


def test_spend_without_a_store_says_so(here):
    assert "store does not answer" in run("spend", "acme", code=1).stderr


def test_the_version_is_an_option_too():
    assert run("--version").stdout == run("version").stdout


def test_an_event_shows_how_its_cost_came_about(here):
    """10 input tokens at 0.15 and 3 output tokens at 0.60 USD a million, a fee, and one whose price nobody has."""
    rows = json.loads(run("prices", "show", "gpt-4o-mini", "--json").stdout)
    [version] = [row["version"] for row in rows["rows"] if row["applies"]]
    billed = an_event(
        7,
        request_model="gpt-4o-mini",
        response_model="gpt-4o-mini",
        price_version=version,
        prompt_tokens=10,
        completion_tokens=3,
        cost_nano_usd=10 * 150 + 3 * 600 + 1_000,
        fee_nano_usd=1_000,
    )

    async def fill():
        database = await new_ledger(here / "tallygate-data")
        await Book(database).record([entry_of_stream(billed[b"event"], billed)])
        await database.close()

    asyncio.run(fill())
    event_id = billed[b"event_id"].decode()
    text = run("event", event_id).stdout
    lines = [line.split() for line in text.splitlines()]
    assert ["input", "tokens", "10", "0.15", "per", "million", "tokens", "0.0000015"] in lines
    assert ["output", "tokens", "3", "0.6", "per", "million", "tokens", "0.0000018"] in lines
    assert ["fee", "of", "the", "route", "-", "-", "0.000001"] in lines
    assert ["Cost", "0.0000043"] in lines
    assert f"Price {version}, from: shipped list." in text
    assert json.loads(run("event", event_id, "--json").stdout)["cost"]["unexplained"]["nano_usd"] == 0

    gone = run("event", an_event(1)[b"event_id"].decode()).stdout
    assert "not explained" in gone
    assert "has no price house-model@2020-01-01 any more" in " ".join(gone.split())
    assert "no such event" in run("event", "never-was", code=1).output


def test_an_export_and_an_invoice_come_from_a_console_elsewhere_as_from_the_database_here(here, console):
    asked = ["--from", "2026-01-01", "--to", "2026-12-31"]
    there = {"TALLYGATE_URL": console, "TALLYGATE_TOKEN": TOKEN}

    assert run("export", *asked, **there, TALLYGATE_CONFIG_DIR=None).stdout == run("export", *asked).stdout
    assert "acme" in run("export", *asked, **there, TALLYGATE_CONFIG_DIR=None).stdout
    result = run("export", *asked, "--org", "acme", "-o", "there.jsonl", **there, TALLYGATE_CONFIG_DIR=None)
    assert f"{(here / 'there.jsonl').stat().st_size:,} bytes" in result.stderr
    assert "not all of the range" not in result.stderr
    for document in (["invoice", "acme", "2026-01", "-o"], ["invoice", "acme", "--week", "2026-W01", "-o"]):
        run(*document, "there.html", **there, TALLYGATE_CONFIG_DIR=None)
        run(*document, "here.html")
        assert (here / "there.html").read_bytes() == (here / "here.html").read_bytes()
    assert "where serve runs" in run("export", *asked, "--ignore-plan", code=2, **there, TALLYGATE_CONFIG_DIR=None).stderr
    assert "does not include export" in run("export", *asked, "--org", "beta", code=1, **there, TALLYGATE_CONFIG_DIR=None).stderr
    assert "is for --url" in run("export", *asked, "--token", TOKEN, code=2).stderr


def test_a_file_is_applied_to_a_console_elsewhere(here, console):
    there = {"TALLYGATE_URL": console, "TALLYGATE_TOKEN": TOKEN, "TALLYGATE_CONFIG_DIR": None}
    key, other = "2c" * 32, "3c" * 32
    wanted = f"organizations: [{{id: 7, plan: enterprise, credentials: [{{id: seven, key_sha256: {key}, expires: 2030-01-31}}]}}]"
    (here / "wanted.yaml").write_text(wanted)

    planned = json.loads(run("apply", "wanted.yaml", "--dry-run", "--json", code=2, **there).stdout)
    assert [(step["verb"], step["organization"], step["credential"]) for step in planned] == [
        ("create", "7", None),
        ("create", "7", "seven"),
    ]
    assert "2 changes made" in run("apply", "wanted.yaml", **there).stdout
    assert "no difference" in run("apply", "wanted.yaml", **there).stdout
    (here / "wanted.yaml").write_text(wanted.replace(key, other))
    [rotated] = json.loads(run("apply", "wanted.yaml", "--json", **there).stdout)
    assert rotated["verb"] == "rotate"
    assert key not in json.dumps(rotated)
    (here / "wanted.yaml").write_text("organizations: [{id: 7, plan: none}]")
    assert "organizations[0].plan 'none' is not a plan" in run("apply", "wanted.yaml", code=1, **there).stderr
    (here / "wanted.yaml").write_text("organizations: [")
    assert "is not valid YAML" in run("apply", "wanted.yaml", code=78, **there).stderr
    run("credentials", "revoke", "7", "seven", "--yes", **there)
    run("orgs", "delete", "7", "--yes", **there)
    assert "released seven" in run("credentials", "release", "seven", **there).stdout


def test_objects_are_adopted_and_forgotten_at_a_console_elsewhere(here, console):
    there = {"TALLYGATE_URL": console, "TALLYGATE_TOKEN": TOKEN, "TALLYGATE_CONFIG_DIR": None}
    run("orgs", "create", "made", "--plan", "enterprise", **there)
    ids = [f"file-{number:04}" for number in range(450)]
    (here / "ids").write_text("\n".join(ids))

    assert "450 of 450 adopted" in run("objects", "adopt", "made", "file", "--from-file", "ids", **there).stdout
    shown = json.loads(
        run("objects", "list", "made", "--limit", "2", "--after", "default", "file", "file-0200", "--json", **there).stdout
    )
    assert [each["id"] for each in shown] == ["file-0201", "file-0202"]
    assert "450 of 450 forgotten" in run("objects", "forget", "made", "file", "--from-file", "ids", **there).stdout


ODD_ANSWERS = {
    "no JSON": (200, {"Content-Type": "text/html"}, b"<html>", "answered GET .* with 'text/html', which is no JSON: expected"),
    "a list": (200, {}, b"[]", "in another shape: expected"),
    "a text": (200, {}, b'"x"', "in another shape: expected"),
    "another version's": (200, {}, b'{"organizations": [{"name": "x"}], "plans": [{}]}', "without '.*': expected"),
    "deep": (200, {}, b"[" * 100_000, "which is no JSON: expected"),
    "elsewhere": (
        302,
        {"Location": "https://login.example/?token=s3cret"},
        b"",
        "leads elsewhere to https://login.example and is not",
    ),
    "refused by another": (403, {}, b"<html>", "with status 403 and no error of the API: expected"),
    "huge": (200, {}, b" " * (64 * 2**20 + 1), "with more than 64 MB: expected"),
}


@pytest.fixture
def odd_console(here):
    """A server that answers everything alike; call it with an answer for its URL."""
    servers = []

    def serve(status, headers, body):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", ODD_ANSWERS)
def test_an_answer_of_no_console_of_this_version_is_a_line_that_names_it(odd_console, name):
    *answer, says = ODD_ANSWERS[name]
    url = odd_console(*answer)
    asked = (
        [["orgs", "list"]]
        if name == "huge"
        else [["orgs", "list"], ["plans"], ["usage"], ["spend", "acme"], ["events"], ["event", "1"]]
    )

    for command in asked:
        result = run(*command, code=1, TALLYGATE_URL=url, TALLYGATE_TOKEN=TOKEN, TALLYGATE_CONFIG_DIR=None)
        assert url in result.stderr
        assert re.search(says, result.stderr), result.stderr
        assert "s3cret" not in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_file_from_no_console_leaves_the_old_one(odd_console, here):
    (here / "old.csv").write_text("old")
    url = odd_console(200, {"Content-Type": "text/html"}, b"<html>")

    result = run(
        "export",
        "--last",
        "7d",
        "--org",
        "acme",
        "-o",
        "old.csv",
        code=1,
        TALLYGATE_URL=url,
        TALLYGATE_TOKEN=TOKEN,
        TALLYGATE_CONFIG_DIR=None,
    )

    assert "answered GET /api/export with 'text/html', not text/csv: expected" in result.stderr
    assert (here / "old.csv").read_text() == "old"
