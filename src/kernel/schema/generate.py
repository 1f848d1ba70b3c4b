#!/usr/bin/env python3
"""Writes table.rs, the message definitions of Kafka as Rust data, from the JSON files in the kafka-clients jar.

    generate.py JAR           write table.rs beside this script
    generate.py JAR --list    print the APIs with their keys and versions instead

The jar is org.apache.kafka:kafka-clients:4.1.1. With that artifact as a dependency in a pom.xml,
`mvn dependency:copy-dependencies` puts it into target/dependency. Later versions of the jar should work as well: the
script stops at types it does not know and at fields whose meaning nobody has decided yet (see UNDECIDED).
"""

import argparse
import json
import pathlib
import re
import zipfile

DIRECTIONS = {"request": 0, "response": 1}  # The order of `Direction`.
LINE = 150
LATER = 32767  # i16::MAX, the end of "3+".

KINDS = {
    "bool": "Bool", "int8": "Int8", "int16": "Int16", "uint16": "Uint16", "int32": "Int32", "uint32": "Uint32",
    "int64": "Int64", "float64": "Float64", "uuid": "Uuid", "string": "String", "bytes": "Bytes", "records": "Records",
}

# Marks by the schema's own entityType.
ENTITIES = {
    "topicName": "TopicName",
    "groupId": "GroupId",
    "transactionalId": "TransactionalId",
    "producerId": "ProducerId",
    "brokerId": "BrokerId",
}

# Marks by name and type, where the schema has no entityType.
RULES = {
    ("ErrorCode", "int16"): "ErrorCode",
    ("ErrorMessage", "string"): "ErrorMessage",
    ("ThrottleTimeMs", "int32"): "ThrottleTime",
    ("TopicId", "uuid"): "TopicId",
    ("TopicIds", "[]uuid"): "TopicId",
    ("Index", "int32"): "Partition",
    ("Partition", "int32"): "Partition",
    ("PartitionId", "int32"): "Partition",
    ("PartitionIndex", "int32"): "Partition",
    ("PartitionIndexes", "[]int32"): "Partition",
    ("Partitions", "[]int32"): "Partition",
    ("Host", "string"): "Host",
    ("Port", "int32"): "Port",
    ("Port", "uint16"): "Port",
}

