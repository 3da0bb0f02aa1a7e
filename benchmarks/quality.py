"""How close thumbnails are to Lanczos on the full picture, before and after encoding.

Previews are also compared with thumbnails that are made from the image: their mean loss
as served, and what they take on disk.

Run it as `python -m benchmarks.quality [JPEG ...]`: on the given files, or on the
photos of scikit-image, scikit-learn and matplotlib, and a synthetic one. Each is
measured as it is and cropped to odd sides.
"""

from __future__ import annotations

import importlib.util
import io
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image
from skimage import metrics

from asgilook.imaging import codec, reduction, transform

from .pictures import photo

Size = tuple[int, int]
Method = Callable[[bytes, Size], Image.Image]

SCALES = (2, 4, 8, 16, 32)
# The service makes no smaller thumbnails.
MIN_SIDE = 64
TARGET_PSNR, TARGET_SSIM = 38, 0.98
# Of previews: mean loss in dB and of SSIM, and their share of the images.
MAX_LOSS_PSNR, MAX_LOSS_SSIM, MAX_SHARE = 0.3, 0.003, 0.08
QUALITY = 85
PACKAGED = {
    'skimage': ('data/retina.jpg', 'data/rocket.jpg'),
    'sklearn': ('datasets/images/china.jpg', 'datasets/images/flower.jpg'),
    'matplotlib': ('mpl-data/sample_data/grace_hopper.jpg',),
}

BICUBIC = Image.Resampling.BICUBIC
HAMMING = Image.Resampling.HAMMING
LANCZOS = Image.Resampling.LANCZOS

_ssim: Callable[..., float] = metrics.structural_similarity


def direct(data: bytes, size: Size) -> Image.Image:
    """Render from the stored image."""
    return reduction.reduce(codec.open_image(data, 'JPEG', lambda: None), size)


def ours(data: bytes, size: Size) -> Image.Image:
    """Render as the service does: small thumbnails together, as previews."""
    sizes = preview_sizes(data)
    if size not in sizes:
        return direct(data, size)
    return previews(data, sizes)[sizes.index(size)]


def preview_sizes(data: bytes) -> list[Size]:
    return reduction.preview_sizes(Image.open(io.BytesIO(data)).size, MIN_SIDE)


def previews(data: bytes, sizes: list[Size]) -> list[Image.Image]:
    return list(reduction.halvings(direct(data, sizes[0]), sizes))


def encoded(image: Image.Image) -> bytes:
    image.info = {}
    return codec.to_jpeg(image, {'quality': QUALITY})


def drafted(
    data: bytes, size: Size, *, larger: int, resampling: Image.Resampling
) -> Image.Image:
    """Let libjpeg scale down to `larger` times the size, and resample the rest."""
    image = Image.open(io.BytesIO(data))
    draft_size = (size[0] * larger, size[1] * larger)
    draft = image.draft(image.mode, draft_size)
    image.load()
    if image.size == size:
        return image
    return image.resize(size, resampling, draft[1] if draft else None)


def reduced(data: bytes, size: Size) -> Image.Image:
    """Let libjpeg scale down to twice the size, and average 2 x 2 pixels."""
    image = Image.open(io.BytesIO(data))
    image.draft(image.mode, (size[0] * 2, size[1] * 2))
    image.load()
    scale = image.width // size[0]
    # Off by a part of a pixel where a side is odd.
    return image.reduce(scale).crop((0, 0, *size))


def thumbnail(data: bytes, size: Size) -> Image.Image:
    """Do what `Image.thumbnail` does, but to the exact size."""
    image = Image.open(io.BytesIO(data))
    draft = image.draft(image.mode, (size[0] * 2, size[1] * 2))
    return image.resize(size, BICUBIC, draft[1] if draft else None, reducing_gap=2)


METHODS: dict[str, Method] = {
    'ours': ours,
    'from the image': direct,
    'draft, bicubic': partial(drafted, larger=1, resampling=BICUBIC),
    'draft, Lanczos': partial(drafted, larger=1, resampling=LANCZOS),
    'draft x2, reduce': reduced,
    'draft x2, Hamming': partial(drafted, larger=2, resampling=HAMMING),
    'draft x2, Lanczos': partial(drafted, larger=2, resampling=LANCZOS),
    'Image.thumbnail': thumbnail,
}


@dataclass
class Scores:
    """What a method reached at a scale, and with which pictures."""

    names: list[str] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    served_psnr: list[float] = field(default_factory=list)
    served_ssim: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)

    def below(self) -> list[str]:
        return [
            f'{name} ({psnr:.1f}, {ssim:.3f})'
            for name, psnr, ssim in zip(self.names, self.psnr, self.ssim, strict=True)
            if psnr < TARGET_PSNR or ssim < TARGET_SSIM
        ]


