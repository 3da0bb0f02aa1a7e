from __future__ import annotations

import resource
from collections.abc import Callable

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


class TestMovableTimer:
    """All times are those of a loop whose clock the test sets."""

    @pytest.fixture
    def loop(self) -> FakeLoop:
        return FakeLoop()

    @pytest.fixture
    def timer(self, loop: FakeLoop) -> connections.MovableTimer:
        return connections.MovableTimer(loop, lambda: loop.calls.append(loop.now))  # type: ignore[arg-type]

    def test_is_called_once(
        self, loop: FakeLoop, timer: connections.MovableTimer
    ) -> None:
        timer.set(5)
        assert timer.is_set
        loop.run_until(20)
        assert loop.calls == [5]
        assert not timer.is_set

    def test_moved_to_a_later_time(
        self, loop: FakeLoop, timer: connections.MovableTimer
    ) -> None:
        timer.set(5)
        loop.run_until(4)
        timer.set(5)
        timer.set(6)
        assert len(loop.timers) == 1
        loop.run_until(20)
        assert loop.calls == [10]

    def test_moved_to_an_earlier_time(
        self, loop: FakeLoop, timer: connections.MovableTimer
    ) -> None:
        timer.set(50)
        timer.set(5)
        loop.run_until(100)
        assert loop.calls == [5]

    def test_unset_and_set_again(
        self, loop: FakeLoop, timer: connections.MovableTimer
    ) -> None:
        timer.set(5)
        timer.unset()
        assert not timer.is_set
        loop.run_until(20)
        assert loop.calls == []
        timer.set(5)
        timer.unset()
        timer.set(7)
        loop.run_until(40)
        assert loop.calls == [27]

    def test_cancelled(self, loop: FakeLoop, timer: connections.MovableTimer) -> None:
        timer.cancel()
        timer.set(5)
        timer.cancel()
        assert not timer.is_set
        assert loop.timers == []


class FakeLoop:
    """The timers of an event loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[float] = []
        self.timers: list[FakeHandle] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, function: Callable[[], None]) -> FakeHandle:
        handle = FakeHandle(self, when, function)
        self.timers.append(handle)
        return handle

    def run_until(self, end: float) -> None:
        while due := [timer for timer in self.timers if timer.time <= end]:
            timer = min(due, key=lambda timer: timer.time)
            self.timers.remove(timer)
            self.now = timer.time
            timer.function()
        self.now = end


class FakeHandle:
    """A timer of `FakeLoop`."""

    def __init__(
        self, loop: FakeLoop, time: float, function: Callable[[], None]
    ) -> None:
        self.loop, self.time, self.function = loop, time, function

    def when(self) -> float:
        return self.time

    def cancel(self) -> None:
        self.loop.timers.remove(self)