# Marks of single fields, over everything above: message, struct type unless at the top, field.
OVERRIDES = {
    # The APIs of the share coordinator: the group whose state it keeps.
    "InitializeShareGroupStateRequest.GroupId": "GroupId",
    "ReadShareGroupStateRequest.GroupId": "GroupId",
    "WriteShareGroupStateRequest.GroupId": "GroupId",
    "DeleteShareGroupStateRequest.GroupId": "GroupId",
    "ReadShareGroupStateSummaryRequest.GroupId": "GroupId",
    # Node ids of voters, as in Vote and BeginQuorumEpoch, where the same field has the entityType.
    "AddRaftVoterRequest.VoterId": "BrokerId",
    "RemoveRaftVoterRequest.VoterId": "BrokerId",
    "UpdateRaftVoterRequest.VoterId": "BrokerId",
    # What PreferredCandidates, which has the entityType, replaced in version 1.
    "EndQuorumEpochRequest.PartitionData.PreferredSuccessors": "BrokerId",
    # A node id of the same number space as brokers'; DescribeCluster and Metadata give theirs the entityType.
    "ControllerRegistrationRequest.ControllerId": "BrokerId",
    # The leader of a partition, which Produce and Fetch give the entityType in the very same struct.
    "ShareAcknowledgeResponse.LeaderIdAndEpoch.LeaderId": "BrokerId",
    "ShareFetchResponse.LeaderIdAndEpoch.LeaderId": "BrokerId",
    # Errors by another name: the only error that versions 0 to 3 have for a partition, ...
    "AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult.PartitionErrorCode": "ErrorCode",
    # ... why the configs of a topic are missing, ...
    "CreateTopicsResponse.CreatableTopicResult.TopicConfigErrorCode": "ErrorCode",
    # ... how the acknowledgements that came with a fetch went, ...
    "ShareFetchResponse.PartitionData.AcknowledgeErrorCode": "ErrorCode",
    "ShareFetchResponse.PartitionData.AcknowledgeErrorMessage": "ErrorMessage",
    # ... and which record of a batch was at fault.
    "ProduceResponse.BatchIndexAndErrorMessage.BatchIndexErrorMessage": "ErrorMessage",
    # The number of partitions of a topic, not which one.
    "StreamsGroupDescribeResponse.TopicInfo.Partitions": None,
    "StreamsGroupHeartbeatRequest.TopicInfo.Partitions": None,
    # Numbers of tasks of a subtopology: they belong to all its co-partitioned topics, and no topic stands beside them.
    "StreamsGroupDescribeResponse.TaskIds.Partitions": None,
    "StreamsGroupDescribeResponse.TaskOffset.Partition": None,
    "StreamsGroupHeartbeatRequest.TaskIds.Partitions": None,
    "StreamsGroupHeartbeatRequest.TaskOffset.Partition": None,
    "StreamsGroupHeartbeatResponse.TaskIds.Partitions": None,
    # Positions in the lists of topics of the enclosing subtopology, not names.
    "StreamsGroupHeartbeatRequest.CopartitionGroup.SourceTopics": None,
    "StreamsGroupHeartbeatRequest.CopartitionGroup.RepartitionSourceTopics": None,
    # Where a Streams application answers interactive queries: an address of a client, not of a broker.
    "StreamsGroupDescribeResponse.Endpoint.Host": None,
    "StreamsGroupDescribeResponse.Endpoint.Port": None,
    "StreamsGroupHeartbeatRequest.Endpoint.Host": None,
    "StreamsGroupHeartbeatRequest.Endpoint.Port": None,
    "StreamsGroupHeartbeatResponse.Endpoint.Host": None,
    "StreamsGroupHeartbeatResponse.Endpoint.Port": None,
    # Hosts that an access rule is about, "*" among them.
    "CreateAclsRequest.AclCreation.Host": None,
    "DeleteAclsResponse.DeleteAclsMatchingAcl.Host": None,
    "DescribeAclsResponse.AclDescription.Host": None,
    # Where a member of a group connected from.
    "ConsumerGroupDescribeResponse.Member.ClientHost": None,
    "DescribeGroupsResponse.DescribedGroupMember.ClientHost": None,
    "ShareGroupDescribeResponse.Member.ClientHost": None,
    "StreamsGroupDescribeResponse.Member.ClientHost": None,
    # A group id, a transactional id or a share partition, depending on KeyType.
    "FindCoordinatorRequest.Key": None,
    "FindCoordinatorRequest.CoordinatorKeys": None,
    "FindCoordinatorResponse.Coordinator.Key": None,
    # A topic, a broker, a group, ... depending on ResourceType.
    "AlterConfigsRequest.AlterConfigsResource.ResourceName": None,
    "AlterConfigsResponse.AlterConfigsResourceResponse.ResourceName": None,
    "CreateAclsRequest.AclCreation.ResourceName": None,
    "DeleteAclsResponse.DeleteAclsMatchingAcl.ResourceName": None,
    "DescribeAclsResponse.DescribeAclsResource.ResourceName": None,
    "DescribeConfigsRequest.DescribeConfigsResource.ResourceName": None,
    "DescribeConfigsResponse.DescribeConfigsResult.ResourceName": None,
    "IncrementalAlterConfigsRequest.AlterConfigsResource.ResourceName": None,
    "IncrementalAlterConfigsResponse.AlterConfigsResourceResponse.ResourceName": None,
    "ListConfigResourcesResponse.ConfigResource.ResourceName": None,
}

# Names that suggest a mark. Such a field must get one or be in OVERRIDES, so that a new version of the schema
# cannot add a topic name or an address that no layer sees.
UNDECIDED = re.compile(
    r"(Topics?|Topic(Id|Name)s?|Groups?|GroupIds?|(?<!Num)Partitions?|PartitionI\w+|^Index|Host(name)?|Port"
    r"|ErrorCode|ErrorMessage|(Broker|Node|Leader|Replica|Voter|Candidate|Controller|Producer|Transactional)Ids?"
    r"|Successors|Replicas|CoordinatorKeys|ResourceName)$"
)

