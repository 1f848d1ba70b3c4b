"""Makes two brokers' answers comparable, finds where they disagree, and excuses what is known to differ."""

import fnmatch
import json
import re
import tomllib
from typing import NamedTuple

import records
import schema

DROPPED = {"ThrottleTimeMs", "TotalBytes", "UsableBytes", "FinalizedFeaturesEpoch"}
# Another value on another broker; but there or not there (null, empty, negative, session 0) on both.
OPAQUE = {
    "Host": "host", "Port": "port", "ClusterId": "cluster", "LogDir": "folder", "SessionId": "session",
    "LeaderEpoch": "epoch", "PartitionLeaderEpoch": "epoch", "Epoch": "epoch", "ErrorMessage": "text",
    "BatchIndexErrorMessage": "text", "Documentation": "text",
}
NODES = {"NodeId", "BrokerId", "LeaderId", "ControllerId", "ReplicaNodes", "IsrNodes", "OfflineReplicas"}
TIMES = {"Timestamp", "LogAppendTimeMs", "BaseTimestamp", "MaxTimestamp", "TransactionStartTimeMs"}
# A time so soon after the run began is the broker's own clock: the cases keep away from it, by half an hour.
RUN_MS_MAX = 29 * 60_000
# Arrays whose order Kafka leaves to a hash table, or shuffles.
UNORDERED = {
    "Metadata": {"Topics", "Partitions"}, "Produce": {"Responses", "PartitionResponses"},
    "DeleteTopics": {"Responses"}, "CreatePartitions": {"Results"},
    "ListOffsets": {"Topics", "Partitions"}, "DescribeConfigs": {"Configs"}, "CreateTopics": {"Configs"},
    "DeleteRecords": {"Topics", "Partitions"}, "DescribeLogDirs": {"Topics", "Partitions"},
    "ApiVersions": {"SupportedFeatures", "FinalizedFeatures"},
    "JoinGroup": {"Members"}, "DescribeGroups": {"Groups", "Members"}, "ListGroups": {"Groups"},
    "DeleteGroups": {"Results"}, "OffsetCommit": {"Topics", "Partitions"},
    "OffsetDelete": {"Topics", "Partitions"},
    "AddPartitionsToTxn": {"ResultsByTransaction", "TopicResults", "ResultsByTopicV3AndBelow", "ResultsByPartition"},
    "TxnOffsetCommit": {"Topics", "Partitions"}, "WriteTxnMarkers": {"Markers", "Topics", "Partitions"},
    "DescribeTransactions": {"TransactionStates", "Topics", "Partitions"},
    "ListTransactions": {"TransactionStates", "UnknownStateFilters"}, "DescribeProducers": {"Topics", "Partitions", "ActiveProducers"},
}
MEMBER_IDS = {"MemberId", "Leader"}
# What a broker makes up behind the client's or the instance's id.
RANDOM_PART = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
ERRORS = {  # for whoever reads the differences
    -1: "UNKNOWN_SERVER_ERROR", 0: "NONE", 1: "OFFSET_OUT_OF_RANGE", 2: "CORRUPT_MESSAGE",
    3: "UNKNOWN_TOPIC_OR_PARTITION", 5: "LEADER_NOT_AVAILABLE", 6: "NOT_LEADER_OR_FOLLOWER",
    10: "MESSAGE_TOO_LARGE", 12: "OFFSET_METADATA_TOO_LARGE", 14: "COORDINATOR_LOAD_IN_PROGRESS",
    15: "COORDINATOR_NOT_AVAILABLE", 16: "NOT_COORDINATOR", 17: "INVALID_TOPIC_EXCEPTION",
    18: "RECORD_LIST_TOO_LARGE", 19: "NOT_ENOUGH_REPLICAS", 21: "INVALID_REQUIRED_ACKS", 22: "ILLEGAL_GENERATION",
    23: "INCONSISTENT_GROUP_PROTOCOL", 24: "INVALID_GROUP_ID", 25: "UNKNOWN_MEMBER_ID",
    26: "INVALID_SESSION_TIMEOUT", 27: "REBALANCE_IN_PROGRESS", 28: "INVALID_COMMIT_OFFSET_SIZE",
    32: "INVALID_TIMESTAMP", 35: "UNSUPPORTED_VERSION", 36: "TOPIC_ALREADY_EXISTS", 37: "INVALID_PARTITIONS",
    38: "INVALID_REPLICATION_FACTOR", 39: "INVALID_REPLICA_ASSIGNMENT", 40: "INVALID_CONFIG",
    41: "NOT_CONTROLLER", 42: "INVALID_REQUEST", 43: "UNSUPPORTED_FOR_MESSAGE_FORMAT", 44: "POLICY_VIOLATION",
    45: "OUT_OF_ORDER_SEQUENCE_NUMBER", 46: "DUPLICATE_SEQUENCE_NUMBER", 47: "INVALID_PRODUCER_EPOCH",
    48: "INVALID_TXN_STATE", 49: "INVALID_PRODUCER_ID_MAPPING", 50: "INVALID_TRANSACTION_TIMEOUT",
    51: "CONCURRENT_TRANSACTIONS", 52: "TRANSACTION_COORDINATOR_FENCED", 53: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
    55: "OPERATION_NOT_ATTEMPTED",
    56: "KAFKA_STORAGE_ERROR", 57: "LOG_DIR_NOT_FOUND", 59: "UNKNOWN_PRODUCER_ID",
    60: "REASSIGNMENT_IN_PROGRESS", 68: "NON_EMPTY_GROUP", 69: "GROUP_ID_NOT_FOUND",
    70: "FETCH_SESSION_ID_NOT_FOUND", 71: "INVALID_FETCH_SESSION_EPOCH", 74: "FENCED_LEADER_EPOCH",
    75: "UNKNOWN_LEADER_EPOCH", 76: "UNSUPPORTED_COMPRESSION_TYPE", 78: "OFFSET_NOT_AVAILABLE",
    79: "MEMBER_ID_REQUIRED", 81: "GROUP_MAX_SIZE_REACHED", 82: "FENCED_INSTANCE_ID",
    86: "GROUP_SUBSCRIBED_TO_TOPIC", 87: "INVALID_RECORD", 88: "UNSTABLE_OFFSET_COMMIT", 90: "PRODUCER_FENCED",
    95: "INVALID_UPDATE_VERSION", 100: "UNKNOWN_TOPIC_ID",
    103: "INCONSISTENT_TOPIC_ID", 105: "TRANSACTIONAL_ID_NOT_FOUND", 106: "FETCH_SESSION_TOPIC_ID_ERROR", 110: "FENCED_MEMBER_EPOCH",
    111: "UNRELEASED_INSTANCE_ID", 112: "UNSUPPORTED_ASSIGNOR", 113: "STALE_MEMBER_EPOCH", 120: "TRANSACTION_ABORTABLE",
    128: "INVALID_REGULAR_EXPRESSION",
}


