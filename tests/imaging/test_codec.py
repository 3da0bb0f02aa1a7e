import resource
from collections.abc import Iterator

import pytest
from PIL import Image

from asgilook.imaging import codec
from tests import samples


@pytest.fixture
def file_size_limit() -> Iterator[None]:
    """Limit the size of files of this process to 1000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_memory_file_raises_memory_error(file_size_limit: None) -> None:
    with pytest.raises(MemoryError):
        codec.to_jpeg(samples.scene(96, 64), {'quality': 85})


def test_other_errors_of_the_encoder_are_raised_unchanged() -> None:
    with pytest.raises(OSError, match='cannot write mode'):
        codec.to_jpeg(Image.new('RGBA', (8, 8)), {})
