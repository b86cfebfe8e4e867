"""Half-open connections keep nobody out."""

from tallygate.http1.open_connections import RESTED_S, Crowd


class Client:
    def __init__(self, name: str, *, is_half_open: bool = False) -> None:
        self.name = name
        self.is_half_open = is_half_open
        self.is_writing = False
        self.is_cut = False

    def abort(self) -> None:
        self.is_cut = True


def test_half_open_heads_make_room_the_oldest_first() -> None:
    crowd = Crowd(3)
    slow = [Client(f"slow{number}", is_half_open=True) for number in range(3)]
    assert all(crowd.let_in(client, 0) for client in slow)
    assert crowd.let_in(Client("new"), 0.1)
    assert [client.is_cut for client in slow] == [True, False, False]
    assert len(crowd) == 3


def test_a_connection_without_a_request_makes_room_after_a_while() -> None:
    crowd = Crowd(2)
    clients = [Client("silent"), Client("busy")]
    for client in clients:
        crowd.let_in(client, 0)
    crowd.work(clients[1])
    assert not crowd.let_in(Client("new"), RESTED_S / 2)
    assert crowd.let_in(Client("new"), RESTED_S)
    assert [client.is_cut for client in clients] == [True, False]


def test_whoever_works_or_writes_stays_and_the_newcomer_is_turned_away() -> None:
    crowd = Crowd(2)
    working, writing = Client("working"), Client("writing")
    for client in (working, writing):
        crowd.let_in(client, 0)
        crowd.work(client)
    crowd.rest(writing, 5)
    writing.is_writing = True
    assert not crowd.let_in(Client("new"), 100)
    writing.is_writing = False
    assert crowd.let_in(Client("new"), 100)
    assert (working.is_cut, writing.is_cut) == (False, True)


def test_a_place_that_was_left_is_free() -> None:
    crowd = Crowd(1)
    first = Client("first")
    crowd.let_in(first, 0)
    crowd.leave(first)
    crowd.rest(first, 0)
    assert len(crowd) == 0
    assert crowd.let_in(Client("new"), 0)
    assert not first.is_cut
