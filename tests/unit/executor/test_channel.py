from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from airflow_knative.executor.channel import Channel, ChannelClosedError, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_messages_go_both_ways(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    channel.send({"type": "run", "text": "line\nfeed"})
    assert decode(other.recv(1000).rstrip(b"\n")) == {"type": "run", "text": "line\nfeed"}
    other.sendall(encode({"type": "done"}) + encode({"type": "wake"})[:4])
    assert list(channel.receive()) == [{"type": "done"}]
    other.sendall(encode({"type": "wake"})[4:])
    assert list(channel.receive()) == [{"type": "wake"}]


def test_a_slow_reader_does_not_block_the_sender(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    for _ in range(100):
        channel.send({"type": "run", "filler": "x" * 100_000})
    received = b""
    while received.count(b"\n") < 100:
        channel.wait(0)
        assert list(channel.receive()) == []
        received += other.recv(1 << 20)


def test_waiting_ends_with_a_message(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    other.sendall(encode({"type": "wake"}))
    channel.wait(60.0)
    assert list(channel.receive()) == [{"type": "wake"}]


def test_what_was_said_before_the_end_is_heard(pair: tuple[Channel, socket.socket]) -> None:
    channel, other = pair
    other.sendall(encode({"type": "done"}))
    other.close()
    messages = channel.receive()
    assert next(messages) == {"type": "done"}
    with pytest.raises(ChannelClosedError):
        next(messages)
