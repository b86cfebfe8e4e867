"""Half-open connections keep nobody out."""

from tallygate.http1.open_connections import IDLE_S, OpenConnections


class Client:
    def __init__(self, name: str, *, is_half_open: bool = False) -> None:
        self.name = name
        self.is_half_open = is_half_open
        self.is_writing = False
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True


def test_half_open_heads_make_room_the_oldest_first() -> None:
    connections = OpenConnections(3)
    slow = [Client(f"slow{number}", is_half_open=True) for number in range(3)]
    assert all(connections.admit(client, 0) for client in slow)
    assert connections.admit(Client("new"), 0.1)
    assert [client.is_cut for client in slow] == [True, False, False]
    assert len(connections) == 3


def test_a_connection_without_a_request_makes_room_after_a_while() -> None:
    connections = OpenConnections(2)
    clients = [Client("silent"), Client("busy")]
    for client in clients:
        connections.admit(client, 0)
    connections.mark_busy(clients[1])
    assert not connections.admit(Client("new"), IDLE_S / 2)
    assert connections.admit(Client("new"), IDLE_S)
    assert [client.is_cut for client in clients] == [True, False]


def test_whoever_works_or_writes_stays_and_the_newcomer_is_turned_away() -> None:
    connections = OpenConnections(2)
    working, writing = Client("working"), Client("writing")
    for client in (working, writing):
        connections.admit(client, 0)
        connections.mark_busy(client)
    connections.mark_idle(writing, 5)
    writing.is_writing = True
    assert not connections.admit(Client("new"), 100)
    writing.is_writing = False
    assert connections.admit(Client("new"), 100)
    assert (working.is_cut, writing.is_cut) == (False, True)


def test_a_place_that_was_left_is_free() -> None:
    connections = OpenConnections(1)
    first = Client("first")
    connections.admit(first, 0)
    connections.leave(first)
    connections.mark_idle(first, 0)
    assert len(connections) == 0
    assert connections.admit(Client("new"), 0)
    assert not first.is_cut
