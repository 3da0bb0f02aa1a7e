from __future__ import annotations

import asyncio
import resource
from unittest.mock import Mock, call

import pytest

from asgilook.web import connections


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        ((1024, 524288), (65536, 524288)),
        ((1024, 4096), (4096, 4096)),
        ((4096, 4096), None),
        ((1024, resource.RLIM_INFINITY), (65536, resource.RLIM_INFINITY)),
        ((100000, 524288), None),
    ],
)
def test_file_limit(
    monkeypatch: pytest.MonkeyPatch,
    before: tuple[int, int],
    after: tuple[int, int] | None,
) -> None:
    limits = []
    monkeypatch.setattr(resource, 'getrlimit', lambda kind: before)
    monkeypatch.setattr(resource, 'setrlimit', lambda kind, new: limits.append(new))
    connections.raise_file_limit()
    assert limits == ([] if after is None else [after])


def test_connections_leave_descriptors_for_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < connections.max_connections() < soft


class TestOneWrite:
    @pytest.fixture
    def loop(self) -> Mock:
        return Mock(spec=asyncio.AbstractEventLoop)

    @pytest.fixture
    def transport(self) -> Mock:
        return Mock(spec=asyncio.Transport, is_closing=Mock(return_value=False))

    @pytest.fixture
    def one_write(self, loop: Mock, transport: Mock) -> connections.OneWrite:
        return connections.OneWrite(transport, loop)

    def flush(self, loop: Mock) -> None:
        for scheduled in loop.call_soon.call_args_list:
            scheduled.args[0]()
        loop.call_soon.reset_mock()

    def test_two_writes_are_joined(
        self, loop: Mock, transport: Mock, one_write: connections.OneWrite
    ) -> None:
        one_write.write(b'head')
        one_write.write(b'body')
        self.flush(loop)
        one_write.write(b'more')
        self.flush(loop)
        assert transport.method_calls == [
            call.is_closing(),
            call.writelines((b'head', b'body')),
            call.is_closing(),
            call.write(b'more'),
        ]

    def test_pending_write_precedes_the_end(
        self, loop: Mock, transport: Mock, one_write: connections.OneWrite
    ) -> None:
        one_write.write(b'last')
        one_write.close()
        self.flush(loop)
        assert transport.method_calls[1:] == [call.write(b'last'), call.close()]

    def test_client_that_has_hung_up(
        self, loop: Mock, transport: Mock, one_write: connections.OneWrite
    ) -> None:
        transport.is_closing.return_value = True
        one_write.write(b'head')
        one_write.write(b'body')
        one_write.write(b'more')
        self.flush(loop)
        assert not transport.write.called
        assert not transport.writelines.called

    def test_other_methods_are_those_of_the_transport(
        self, transport: Mock, one_write: connections.OneWrite
    ) -> None:
        assert one_write.abort is transport.abort
