import errno
import resource
import tempfile
from collections.abc import Iterator

import pytest

from asgilook.imaging import codec
from tests import samples


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """Limit the size of files of this process to 1000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_encode_reports_a_short_write(file_size_limit: None) -> None:
    image = samples.scene(96, 64)
    with tempfile.TemporaryFile() as file, pytest.raises(OSError, match='No') as raised:
        codec.encode(image, {'quality': 85}, file)
    assert raised.value.errno == errno.ENOSPC
