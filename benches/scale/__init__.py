"""Costs at sizes a factor of ten apart: what a cost grows with decides how much a broker can hold."""

from scale import compaction, connections, groups, idle, logs, maintenance, opening, stores, topics, transactions, writes

ROWS = groups.ROWS + topics.ROWS + logs.ROWS + opening.ROWS + writes.ROWS + idle.ROWS + maintenance.ROWS + connections.ROWS
ROWS += transactions.ROWS + compaction.ROWS


def run(bench):
    """The rows whose names hold the text asked for, or all of them."""
    chosen = [row for row in ROWS if row.named(bench.scale_rows)]
    assert chosen, f"no row of scale has {bench.scale_rows!r} in its name"
    with stores.folder() as folder:
        bench.kept = stores.Kept(folder)
        for row in chosen:
            row.measure(bench, bench.scale_sizes, bench.scale_full)
