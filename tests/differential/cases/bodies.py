"""Bodies of every API that are cut off, too long, or count wrongly: is the connection closed?"""

import struct

from cases import case
from cases.cluster import SERVED
from schema import Raw, is_flexible, uvarint, within

TOPIC, GROUP, TRANSACTION = "no-such-topic", "no-such-group", "no-such-id"
TO_ADD = [{"Name": TOPIC, "Partitions": [0]}]
RESOURCE = {"ResourceType": 2, "ResourceName": TOPIC}
# A call with something in it that changes nothing.
HARMLESS = {
    "Produce": {"Acks": -1, "TimeoutMs": 1, "TopicData": [{"Name": TOPIC, "PartitionData": []}]},
    "Fetch": {"Topics": [{"Topic": TOPIC, "Partitions": []}]},
    "ListOffsets": {"Topics": [{"Name": TOPIC, "Partitions": []}]},
    "Metadata": {"Topics": [{"Name": "a b"}], "AllowAutoTopicCreation": False},
    "FindCoordinator": {"Key": "a-group", "CoordinatorKeys": ["a-group"]},
    "CreateTopics": {"Topics": [{"Name": "a b", "NumPartitions": 1, "ReplicationFactor": 1}], "validateOnly": True},
    "DeleteTopics": {"Topics": [{"Name": TOPIC}], "TopicNames": [TOPIC], "TimeoutMs": 1000},
    "DeleteRecords": {"Topics": [{"Name": TOPIC, "Partitions": []}], "TimeoutMs": 1000},
    "InitProducerId": {"TransactionalId": "", "TransactionTimeoutMs": 1000},
    "OffsetForLeaderEpoch": {"Topics": [{"Topic": TOPIC, "Partitions": []}]},
    "DescribeConfigs": {"Resources": [RESOURCE | {"ConfigurationKeys": ["x"]}]},
    "AlterConfigs": {"Resources": [RESOURCE | {"Configs": []}]},
    "IncrementalAlterConfigs": {"Resources": [RESOURCE | {"Configs": []}]},
    "DescribeLogDirs": {"Topics": [{"Topic": TOPIC, "Partitions": [0]}]},
    "CreatePartitions": {"Topics": [{"Name": TOPIC, "Count": 2, "Assignments": None}], "TimeoutMs": 1000},
    "DescribeCluster": {},
    "DescribeTopicPartitions": {"Topics": [{"Name": TOPIC}]},
    "JoinGroup": {"GroupId": "", "ProtocolType": "consumer", "Protocols": [{"Name": "range"}]},
    "SyncGroup": {"GroupId": "", "Assignments": [{"MemberId": "a-member"}]},
    "Heartbeat": {"GroupId": "", "MemberId": "a-member"},
    "LeaveGroup": {"GroupId": "", "MemberId": "a-member", "Members": [{"MemberId": "a-member"}]},
    "OffsetCommit": {"GroupId": GROUP, "Topics": [{"Name": TOPIC, "Partitions": []}]},
    "OffsetFetch": {"GroupId": GROUP, "Topics": [{"Name": TOPIC, "PartitionIndexes": [0]}],
                    "Groups": [{"GroupId": GROUP, "Topics": [{"Name": TOPIC, "PartitionIndexes": [0]}]}]},
    "OffsetDelete": {"GroupId": GROUP, "Topics": [{"Name": TOPIC, "Partitions": [{"PartitionIndex": 0}]}]},
    "DescribeGroups": {"Groups": [GROUP]},
    "ListGroups": {"StatesFilter": ["Dead"], "TypesFilter": ["share"]},
    "DeleteGroups": {"GroupsNames": [GROUP]},
    "AddPartitionsToTxn": {"V3AndBelowTransactionalId": TRANSACTION, "V3AndBelowTopics": TO_ADD,
                           "Transactions": [{"TransactionalId": TRANSACTION, "VerifyOnly": True, "Topics": TO_ADD}]},
    "AddOffsetsToTxn": {"TransactionalId": TRANSACTION, "GroupId": GROUP},
    "EndTxn": {"TransactionalId": TRANSACTION},
    "TxnOffsetCommit": {"TransactionalId": TRANSACTION, "GroupId": GROUP, "Topics": [
        {"Name": TOPIC, "Partitions": [{"PartitionIndex": 0, "CommittedMetadata": "x"}]}]},
    "DescribeTransactions": {"TransactionalIds": [TRANSACTION]},
    "ListTransactions": {"StateFilters": ["Dead"], "ProducerIdFilters": [2**62], "TransactionalIdPattern": TRANSACTION},
    "DescribeProducers": {"Topics": [{"Name": TOPIC, "PartitionIndexes": [0]}]},
    "WriteTxnMarkers": {"Markers": [{"ProducerId": 2**62, "Topics": [{"Name": TOPIC, "PartitionIndexes": [0]}]}]},
    "ApiVersions": {"ClientSoftwareName": "a-client", "ClientSoftwareVersion": "1"},
}


def answered(answer):
    """What it says is told by other cases."""
    return {"answered": bool(answer)}


def each_api(function):
    for api in SERVED:
        case(api)(function)
    return function


@each_api
def body_as_it_should_be(b):
    b.ask_bytes(b.body(**HARMLESS[b.api]), answered)


@each_api
def body_empty(b):
    b.ask_bytes(b"", answered)


@each_api
def body_cut_off(b):
    """By its last byte, and in the middle."""
    body = b.body(**HARMLESS[b.api])
    for length in sorted({len(body) - 1, len(body) // 2} - {-1}):
        b.ask_bytes(body[:length], answered)


@each_api
def body_with_bytes_behind(b):
    """Kafka does not look further than it must."""
    b.ask_bytes(b.body(**HARMLESS[b.api]) + b"more", answered)


@each_api
def body_with_an_unknown_tag(b):
    if is_flexible(b.broker.apis[b.api].request, b.version):
        body = b.body(**HARMLESS[b.api])
        b.ask_bytes(body[:-1] + b"\1\x63\2ab", answered)


@each_api
def body_with_counts(b):
    """In front of the first array, where there is one, stand all kinds of counts; the largest come last."""
    fields, request = HARMLESS[b.api], b.broker.apis[b.api].request
    present = [one["name"] for one in request["fields"] if within(b.version, one["versions"])]
    arrays = [name for name in present if isinstance(fields.get(name), list)]
    if not arrays:
        return
    flexible = is_flexible(request, b.version)
    for count in (-2, 1000, 1 << 28, 2**31 - 1):
        raw = uvarint(count + 1 & 0xFFFFFFFF) if flexible else struct.pack(">i", count)
        b.ask_bytes(b.body(**fields | {arrays[0]: Raw(raw)}), answered)
