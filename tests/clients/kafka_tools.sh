#!/usr/bin/env bash
# Shows that Kafka's own command-line tools work against the broker, run as their scripts run them.
#
#     KAFKA_LIBS=JARS kafka_tools.sh BOOTSTRAP DATASET CODECS PREFIX
#
# For each codec, kafka-console-producer sends a part of the data set with keys, headers and nulls, and
# kafka-console-consumer reads it back, partition by partition; every line is compared (console_lines.py). Then
# kafka-topics, kafka-configs, kafka-get-offsets, kafka-log-dirs, kafka-delete-records, kafka-producer-perf-test
# and kafka-broker-api-versions, each with the output it must print. No tool here needs a consumer group.
set -euo pipefail

bootstrap=$1 dataset=$2 codecs=${3//,/ } prefix=$4
here=$(cd "$(dirname "$0")" && pwd)
partitions=3
. "$here/tools.sh"

topics() { server org.apache.kafka.tools.TopicCommand "$@"; }
configs() { server org.apache.kafka.tools.ConfigCommand --entity-type topics --entity-name "$@"; }
get_offsets() { server org.apache.kafka.tools.GetOffsetShell "$@"; }

# produce TOPIC CODEC LINES
produce() {
    server org.apache.kafka.tools.ConsoleProducer --request-timeout-ms 60000 --topic "$1" --compression-codec "$2" --batch-size 131072 \
        --reader-property parse.key=true --reader-property parse.headers=true --reader-property null.marker=NULL \
        <"$3" >"$work/out" 2>&1 || fail "console producer: $(cat "$work/out")"
    # It reports lost records in its log only.
    ! grep ERROR "$work/out" || fail "console producer: an error in its log"
}

# consume TOPIC PARTITION COUNT
consume() {
    server org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$1" --partition "$2" --offset earliest \
        --max-messages "$3" --timeout-ms 120000 \
        --formatter-property print.timestamp=true --formatter-property print.partition=true --formatter-property print.offset=true \
        --formatter-property print.headers=true --formatter-property print.key=true --formatter-property null.literal=NULL 2>"$work/err" ||
        fail "console consumer: $(cat "$work/err")"
}

round_trip() { # CODEC LINES
    local topic=$prefix-$1 lines=$2 offsets files=()
    expect 0 "^Created topic $topic\.$" topics --create --topic "$topic" --partitions $partitions --replication-factor 1
    produce "$topic" "$1" "$lines"
    offsets=$(get_offsets --topic "$topic" --time latest 2>/dev/null)
    for ((p = 0; p < partitions; p++)); do
        files+=("$work/read-$p")
        consume "$topic" $p "$(sed -n "s/^$topic:$p://p" <<<"$offsets")" >"$work/read-$p"
    done
    python3 "$here/console_lines.py" check --lines "$lines" "${files[@]}"
}

check_topics() {
    local topic=$prefix-admin
    expect 0 "^Created topic $topic\.$" topics --create --topic "$topic" --partitions 3 --config retention.ms=-1
    expect 1 "TopicExistsException" topics --create --topic "$topic"
    expect 0 - topics --create --topic "$topic" --if-not-exists
    expect 0 "^$topic$" topics --list
    expect 0 "PartitionCount: 3.*ReplicationFactor: 1.*retention.ms=-1" topics --describe --topic "$topic"
    expect 0 - topics --alter --topic "$topic" --partitions 5
    expect 0 "Partition: 4.*Leader: [0-9]+.*Isr: [0-9]+" topics --describe --topic "$topic"
    expect 1 "InvalidPartitionsException" topics --alter --topic "$topic" --partitions 2
    expect 1 "does not exist" topics --describe --topic "$topic-none"
}

check_configs() {
    local topic=$prefix-admin
    expect 0 "retention.ms=-1 .*DYNAMIC_TOPIC_CONFIG:retention.ms=-1" configs "$topic" --describe
    expect 0 "max.message.bytes=1048588 .*DEFAULT_CONFIG:message.max.bytes=1048588" configs "$topic" --describe --all
    expect 0 "^Completed updating" configs "$topic" --alter --add-config retention.ms=3600000,max.message.bytes=2000000
    expect 0 "max.message.bytes=2000000 .*DYNAMIC_TOPIC_CONFIG" configs "$topic" --describe
    expect 0 "^Completed updating" configs "$topic" --alter --delete-config max.message.bytes
    expect 0 "max.message.bytes=1048588 " configs "$topic" --describe --all
    expect 1 "InvalidConfigurationException" configs "$topic" --alter --add-config retention.mss=1
    # What families of tools set on the topics that they make; Yagura keeps it, and does nothing with it.
    expect 0 "^Completed updating" configs "$topic" --alter \
        --add-config segment.bytes=52428800,segment.ms=600000,min.insync.replicas=1,unclean.leader.election.enable=true
    expect 0 "segment.bytes=52428800 .*DYNAMIC_TOPIC_CONFIG:segment.bytes=52428800, DEFAULT_CONFIG:log.segment.bytes=1073741824" \
        configs "$topic" --describe
    expect 1 "InvalidConfigurationException" configs "$topic" --alter --add-config remote.storage.enable=true
}

# Partition 0 of the perf topic has 20,000 records, the first 100 of which are then deleted.
check_offsets_and_records() {
    local topic=$prefix-perf
    topics --create --topic "$topic" --partitions 1 >"$work/out" 2>&1
    expect 0 "^20000 records sent, .* records/sec .*99.9th" tool org.apache.kafka.tools.ProducerPerformance \
        --topic "$topic" --num-records 20000 --record-size 200 --throughput -1 \
        --producer-props bootstrap.servers="$bootstrap" compression.type=lz4
    for time in -1 latest; do expect 0 "^$topic:0:20000$" get_offsets --topic "$topic" --time $time; done
    for time in -2 earliest -4 earliest-local 1000; do
        expect 0 "^$topic:0:0$" get_offsets --topic "$topic" --time $time
    done
    for time in -3 max-timestamp; do expect 0 "^$topic:0:[0-9]+$" get_offsets --topic "$topic" --time $time; done
    # Nothing is tiered, and nothing is newer than 2100: such a partition is left out of the answer.
    for time in -5 latest-tiered 4102444800000; do expect 0 - get_offsets --topic "$topic" --time $time; done
    expect 0 "\"partition\":\"$topic-0\",\"size\":[1-9]" \
        server org.apache.kafka.tools.LogDirsCommand --describe --topic-list "$topic"
    echo '{"partitions":[{"topic":"'"$topic"'","partition":0,"offset":100}],"version":1}' >"$work/delete.json"
    expect 0 "^partition: $topic-0[[:space:]]low_watermark: 100$" \
        server org.apache.kafka.tools.DeleteRecordsCommand --offset-json-file "$work/delete.json"
    expect 0 "^$topic:0:100$" get_offsets --topic "$topic" --time earliest
    expect 0 "^CreateTime:[0-9]+.Partition:0.Offset:100.NO_HEADERS.NULL.[A-Z]{200}$" consume "$topic" 0 1
}

check_deletion() {
    expect 0 - topics --delete --topic "$prefix-admin"
    expect 1 "does not exist" topics --describe --topic "$prefix-admin"
}

total=$(python3 "$here/console_lines.py" make --dataset "$dataset" --parts "$(wc -w <<<"$codecs")" --out "$work/lines")
index=0
for codec in $codecs; do
    round_trip "$codec" "$work/lines-$index"
    index=$((index + 1))
done
check_topics
check_configs
check_offsets_and_records
expect 0 "Produce\(0\): 0 to 1[0-9] \[usable: " server org.apache.kafka.tools.BrokerApiVersionsCommand
check_deletion
echo "kafka command-line tools: $total lines, $codecs: all read back as produced; $checks outputs as expected ($SECONDS s)"