HEADER = """\
//! Kafka's messages, generated by `generate.py` from the definitions in kafka-clients {version}; do not edit.
//!
//! The definitions are part of Apache Kafka, which is licensed under the Apache License 2.0.

use super::definition::Direction::{{self, Request, Response}};
use super::definition::{{Field, Kind, Mark, Message, Versions}};

const NONE: Versions = Versions::NONE;
/// "And all later versions".
const M: i16 = i16::MAX;

const fn v(min: i16, max: i16) -> Versions {{
    Versions::range(min, max)
}}

const fn m(
    api: &'static str,
    api_key: i16,
    direction: Direction,
    versions: Versions,
    flexible: Versions,
    fields: &'static [Field],
) -> Message {{
    Message {{ api, api_key, direction, versions, flexible, fields }}
}}

const fn f(name: &'static str, kind: Kind, versions: Versions) -> Field {{
    Field {{ name, kind, versions, nullable: NONE, tag: None, default: "", mark: Mark::None }}
}}

impl Field {{
    const fn nullable(mut self, versions: Versions) -> Self {{
        self.nullable = versions;
        self
    }}

    const fn tag(mut self, tag: u32, versions: Versions) -> Self {{
        self.tag = Some((tag, versions));
        self
    }}

    const fn default(mut self, default: &'static str) -> Self {{
        self.default = default;
        self
    }}

    const fn mark(mut self, mark: Mark) -> Self {{
        self.mark = mark;
        self
    }}
}}

/// Every message, by API key, the request before its response. An API that Kafka has dropped, or has only unstable
/// versions of, has none here.
pub static MESSAGES: &[Message] = &[
{index}
];
"""


# --- Reading ----------------------------------------------------------------------------------------------------------

def read_jar(path):
    """The version of the jar and its requests and responses, in the order of the table."""
    with zipfile.ZipFile(path) as jar:
        properties = jar.read("kafka/kafka-version.properties").decode()
        names = [n for n in jar.namelist() if re.fullmatch(r"common/message/\w+\.json", n)]
        specs = [parse(jar.read(n).decode()) for n in names]
    version = re.search(r"^version=(\S+)", properties, re.M).group(1)
    messages = [s for s in specs if s["type"] in DIRECTIONS]
    return version, sorted(messages, key=lambda s: (s["apiKey"], DIRECTIONS[s["type"]]))


def parse(text):
    """JSON with comments, which only ever fill a line of their own."""
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))


def versions(text):
    """A range as (min, max), or None where there is no version."""
    if text == "none":
        return None
    low, _, high = text.partition("-")
    if low.endswith("+"):
        return int(low[:-1]), LATER
    return int(low), int(high or low)


def intersect(a, b):
    if a is None or b is None:
        return None
    low, high = max(a[0], b[0]), min(a[1], b[1])
    return (low, high) if low <= high else None


def unstable_keys(specs):
    """Keys of the APIs whose latest version is unstable. Only the request says so, for both."""
    return {s["apiKey"] for s in specs if s.get("latestVersionUnstable")}


def stable(spec, unstable):
    valid = versions(spec["validVersions"])
    if valid and spec["apiKey"] in unstable:
        return intersect(valid, (valid[0], valid[1] - 1))
    return valid


def flexible(spec):
    return versions(spec.get("flexibleVersions", "none"))


def api(spec):
    return re.sub(r"(Request|Response)$", "", spec["name"])


def structs(spec):
    """The struct types that a message uses, by name and in order of use; "" is the message itself."""
    common = {struct["name"]: struct["fields"] for struct in spec.get("commonStructs", [])}
    found = {}

    def add(name, fields):
        if fields is None:
            raise SystemExit(f"{spec['name']}: unknown type {name}")
        if found.get(name, fields) is not fields:
            raise SystemExit(f"{spec['name']}: two structs called {name}")
        if name in found:
            return
        found[name] = fields
        for field in fields:
            inner = element(field["type"])
            if inner not in KINDS:
                add(inner, field.get("fields", common.get(inner)))

    add("", spec.get("fields", []))
    return found


def element(kind):
    return kind[2:] if kind.startswith("[]") else kind


# --- Meaning ----------------------------------------------------------------------------------------------------------

def place(spec, struct, field):
    return ".".join(filter(None, (spec["name"], struct, field["name"])))


def mark(where, field):
    if where in OVERRIDES:
        return OVERRIDES[where]
    if "entityType" in field:
        return ENTITIES[field["entityType"]]
    if field["type"] == "records":
        return "Records"
    return RULES.get((field["name"], field["type"]))


def check_marks(specs):
    """Stops at a field that ought to be decided on, and at a decision about a field that is not there."""
    seen = set()
    for spec in specs:
        for struct, fields in structs(spec).items():
            for field in fields:
                where = place(spec, struct, field)
                seen.add(where)
                decided = where in OVERRIDES or mark(where, field) or element(field["type"]) not in KINDS
                if UNDECIDED.search(field["name"]) and not decided:
                    raise SystemExit(f"{where} ({field['type']}): no mark; decide in OVERRIDES")
    stale = sorted(set(OVERRIDES) - seen)
    if stale:
        raise SystemExit(f"OVERRIDES for fields that do not exist: {', '.join(stale)}")


