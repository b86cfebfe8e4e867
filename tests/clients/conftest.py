from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from client_gateway import ClientGateway, Visit, running_client_gateway
from stack import entries_in


@pytest.fixture(scope="session")
def client_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClientGateway]:
    """One for all clients; it runs in a thread of its own, so that tests may simply wait for a client's process."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_client_gateway(tmp_path_factory.mktemp("clients"))) as gateway,
    ):
        yield gateway


@pytest.fixture
def visit(client_gateway: ClientGateway) -> Visit:
    """The gateway for this test's client."""
    records = client_gateway.stack.ledger.records
    last = records[-1].sequence if records else 0
    known = {entry["event_id"] for entry in entries_in(client_gateway.stack.data_dir / "ledger.db")}
    known |= {str(record.request_id) for record in tuple(records)}  # of which some may be entered later
    return Visit(gateway=client_gateway, first_asked=len(client_gateway.asked), last_served=last, earlier=frozenset(known))
