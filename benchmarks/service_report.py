"""Table and drawing of `benchmarks.service`."""

from __future__ import annotations

import statistics

Figures = dict[str, float]

SCALES = (2, 4, 8, 16)
UPLOADS, WHOLE, MEMORY = 'uploads a second', 'whole image, first time', 'peak MB'
ROWS = (UPLOADS, *(f'cold 1/{scale}' for scale in SCALES), WHOLE, MEMORY)
OURS, TUTORIAL, THUMBOR, LIBVIPS = 'asgilook', 'tutorial', 'thumbor', 'libvips'
# Targets: how many times the rate of another service.
TARGETS = {
    (UPLOADS, TUTORIAL): 1.75,
    **{
        (f'cold 1/{scale}', TUTORIAL): target
        for scale, target in zip(SCALES, (3.5, 5, 5, 3), strict=True)
    },
    ('cold 1/8', THUMBOR): 8,
    **{
        (f'cold 1/{scale}', LIBVIPS): target
        for scale, target in zip(SCALES, (1.8, 5, 7, 5), strict=True)
    },
}


def medians(rounds: dict[str, list[Figures]]) -> dict[str, Figures]:
    return {
        name: {
            row: statistics.median(each[row] for each in values) for row in values[0]
        }
        for name, values in rounds.items()
    }


def ratio(rounds: dict[str, list[Figures]], row: str, other: str) -> float:
    """Return the median of the ratios of this service to another, round by round."""
    pairs = zip(rounds[OURS], rounds[other], strict=True)
    return statistics.median(ours[row] / theirs[row] for ours, theirs in pairs)


def report(rounds: dict[str, list[Figures]]) -> None:
    """Print a table: rates, and this service's multiple of each, with its target."""
    figures = medians(rounds)
    print(
        f'\n{"":24}'
        + ''.join(f'{name:>10}{"ratio":>8}{"target":>8}' for name in figures)
    )
    for row in ROWS:
        line = f'{row:24}'
        for name, values in figures.items():
            if row not in values:
                line += f'{"-":>10}{"":16}'
                continue
            multiple = '' if name == OURS else f'{ratio(rounds, row, name):.2f}'
            target = TARGETS.get((row, name), '')
            line += f'{values[row]:10.1f}{multiple:>8}{target:>8}'
        print(line, flush=True)


def plot(rounds: dict[str, list[Figures]], path: str) -> None:
    """Draw the rates of cold thumbnails and uploads, as an SVG."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.rcParams['svg.hashsalt'] = 'asgilook'
    figures = medians(rounds)
    rows = [row for row in ROWS if row not in (WHOLE, MEMORY)]
    figure, axes = pyplot.subplots(figsize=(8, 3.5), layout='constrained')
    width = 0.8 / len(figures)
    for number, (name, values) in enumerate(figures.items()):
        places = [index + number * width for index in range(len(rows))]
        bars = axes.bar(places, [values.get(row, 0) for row in rows], width, label=name)
        axes.bar_label(
            bars, [f'{values[row]:.0f}' if row in values else '' for row in rows]
        )
    middle = (len(figures) - 1) * width / 2
    axes.set_xticks([index + middle for index in range(len(rows))], rows)
    axes.set_ylabel('per second (log scale)')
    axes.set_yscale('log')
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, ncols=2)
    figure.savefig(path, metadata={'Date': None})