class Normaliser:
    """Rewrites one broker's answers into what both brokers should say."""

    def __init__(self, broker, members):
        """`members`: the ids of group members that the case has met, in order."""
        self.broker = broker
        self.members = [one for one in members if RANDOM_PART.search(one)]

    def answer(self, what, answer):
        """`what` begins with the API."""
        self.unordered = UNORDERED.get(what.split()[0], ())
        return self.value(what, answer)

    def value(self, name, value):
        if isinstance(value, dict):
            return {key: self.value(key, one) for key, one in value.items() if key not in DROPPED}
        if name == "Records" and isinstance(value, (bytes, type(None))):
            return self.value("Batches", records.show(value))
        if isinstance(value, list):
            items = [self.value(name, one) for one in value]
            return without_order(items) if name in self.unordered else items
        if isinstance(value, bytes):
            return value.hex()
        return self._scalar(name, value)

    def _scalar(self, name, value):
        if name in ("TopicId", "TopicIds"):
            return "nothing" if value == schema.ZERO_UUID else self.broker.topic_names.get(value, value)
        if name in MEMBER_IDS and value in self.members:
            return RANDOM_PART.sub(f"member {self.members.index(value) + 1}", value)
        if name == "ProducerId":
            return value if value < 0 else "producer"
        if name in OPAQUE:
            plain = not value if name == "SessionId" or not isinstance(value, int) else value < 0
            return value if plain else OPAQUE[name]
        if name in NODES:
            return "this node" if value == self.broker.node_id else value
        if name in TIMES and isinstance(value, int) and 0 <= value - self.broker.now_ms < RUN_MS_MAX:
            return "the broker's time"
        if name.endswith("ErrorCode"):
            return f"{value} {ERRORS.get(value, '')}".strip()
        return value


def without_order(items):
    """By what names them, so that one more or less is one disagreement; sorted where names do not tell them apart."""
    named = {identity(one): one for one in items}
    if len(named) == len(items) and None not in named:
        return dict(sorted(named.items()))
    return sorted(items, key=lambda one: json.dumps(one, sort_keys=True))


def identity(item):
    if isinstance(item, dict):
        for field in ("Name", "Topic", "TopicId", "Index", "PartitionIndex", "Partition", "GroupId", "MemberId",
                  "TransactionalId"):
            if item.get(field) is not None:
                return str(item[field])
    return None


class Known(NamedTuple):
    """Disagreements that are meant to be: patterns of where they are and what is said, and why."""
    reason: str
    api: str
    case: str
    path: str = "*"
    kafka: str = "*"
    yagura: str = "*"

    def covers(self, result, path, kafka, yagura):
        found = result.api, result.name, path, kafka, yagura
        wanted = self.api, self.case, self.path, self.kafka, self.yagura
        return all(map(fnmatch.fnmatchcase, found, wanted))


def load_known(path):
    with open(path, "rb") as file:
        return [Known(**one) for one in tomllib.load(file).get("known", [])]


def disagreements(ours, theirs, path=""):
    """Yields (path, ours, theirs) for each leaf, length or key in which two answers differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours and theirs:
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            inner = f"{path}.{key}" if path else key
            yield from disagreements(ours.get(key, "(absent)"), theirs.get(key, "(absent)"), inner)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield f"{path}.length", f"{len(ours)}: {as_text(ours)}", f"{len(theirs)}: {as_text(theirs)}"
        for index, pair in enumerate(zip(ours, theirs)):
            yield from disagreements(*pair, f"{path}.{index}")
    elif ours != theirs:
        yield path, as_text(ours), as_text(theirs)


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value)
