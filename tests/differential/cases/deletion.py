"""DeleteRecords and DescribeLogDirs: what is thrown away, and how much is left."""

from cases import case

UNKNOWN = "unknown"


def delete(b, name, *rows, **fields):
    rows = [{"PartitionIndex": index, "Offset": offset} for index, offset in rows]
    return b.ask(**{"Topics": [{"Name": name, "Partitions": rows}], "TimeoutMs": 30_000} | fields)


def filled(b, **configs):
    """Offsets 0-2 and 3-4 in partition 0; partition 1 is empty."""
    name = b.topic(partitions=2, **configs)
    b.produce(name, b.batch(b"a", b"b", b"c"), b.batch(b"d", b"e"))
    return name


def look(b, name):
    """Where the log begins and ends, and what is left of it."""
    for timestamp in (-2, -1):
        rows = [{"PartitionIndex": index, "Timestamp": timestamp} for index in (0, 1)]
        b.other("ListOffsets", 6, ReplicaId=-1, Topics=[{"Name": name, "Partitions": rows}])


@case("DeleteRecords", each={"0": 0, "middle of a batch": 1, "end of a batch": 3, "last": 4, "end": 5,
                             "high watermark": -1,
                             "past the end": 6, "far": 2**62, "-2": -2, "min": -2**63})
def offset(b, offset):
    name = filled(b)
    delete(b, name, (0, offset))
    look(b, name)


@case("DeleteRecords")
def step_by_step(b):
    """Never backwards."""
    name = filled(b)
    for offset in (2, 1, 0, 2, 5, 3, -1):
        delete(b, name, (0, offset))
    look(b, name)
    b.produce(name, b.batch())
    look(b, name)


@case("DeleteRecords")
def of_an_empty_partition(b):
    name = filled(b)
    for offset in (0, -1, 1):
        delete(b, name, (1, offset))


@case("DeleteRecords", each={"2": 2, "-1": -1})
def partition(b, index):
    delete(b, filled(b), (index, 0))


@case("DeleteRecords", each={"unknown": UNKNOWN, "empty": "", "illegal": "a b", "null": None})
def topic_name(b, name):
    delete(b, b.name() if name == UNKNOWN else name, (0, 0))


@case("DeleteRecords")
def good_and_bad(b):
    name = filled(b)
    rows = [{"PartitionIndex": index, "Offset": offset} for index, offset in ((9, 0), (1, 5), (0, 3))]
    b.ask(Topics=[{"Name": b.name(UNKNOWN), "Partitions": rows}, {"Name": name, "Partitions": rows}], TimeoutMs=30_000)
    look(b, name)


@case("DeleteRecords")
def partition_twice(b):
    name = filled(b)
    delete(b, name, (0, 1), (0, 3))
    look(b, name)


@case("DeleteRecords", each={"compact": "compact", "compact,delete": "compact,delete", "none": ""})
def cleanup_policy(b, policy):
    name = b.topic(partitions=2, **{"cleanup.policy": policy})
    delete(b, name, (0, 0), (1, -1), (9, 0))


@case("DeleteRecords")
def no_partitions(b):
    delete(b, filled(b))


@case("DeleteRecords", each={"none": [], "null": None})
def topics(b, topics):
    b.ask(Topics=topics, TimeoutMs=30_000)


@case("DeleteRecords", each={"0": 0, "-1": -1})
def timeout(b, milliseconds):
    name = filled(b)
    delete(b, name, (0, 3), TimeoutMs=milliseconds)
    look(b, name)



def dirs(b, topics):
    """Shows this case's topics only, if all were asked for."""
    def own(answer):
        for result in answer["Results"]:
            if topics is None:
                result["Topics"] = [one for one in result["Topics"] if one["Name"].startswith(b.prefix)]
        return answer
    return b.ask(own, Topics=topics)


@case("DescribeLogDirs")
def every_topic(b):
    filled(b)
    dirs(b, None)


@case("DescribeLogDirs", each={"both": [0, 1], "one": [0], "unknown": [7], "one unknown": [7, 0], "negative": [-1],
                               "none": [], "twice": [0, 0]})
def dirs_of_partitions(b, indexes):
    dirs(b, [{"Topic": filled(b), "Partitions": indexes}])


@case("DescribeLogDirs", each={"unknown": UNKNOWN, "empty": "", "null": None})
def dirs_of_topic(b, name):
    dirs(b, [{"Topic": b.name() if name == UNKNOWN else name, "Partitions": [0]}])


@case("DescribeLogDirs")
def dirs_of_several(b):
    name = filled(b)
    dirs(b, [{"Topic": b.name(UNKNOWN), "Partitions": [0]}, {"Topic": name, "Partitions": [1, 0]}])


@case("DescribeLogDirs")
def dirs_of_topic_twice(b):
    name = filled(b)
    dirs(b, [{"Topic": name, "Partitions": [0]}, {"Topic": name, "Partitions": [1]}])


@case("DescribeLogDirs")
def dirs_of_nothing(b):
    dirs(b, [])


@case("DescribeLogDirs")
def null_partitions(b):
    dirs(b, [{"Topic": b.topic(), "Partitions": None}])
