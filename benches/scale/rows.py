"""What a row is: a cost at a few sizes, and how much more the largest may cost than the smallest."""

import dataclasses
import shutil
import typing

from scale import stores


@dataclasses.dataclass
class Figure:
    """One number that a cost has."""

    what: str
    unit: str = "us of CPU"
    allowed: float | None = None  # the largest size over the smallest; None: not compared
    goal: str = ""  # of the largest size alone
    only_largest: bool = False


@dataclasses.dataclass
class Row:
    sizes: list
    cost: typing.Callable  # of the bench and a size: a number per figure, or a number alone
    figures: list
    full: list = dataclasses.field(default_factory=list)  # further sizes, which take long
    disk: int = 0  # bytes that have to be free, for each one of a size

    def named(self, text):
        return any(text.lower() in figure.what.lower() for figure in self.figures)

    def measure(self, bench, sizes_max, full):
        sizes = (self.sizes + (self.full if full else []))[:sizes_max]
        sizes = [size for size in sizes if self.fits(size)]
        if not sizes:
            return
        runs = bench.repeat(lambda: [numbers(self.cost(bench, size)) for size in sizes])
        for index, figure in enumerate(self.figures):
            report(bench, figure, sizes, [[costs[index] for costs in run] for run in runs])

    def fits(self, size):
        """Says so if it does not."""
        stores.ON_DISK.mkdir(exist_ok=True)
        free, needed = shutil.disk_usage(stores.ON_DISK).free, size * self.disk
        if free < needed:
            what = f"{self.figures[0].what}: {shown(size)}"
            print(f"| {what} | left out: {free / 1e9:.1f} GB are free, it needs {needed / 1e9:.1f} | | |", flush=True)
        return free >= needed


def numbers(cost):
    return cost if isinstance(cost, tuple) else (cost,)


def shown(size):
    return f"{size:,}"


def report(bench, figure, sizes, runs):
    """A line per size, and one of the largest size over the smallest."""
    for index, size in enumerate(sizes):
        is_largest = index == len(sizes) - 1
        if is_largest or not figure.only_largest:
            goal = figure.goal if is_largest else ""
            bench.report(f"{figure.what}: {shown(size)}", figure.unit, [costs[index] for costs in runs], goal)
    if figure.allowed is not None and len(sizes) > 1:
        ratios = [costs[-1] / costs[0] if costs[0] else float("nan") for costs in runs]
        what = f"{figure.what}: {shown(sizes[-1])} over {shown(sizes[0])}"
        bench.report(what, "x", ratios, f"<= {figure.allowed}")