# --- Writing ----------------------------------------------------------------------------------------------------------

def constant(spec, struct=""):
    """PRODUCE_REQUEST_TOPIC_PRODUCE_DATA for the struct TopicProduceData of ProduceRequest."""
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z0-9]+|[A-Z]+", spec["name"] + struct)
    return "_".join(words).upper()


def rust_versions(span):
    if span is None:
        return "NONE"
    return f"v({span[0]}, {'M' if span[1] == LATER else span[1]})"


def rust_kind(spec, kind):
    if kind.startswith("[]"):
        return f"Kind::Array(&{rust_kind(spec, kind[2:])})"
    if kind in KINDS:
        return f"Kind::{KINDS[kind]}"
    return f"Kind::Struct(&{constant(spec, kind)})"


def rust_default(value):
    """The default as text: the schema writes numbers and booleans both bare and quoted."""
    return value if isinstance(value, str) else json.dumps(value)


def rust_field(spec, struct, field):
    span = versions(field["versions"])
    head = f"f({json.dumps(field['name'])}, {rust_kind(spec, field['type'])}, {rust_versions(span)})"
    calls = []
    nullable = intersect(span, versions(field.get("nullableVersions", "none")))
    if nullable:
        calls.append(f".nullable({rust_versions(nullable)})")
    if "tag" in field:
        tagged = intersect(span, versions(field["taggedVersions"]))
        calls.append(f".tag({field['tag']}, {rust_versions(tagged)})")
    default = rust_default(field.get("default", ""))
    if default:
        calls.append(f".default({json.dumps(default)})")
    meaning = mark(place(spec, struct, field), field)
    if meaning:
        calls.append(f".mark(Mark::{meaning})")
    return fold("    " + head, calls)


def fold(head, calls):
    """One line, or the calls on a second one where that would be too long."""
    line = head + "".join(calls) + ","
    return line if len(line) <= LINE else f"{head}\n        {''.join(calls)},"


def rust_struct(spec, struct, fields):
    name = constant(spec, struct)
    lines = [rust_field(spec, struct, field) for field in fields]
    return "\n".join([f"static {name}: [Field; {len(fields)}] = [", *lines, "];\n"])


def rust_message(spec, unstable):
    parts = [
        json.dumps(api(spec)),
        str(spec["apiKey"]),
        spec["type"].capitalize(),
        rust_versions(stable(spec, unstable)),
        rust_versions(flexible(spec)),
        "&" + constant(spec) if spec.get("fields") else "&[]",
    ]
    return f"    m({', '.join(parts)}),"


def table(version, specs):
    unstable = unstable_keys(specs)
    index = "\n".join(rust_message(spec, unstable) for spec in specs)
    chunks = [HEADER.format(version=version, index=index)]
    for spec in specs:
        chunks += [rust_struct(spec, name, fields) for name, fields in structs(spec).items() if fields]
    text = "\n".join(chunks)
    names = re.findall(r"^static (\w+)", text, re.M)
    if len(names) != len(set(names)):
        raise SystemExit("two structs share a name")
    return text


def plain_versions(span):
    if span is None:
        return "none"
    return f"{span[0]}+" if span[1] == LATER else f"{span[0]}-{span[1]}"


def listing(specs):
    unstable = unstable_keys(specs)
    rows = [("key", "API", "direction", "versions", "flexible")]
    for spec in specs:
        spans = plain_versions(stable(spec, unstable)), plain_versions(flexible(spec))
        rows.append((spec["apiKey"], api(spec), spec["type"], *spans))
    return "\n".join("{:>3}  {:<28} {:<9}  {:<8}  {}".format(*row) for row in rows)


def main():
    parser = argparse.ArgumentParser(description="Generate table.rs from Kafka's message definitions.")
    parser.add_argument("jar", help="path of kafka-clients-4.1.1.jar")
    parser.add_argument("--list", action="store_true", help="print API names, keys and versions; write nothing")
    args = parser.parse_args()
    version, specs = read_jar(args.jar)
    if args.list:
        print(listing(specs))
        return
    check_marks(specs)
    pathlib.Path(__file__).with_name("table.rs").write_text(table(version, specs), encoding="utf-8")


if __name__ == "__main__":
    main()
