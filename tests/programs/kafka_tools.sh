#!/usr/bin/env bash
# Shows that Kafka's command-line tools for transactions, configs and log dirs work against the broker.
#
#     KAFKA_LIBS=JARS kafka_tools.sh BOOTSTRAP {yagura|kafka} OPEN
#
# OPEN is the transactional id of a producer that has a transaction open in partition 0 of the topic `open`, from offset
# 0. kafka-transactions (list, describe, describe-producers, find-hanging, abort, forceTerminateTransaction),
# kafka-configs of compacted topics, kafka-log-dirs. kafka-streams-application-reset is tried with the word count.
set -euo pipefail

bootstrap=$1 kind=$2 open=$3
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../clients/tools.sh"

transactions() { server org.apache.kafka.tools.TransactionsCommand "$@"; }
configs() { server org.apache.kafka.tools.ConfigCommand --entity-type topics "$@"; }
console() {
    server org.apache.kafka.tools.consumer.ConsoleConsumer --topic open --partition 0 --offset earliest \
        --max-messages 1 "$@"
}
tab=$'\t'

# A list that is filtered, so that the open transaction is not in it.
without_it() {
    expect 0 "^TransactionalId[[:space:]]" transactions list "$@"
    ! grep -q "^$open" "$work/out" || fail "$* is ignored"
}

check_open_transaction() {
    expect 0 "^$open[[:space:]]+[0-9]+[[:space:]]+[0-9]+[[:space:]]+Ongoing" transactions list
    expect 0 "^$open[[:space:]].*Ongoing" transactions list --transactional-id-pattern 'op.*'
    without_it --transactional-id-pattern 'other.*'
    expect 0 "^$open[[:space:]].*Ongoing" transactions list --duration-filter 0
    without_it --duration-filter 86400000
    expect 0 "^[0-9]+[[:space:]]+$open([[:space:]]+[0-9]+){2}[[:space:]]+Ongoing([[:space:]]+[0-9]+){3}[[:space:]]+open-0" \
        transactions describe --transactional-id "$open"
    # Its last column is where its transaction begins.
    expect 0 "^[0-9]+[[:space:]]+[0-9]+[[:space:]]+-?[0-9]+[[:space:]]+[0-9]+[[:space:]]+[0-9]+[[:space:]]+0$" \
        transactions describe-producers --topic open --partition 0
    expect 0 "^in-doubt$" console --isolation-level read_uncommitted --timeout-ms 120000
    expect 0 "^Processed a total of 0 messages$" console --isolation-level read_committed --timeout-ms 3000
}

# No transaction of Yagura can be left hanging by a coordinator; and what a transactional id will end is not aborted here.
check_hanging() {
    expect 0 "^Topic[[:space:]]+Partition[[:space:]]+ProducerId" \
        transactions find-hanging --topic open --partition 0 --max-transaction-timeout 0
    ! grep -q "^open[[:space:]]" "$work/out" || fail "a transaction that is open counts as hanging"
    expect 0 "^Topic[[:space:]]+Partition[[:space:]]+ProducerId" \
        transactions find-hanging --broker-id "$(broker_id)" --max-transaction-timeout 0
    expect 1 "Could not find any open transactions starting at offset 17" \
        transactions abort --topic open --partition 0 --start-offset 17
    if [ "$kind" = yagura ]; then
        expect 1 "InvalidTxnState|invalid state" transactions abort --topic open --partition 0 --start-offset 0
        expect 0 "^$open[[:space:]].*Ongoing" transactions list
    fi
}

broker_id() { server org.apache.kafka.tools.BrokerApiVersionsCommand 2>/dev/null | sed -n 's/.*(id: \([0-9]*\) .*/\1/p' | head -1; }

check_termination() {
    expect 0 - transactions forceTerminateTransaction --transactionalId "$open"
    until_true is_ended
    expect 0 "^Processed a total of 0 messages$" console --isolation-level read_committed --timeout-ms 3000
    expect 0 "^[0-9]+[[:space:]].*[[:space:]]None$" transactions describe-producers --topic open --partition 0
    expect 0 "^open:0:2$" server org.apache.kafka.tools.GetOffsetShell --topic open --time latest
}

is_ended() { transactions list | grep -E "^$open[[:space:]]+[0-9]+[[:space:]]+[0-9]+[[:space:]]+Empty"; }

check_configs() {
    topics() { server org.apache.kafka.tools.TopicCommand "$@"; }
    expect 0 "^Created topic cleaned\.$" topics --create --topic cleaned --config cleanup.policy=compact \
        --config min.cleanable.dirty.ratio=0.3 --config delete.retention.ms=60000
    expect 0 "cleanup.policy=compact" topics --describe --topic cleaned
    expect 0 "cleanup.policy=compact .*DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact, DEFAULT_CONFIG:log.cleanup.policy=delete" \
        configs --entity-name cleaned --describe
    expect 0 "^Completed updating" configs --entity-name cleaned --alter \
        --add-config 'cleanup.policy=[compact,delete],min.compaction.lag.ms=1000,max.compaction.lag.ms=2000'
    expect 0 "cleanup.policy=compact,delete " configs --entity-name cleaned --describe
    for wrong in cleanup.policy=shrink min.cleanable.dirty.ratio=1.5 delete.retention.ms=-1 max.compaction.lag.ms=1; do
        expect 1 "InvalidConfigurationException" configs --entity-name cleaned --alter --add-config "$wrong"
    done
    expect 0 "^Completed updating" configs --entity-name cleaned --alter --delete-config cleanup.policy
    expect 0 "cleanup.policy=delete .*DEFAULT_CONFIG:log.cleanup.policy=delete" configs --entity-name cleaned --describe --all
    expect 0 "min.cleanable.dirty.ratio=0.3 " configs --entity-name cleaned --describe
}

# Keyless records have no place in a compacted topic.
check_keyless() {
    expect 0 "^Completed updating" configs --entity-name cleaned --alter --add-config cleanup.policy=compact
    echo keyless | server org.apache.kafka.tools.ConsoleProducer --topic cleaned >"$work/out" 2>&1 || true
    grep -q "InvalidRecordException" "$work/out" || fail "a record without a key was taken: $(cat "$work/out")"
    echo "key${tab}value" | server org.apache.kafka.tools.ConsoleProducer --topic cleaned --reader-property parse.key=true \
        >"$work/out" 2>&1 || fail "a record with a key: $(cat "$work/out")"
    ! grep ERROR "$work/out" || fail "a record with a key was refused"
    expect 0 "^cleaned:0:1$" server org.apache.kafka.tools.GetOffsetShell --topic cleaned --time latest
}

check_log_dirs() {
    expect 0 "\"partition\":\"open-0\",\"size\":[1-9][0-9]*,\"offsetLag\":0" \
        server org.apache.kafka.tools.LogDirsCommand --describe --topic-list open
    expect 0 "\"partition\":\"cleaned-0\",\"size\":[1-9]" server org.apache.kafka.tools.LogDirsCommand --describe
    expect 0 "\"broker\":$(broker_id),\"logDirs\"" \
        server org.apache.kafka.tools.LogDirsCommand --describe --broker-list "$(broker_id)"
}

check_open_transaction
check_hanging
check_termination
check_configs
check_keyless
check_log_dirs
echo "ok: $checks outputs as expected ($SECONDS s)"
