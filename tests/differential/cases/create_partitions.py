"""CreatePartitions: counts, assignments, validate_only."""

from cases import case


def grow(b, name, count, nodes=None, **fields):
    assignments = None if nodes is None else [{"BrokerIds": ids} for ids in nodes]
    return b.ask(Topics=[{"Name": name, "Count": count, "Assignments": assignments}], TimeoutMs=30_000, **fields)


@case("CreatePartitions", each={"2": 2, "5": 5, "same": 1, "0": 0, "-1": -1})
def count(b, count):
    name = b.topic()
    grow(b, name, count)
    b.look(name)


@case("CreatePartitions")
def fewer(b):
    name = b.topic(partitions=3)
    grow(b, name, 2)
    b.look(name)


@case("CreatePartitions", each={"good": 3, "bad": 1})
def validate_only(b, count):
    name = b.topic()
    grow(b, name, count, ValidateOnly=True)
    b.look(name)


@case("CreatePartitions")
def new_partition_works(b):
    name = b.topic()
    grow(b, name, 2)
    b.settle()
    b.produce(name, b.batch(), partition=1)
    b.other("ListOffsets", 6, Topics=[{"Name": name, "Partitions": [
        {"PartitionIndex": index, "Timestamp": -1} for index in (0, 1, 2)]}])


@case("CreatePartitions", each={"unknown": None, "empty": "", "illegal": "a b"})
def name(b, name):
    grow(b, b.name() if name is None else name, 2)


@case("CreatePartitions", each={
    "good": (3, [["me"], ["me"]]), "too few": (3, [["me"]]), "too many": (2, [["me"], ["me"]]), "none": (2, []),
    "unknown broker": (2, [[999]]), "no broker": (2, [[]]), "broker twice": (2, [["me", "me"]]),
    "another factor": (2, [["me", 999]]), "negative": (2, [[-1]]), "count too low": (1, [["me"]]),
})
def assignment(b, wanted):
    count, nodes = wanted
    name = b.topic()
    grow(b, name, count, [[b.node if node == "me" else node for node in row] for row in nodes])
    b.look(name)


@case("CreatePartitions")
def null_brokers(b):
    grow(b, b.topic(), 2, [None])


@case("CreatePartitions")
def twice_in_one_request(b):
    name, other = b.topic(), b.topic("other")
    one = {"Name": name, "Assignments": None}
    b.ask(Topics=[one | {"Count": 2}, {"Name": other, "Count": 2, "Assignments": None}, one | {"Count": 3}],
          TimeoutMs=30_000)
    b.look(name, other)


@case("CreatePartitions")
def good_and_bad(b):
    good, bad = b.topic("good"), b.topic("bad")
    rows = [(bad, 1), (b.name("unknown"), 2), (good, 2)]
    b.ask(Topics=[{"Name": name, "Count": count, "Assignments": None} for name, count in rows], TimeoutMs=30_000)
    b.look(good, bad)


@case("CreatePartitions", each={"none": [], "null": None})
def topics(b, topics):
    b.ask(Topics=topics, TimeoutMs=30_000)


@case("CreatePartitions", each={"0": 0, "negative": -1})
def timeout(b, milliseconds):
    name = b.topic()
    b.ask(Topics=[{"Name": name, "Count": 2, "Assignments": None}], TimeoutMs=milliseconds)
    b.look(name)
