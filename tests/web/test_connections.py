from __future__ import annotations

import resource

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
