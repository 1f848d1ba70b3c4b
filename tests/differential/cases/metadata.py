"""Metadata: by name and by id, with and without creating topics."""

from cases import case
from schema import ZERO_UUID, random_uuid


def named(*names):
    return [{"Name": name} for name in names]


@case("Metadata")
def none(b):
    """In version 0 an empty list means all topics."""
    b.topic()
    b.ask(b.own_topics, Topics=[])


@case("Metadata")
def null(b):
    """From version 1 on, null means all topics."""
    b.topic("one", partitions=3), b.topic("two")
    b.ask(b.own_topics, Topics=None)


@case("Metadata")
def one(b):
    b.ask(Topics=named(b.topic(partitions=3)))


@case("Metadata")
def several(b):
    one, two, three = b.topic("one"), b.topic("two"), b.topic("three")
    b.ask(Topics=named(three, b.name("unknown"), one, "a b", two), AllowAutoTopicCreation=False)


@case("Metadata")
def twice(b):
    name, other = b.topic(), b.topic("other")
    b.ask(Topics=named(name, other, name), AllowAutoTopicCreation=False)


@case("Metadata", since=4)
def unknown(b):
    b.ask(Topics=named(b.name()), AllowAutoTopicCreation=False)
    b.look(b.name())


@case("Metadata")
def created_by_asking(b):
    name = b.name()
    b.ask(Topics=named(name))
    b.settle()
    b.ask(Topics=named(name))


@case("Metadata")
def created_by_asking_twice_in_one_request(b):
    name = b.name()
    b.ask(Topics=named(name, name))
    b.look(name)


@case("Metadata")
def created_along_with_mistakes(b):
    name = b.name()
    b.ask(Topics=named("a b", name, b.topic("there")))
    b.look(name)


@case("Metadata", each={"empty": "", "dot": ".", "two dots": "..", "blank": "a b", "accent": "é",
                        "too long": "x" * 250})
def illegal_name(b, name):
    b.ask(Topics=named(name), AllowAutoTopicCreation=True)


@case("Metadata", since=4, each={"empty": "", "blank": "a b", "too long": "x" * 250})
def illegal_name_not_created(b, name):
    b.ask(Topics=named(name), AllowAutoTopicCreation=False)


@case("Metadata")
def collision(b):
    b.topic("a.b")
    b.ask(Topics=named(b.name("a_b")))
    b.look(b.name("a_b"))


@case("Metadata")
def deleted(b):
    name = b.topic()
    b.prepare("DeleteTopics", 5, TopicNames=[name], TimeoutMs=30_000)
    b.settle()
    b.ask(Topics=named(name), AllowAutoTopicCreation=False)


@case("Metadata", since=4)
def internal(b):
    b.ask(Topics=named("__cluster_metadata"), AllowAutoTopicCreation=False)


@case("Metadata")
def null_name(b):
    b.ask(Topics=named(None), AllowAutoTopicCreation=False)


@case("Metadata", since=10)
def by_id(b):
    b.ask(Topics=[{"Name": None, "TopicId": b.topic_id(b.topic(partitions=2))}], AllowAutoTopicCreation=False)


@case("Metadata", since=10, each={"unknown": random_uuid("metadata"), "zero": ZERO_UUID, "one": "0" * 31 + "1"})
def unknown_id(b, topic_id):
    b.ask(Topics=[{"Name": None, "TopicId": topic_id}])


@case("Metadata", since=10)
def both_name_and_id(b):
    name = b.topic()
    b.ask(Topics=[{"Name": name, "TopicId": b.topic_id(name)}], AllowAutoTopicCreation=False)


@case("Metadata", since=10)
def both_name_and_id_of_another(b):
    name, other = b.topic(), b.topic("other")
    b.ask(Topics=[{"Name": name, "TopicId": b.topic_id(other)}], AllowAutoTopicCreation=False)


@case("Metadata", since=10)
def empty_name_and_id(b):
    b.ask(Topics=[{"Name": "", "TopicId": b.topic_id(b.topic())}], AllowAutoTopicCreation=False)


@case("Metadata", since=10)
def unknown_name_and_unknown_id(b):
    b.ask(Topics=[{"Name": b.name(), "TopicId": random_uuid("metadata")}], AllowAutoTopicCreation=True)
    b.look(b.name())


@case("Metadata", since=12)
def ids_and_names(b):
    by_id, by_name = b.topic("by-id"), b.topic("by-name")
    b.ask(AllowAutoTopicCreation=False, Topics=[
        {"Name": by_name}, {"Name": None, "TopicId": b.topic_id(by_id)}, {"Name": b.name("unknown")},
        {"Name": None, "TopicId": random_uuid("metadata")},
    ])


@case("Metadata", since=12)
def several_ids(b):
    ids = [b.topic_id(b.topic("one")), random_uuid("metadata"), b.topic_id(b.topic("two")), random_uuid("more")]
    b.ask(Topics=[{"Name": None, "TopicId": one} for one in ids], AllowAutoTopicCreation=False)


@case("Metadata", since=12)
def id_twice(b):
    topic_id = b.topic_id(b.topic())
    b.ask(Topics=[{"Name": None, "TopicId": topic_id}] * 2, AllowAutoTopicCreation=False)


@case("Metadata", since=8)
def authorized_operations(b):
    b.ask(Topics=named(b.topic(), b.name("unknown")), AllowAutoTopicCreation=False,
          IncludeClusterAuthorizedOperations=True, IncludeTopicAuthorizedOperations=True)