def similarity(image: Image.Image, best: Image.Image) -> tuple[float, float]:
    """Return PSNR in dB, and SSIM."""
    made, target = np.asarray(image), np.asarray(best)
    # Equal pictures would have no PSNR: such an error counts as 72 dB.
    error = max(np.mean(np.square(made - target.astype(float))), 1 / 256)
    axis = None if made.ndim == 2 else 2
    psnr = float(10 * np.log10(255**2 / error))
    return psnr, float(_ssim(made, target, channel_axis=axis))


def score(scores: Scores, name: str, image: Image.Image, best: Image.Image) -> None:
    scores.names.append(name)
    for (psnr, ssim), all_psnr, all_ssim in (
        (similarity(image, best), scores.psnr, scores.ssim),
        (
            similarity(Image.open(io.BytesIO(encoded(image))), best),
            scores.served_psnr,
            scores.served_ssim,
        ),
    ):
        all_psnr.append(psnr)
        all_ssim.append(ssim)


def compare(pictures: dict[str, bytes], scale: int) -> dict[str, Scores]:
    results = {method: Scores() for method in METHODS}
    for name, data in pictures.items():
        full = Image.open(io.BytesIO(data))
        size = (full.width // scale, full.height // scale)
        if min(size) < MIN_SIDE:
            continue
        best = full.resize(size, LANCZOS)
        for method, make in METHODS.items():
            start = time.perf_counter()
            image = make(data, size)
            took = time.perf_counter() - start
            results[method].speed.append(full.width * full.height / 1e6 / took)
            score(results[method], name, image, best)
    return results


def report(title: str, pictures: dict[str, bytes]) -> None:
    print(f'\n{title}: {len(pictures)} pictures')
    print(f'{"":26}{"PSNR":>14}{"SSIM":>18}{"as served":>15}{"megapixels":>15}')
    print(
        f'{"":26}{"mean":>8}{"min":>8}{"mean":>9}{"min":>8}'
        f'{"PSNR":>8}{"SSIM":>9}{"a second":>12}'
    )
    for scale in SCALES:
        results = compare(pictures, scale)
        for method, scores in results.items():
            if scores.names:
                row(f'1/{scale:<5}{method}', scores)
        below = results['ours'].below()
        print(f'       ours below {TARGET_PSNR} or {TARGET_SSIM}: {len(below)}', *below)
        loss(results['ours'], results['from the image'])


def loss(ours: Scores, direct: Scores) -> None:
    """Print the mean loss against thumbnails from the image, as served."""
    if ours.names:
        psnr = statistics.mean(direct.served_psnr) - statistics.mean(ours.served_psnr)
        ssim = statistics.mean(direct.served_ssim) - statistics.mean(ours.served_ssim)
        print(
            f'       loss as served: {psnr:.2f} dB, {ssim:.4f} '
            f'(at most {MAX_LOSS_PSNR} and {MAX_LOSS_SSIM})'
        )


def share(pictures: dict[str, bytes]) -> None:
    """Print how long the previews are, as a share of the pictures."""
    length = 0
    for data in pictures.values():
        if sizes := preview_sizes(data):
            length += sum(len(encoded(each)) for each in previews(data, sizes))
    part = length / sum(map(len, pictures.values()))
    print(f'previews take {part:.1%} of the pictures (at most {MAX_SHARE:.0%})')


def row(title: str, scores: Scores) -> None:
    print(
        f'{title:26}{statistics.mean(scores.psnr):8.1f}{min(scores.psnr):8.1f}'
        f'{statistics.mean(scores.ssim):9.4f}{min(scores.ssim):8.4f}'
        f'{statistics.mean(scores.served_psnr):8.2f}'
        f'{statistics.mean(scores.served_ssim):9.4f}'
        f'{statistics.median(scores.speed):12.0f}',
        flush=True,
    )


def packaged() -> Iterator[str]:
    for package, names in PACKAGED.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            paths = (os.path.join(folder, name) for name in names)
            yield from filter(os.path.exists, paths)


def read(paths: list[str]) -> dict[str, bytes]:
    pictures = {}
    for path in paths:
        with open(path, 'rb') as file:
            pictures[os.path.basename(path)] = file.read()
    return pictures


def odd(data: bytes) -> bytes:
    """Crop a picture so that every halving rounds down as much as possible."""
    image = Image.open(io.BytesIO(data))
    most = SCALES[-1]
    file = io.BytesIO()
    size = (image.width // most * most - 1, image.height // most * most - 1)
    image.crop((0, 0, *size)).save(file, 'JPEG', quality=92)
    return file.getvalue()


def main() -> None:
    pictures = read(sys.argv[1:] or list(packaged()))
    if not sys.argv[1:]:
        pictures['made'] = photo(1632, 1224)
    transform.configure(50_000_000)
    share(pictures)
    report('as they are', pictures)
    report('odd sizes', {name: odd(data) for name, data in pictures.items()})


if __name__ == '__main__':
    main()
