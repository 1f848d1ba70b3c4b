#!/usr/bin/env bash
# Shows that Kafka's command-line tools see the topics of both services as those of one cluster.
#
#     KAFKA_LIBS=JARS kafka_tools.sh BOOTSTRAP
set -euo pipefail

bootstrap=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../clients/tools.sh"

topics() { server org.apache.kafka.tools.TopicCommand "$@"; }
configs() { server org.apache.kafka.tools.ConfigCommand --entity-type topics "$@"; }
get_offsets() { server org.apache.kafka.tools.GetOffsetShell "$@"; }
console() { server org.apache.kafka.tools.consumer.ConsoleConsumer "$@"; }

for topic in kept.tools scratch.tools; do
    expect 0 "^Created topic $topic\.$" topics --create --topic "$topic" --partitions 2 --replication-factor 1
    seq 10 | server org.apache.kafka.tools.ConsoleProducer --request-timeout-ms 60000 --topic "$topic" >"$work/out" 2>&1
done
for topic in kept.tools scratch.tools; do
    expect 0 "^$topic$" topics --list
    expect 0 "^Topic: $topic.*PartitionCount: 2" topics --describe
    expect 0 "^$topic:0:[0-9]+$" get_offsets --topic-partitions "kept.tools:0,scratch.tools:0"
    expect 0 "^Completed updating" configs --entity-name "$topic" --alter --add-config retention.ms=3600000
    expect 0 "retention.ms=3600000 .*DYNAMIC_TOPIC_CONFIG" configs --entity-name "$topic" --describe
    expect 0 "^Dynamic configs for topic $topic are:" configs --describe
done
expect 0 "^Processed a total of 20 messages$" console --include "(kept|scratch)\.tools" --from-beginning --max-messages 20 \
    --timeout-ms 120000 --group tools
expect 0 "^tools +scratch.tools +0 " server org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --timeout 120000 --describe --group tools
expect 0 - topics --delete --topic "scratch\.tools"
expect 1 "does not exist" topics --describe --topic "scratch\.tools"
echo "kafka command-line tools on two services: $checks outputs as expected ($SECONDS s)"
