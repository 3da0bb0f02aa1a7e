from __future__ import annotations

import falcon
import pytest

from asgilook.models import Image

MINUTE = 60 * 10**9


@pytest.mark.parametrize(
    ('modified_ns', 'date'),
    [
        (1_700_000_000_999_000_000, 'Tue, 14 Nov 2023 22:13:20 GMT'),
        (-(10**9), 'Wed, 31 Dec 1969 23:59:59 GMT'),
        (-30_610_224_000 * 10**9, 'Wed, 01 Jan 1000 00:00:00 GMT'),
        (-30_610_224_000 * 10**9 - MINUTE, 'Wed, 01 Jan 1000 00:00:00 GMT'),
        (253_402_300_799 * 10**9, 'Fri, 31 Dec 9999 23:59:59 GMT'),
        (253_402_300_799 * 10**9 + MINUTE, 'Fri, 31 Dec 9999 23:59:59 GMT'),
        (-(2**63), 'Tue, 21 Sep 1677 00:12:43 GMT'),
        (2**80, 'Fri, 31 Dec 9999 23:59:59 GMT'),
        (-(2**80), 'Wed, 01 Jan 1000 00:00:00 GMT'),
    ],
)
def test_modified_is_an_http_date(modified_ns: int, date: str) -> None:
    modified = Image('', (1, 1), 1, modified_ns).modified
    assert falcon.dt_to_http(modified) == date
    assert falcon.http_date_to_dt(date, obs_date=False) == modified.replace(
        microsecond=0
    )
