"""DeleteTopics: by name (a list of strings before version 6) and by id."""

from cases import case
from schema import ZERO_UUID, random_uuid


def delete(b, *names, **fields):
    """By name, in the form of the version."""
    return b.ask(TopicNames=list(names), Topics=[{"Name": name} for name in names], TimeoutMs=30_000, **fields)


@case("DeleteTopics")
def good(b):
    name, other = b.topic(partitions=2), b.topic("other")
    delete(b, name)
    b.look(name, other)


@case("DeleteTopics")
def unknown(b):
    delete(b, b.name())


@case("DeleteTopics")
def good_between_unknown(b):
    name = b.topic()
    delete(b, b.name("one"), name, b.name("two"))
    b.look(name)


@case("DeleteTopics", each={"empty": "", "dot": ".", "blank": "a b", "too long": "x" * 250})
def name(b, name):
    delete(b, name)


@case("DeleteTopics")
def twice_in_one_request(b):
    name = b.topic()
    delete(b, name, b.name("unknown"), name)
    b.look(name)


@case("DeleteTopics")
def unknown_twice_in_one_request(b):
    delete(b, b.name(), b.name())


@case("DeleteTopics")
def again(b):
    name = b.topic()
    delete(b, name)
    b.settle()
    delete(b, name)


@case("DeleteTopics")
def created_again(b):
    """Under the same name it is another topic: the old records are gone."""
    name = b.topic()
    b.produce(name, b.batch())
    delete(b, name)
    b.settle()
    b.topic()
    b.other("ListOffsets", 6, Topics=[{"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]}])


@case("DeleteTopics")
def nothing(b):
    delete(b)


@case("DeleteTopics")
def null(b):
    b.ask(TopicNames=None, Topics=None)


@case("DeleteTopics", until=5)
def null_name(b):
    b.ask(TopicNames=[None])


@case("DeleteTopics", each={"0": 0, "negative": -1})
def timeout(b, milliseconds):
    name = b.topic()
    b.ask(TopicNames=[name], Topics=[{"Name": name}], TimeoutMs=milliseconds)
    b.look(name)


@case("DeleteTopics", since=6)
def by_id(b):
    name = b.topic()
    b.ask(Topics=[{"Name": None, "TopicId": b.topic_id(name)}], TimeoutMs=30_000)
    b.look(name)


@case("DeleteTopics", since=6, each={"unknown": random_uuid("unknown"), "zero": ZERO_UUID, "one": "0" * 31 + "1"})
def bad_id(b, topic_id):
    b.ask(Topics=[{"Name": None, "TopicId": topic_id}], TimeoutMs=30_000)


@case("DeleteTopics", since=6)
def empty_name_and_id(b):
    name = b.topic()
    b.ask(Topics=[{"Name": "", "TopicId": b.topic_id(name)}], TimeoutMs=30_000)
    b.look(name)


@case("DeleteTopics", since=6)
def both_name_and_id(b):
    name = b.topic()
    b.ask(Topics=[{"Name": name, "TopicId": b.topic_id(name)}], TimeoutMs=30_000)
    b.look(name)


@case("DeleteTopics", since=6)
def same_topic_by_name_and_by_id(b):
    name = b.topic()
    topic_id = b.topic_id(name)
    b.ask(Topics=[{"Name": name}, {"Name": None, "TopicId": topic_id}], TimeoutMs=30_000)
    b.look(name)


@case("DeleteTopics", since=6)
def id_twice(b):
    name = b.topic()
    topic_id = b.topic_id(name)
    b.ask(Topics=[{"Name": None, "TopicId": topic_id}] * 2, TimeoutMs=30_000)
    b.look(name)


@case("DeleteTopics", since=6)
def all_kinds_of_mistakes(b):
    name, kept = b.topic(), b.topic("kept")
    b.ask(TimeoutMs=30_000, Topics=[
        {"Name": b.name("unknown")}, {"Name": None, "TopicId": b.topic_id(name)}, {"Name": None},
        {"Name": kept, "TopicId": b.topic_id(kept)}, {"Name": None, "TopicId": random_uuid("other")},
    ])
    b.look(name, kept)
