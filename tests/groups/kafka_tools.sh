#!/usr/bin/env bash
# Shows that Kafka's command-line tools for groups, and those that look at a cluster, work against the broker.
#
#     KAFKA_LIBS=JARS kafka_tools.sh BOOTSTRAP
#
# kafka-verifiable-producer and -consumer, kafka-console-consumer --group by both protocols, kafka-consumer-groups (list,
# describe, reset-offsets in all its forms, delete-offsets, delete) and kafka-groups; kafka-features,
# kafka-configs of groups, kafka-client-metrics, kafka-metadata-quorum, kafka-transactions, kafka-cluster,
# kafka-broker-api-versions; kcat -G.
set -euo pipefail

bootstrap=$1
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../clients/tools.sh"

topics() { server org.apache.kafka.tools.TopicCommand "$@"; }
# By itself it waits 5 s for an answer.
groups() { server org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --timeout 120000 "$@"; }
console() { server org.apache.kafka.tools.consumer.ConsoleConsumer --topic jobs "$@"; }
verifiable_consumer() {
    server org.apache.kafka.tools.VerifiableConsumer --topic jobs --max-messages 3000 --reset-policy earliest "$@"
}
reset() { groups --reset-offsets --group "$@"; }

# offset GROUP PARTITION: where it stands, as the tool shows it
offset() { groups --describe --group "$1" --offsets 2>/dev/null | awk -v at="$2" '$2 == "jobs" && $3 == at {print $4}'; }

# moved GROUP OFFSETS OPTION...: a reset that is carried out, and where the three partitions stand after it
moved() {
    local group=$1 wanted=$2 now
    shift 2
    expect 0 "^$group +jobs +0 +[0-9]+" reset "$group" "$@" --execute
    now="$(offset "$group" 0) $(offset "$group" 1) $(offset "$group" 2)"
    [ "$now" = "$wanted" ] || fail "after $*: $now, not $wanted"
}

check_programs() {
    expect 0 "^Created topic jobs\.$" topics --create --topic jobs --partitions 3 --replication-factor 1
    for topic in verified-jobs idempotent; do
        expect 0 "^Created topic $topic\.$" topics --create --topic $topic --partitions 1 --replication-factor 1
    done
    expect 0 '"name":"tool_data","sent":3000,"acked":3000,' \
        server org.apache.kafka.tools.VerifiableProducer --topic verified-jobs --max-messages 3000 --acks -1
    seq 10 | server org.apache.kafka.tools.ConsoleProducer --request-timeout-ms 60000 --topic idempotent >"$work/out" 2>&1
    for partition in 0 1 2; do seq 1000 | kcat -P -b "$bootstrap" -t jobs -p $partition; done
    expect 0 '"name":"records_consumed".*"count"' verifiable_consumer --group-id verified
    expect 0 '"name":"records_consumed".*"count"' verifiable_consumer --group-id verified-by-broker --group-protocol consumer
    for protocol in classic consumer; do
        expect 0 "^Processed a total of 100 messages$" console --group "console-$protocol" --from-beginning \
            --max-messages 100 --timeout-ms 120000 --command-property "group.protocol=$protocol"
    done
    expect 0 "^[0-9]+$" timeout 180 kcat -b "$bootstrap" -G kcat -X auto.offset.reset=earliest -c 3000 jobs
}

# has_state GROUP STATE MEMBERS
has_state() {
    groups --describe --group "$1" --state >"$work/states" 2>&1 || true
    cat "$work/states"
    grep -qE "$2 +$3[[:space:]]*$" "$work/states"
}

# A client that has no time to leave is here until its session is over.
nobody_is_left() {
    groups --list --state >"$work/states" && ! grep -E "Stable|Rebalance|Assigning|Reconciling" "$work/states"
}

check_list_and_describe() {
    until_true nobody_is_left
    expect 0 "^verified$" groups --list
    expect 0 "^verified +Empty$" groups --list --state
    expect 0 "^verified +Empty$" groups --list --state Empty
    expect 0 "^GROUP +STATE$" groups --list --state Stable
    expect 0 "^verified-by-broker +Consumer$" groups --list --type
    expect 0 "^kcat +Classic$" groups --list --type classic
    expect 0 "^verified +Classic +consumer" server org.apache.kafka.tools.GroupsCommand --list
    expect 0 "^verified +jobs +[012] +1000 +1000 +0 +- +-" groups --describe --group verified
    expect 0 "^verified-by-broker +jobs +[012] +1000 +1000 +0 +- +-" groups --describe --group verified-by-broker
    expect 0 "^verified +.* +Empty +0$" groups --describe --group verified --state
    expect 0 "has no active members" groups --describe --group verified --members
    expect 0 "^kcat +jobs" groups --describe --all-groups
    expect 0 "GroupIdNotFoundException: Group nobody not found" groups --describe --group nobody
}

# Members of both protocols, as they are while they read.
check_members() {
    local protocol
    for protocol in classic consumer; do
        console --group "members-$protocol" --command-property "group.protocol=$protocol" --timeout-ms 900000 \
            >"$work/members" 2>&1 &
        local member=$!
        until_true has_state "members-$protocol" Stable 1
        expect 0 "^members-$protocol +.* +Stable +1$" groups --describe --group "members-$protocol" --state
        expect 0 "^members-$protocol +[^ ]+ +/127.0.0.1 +console-consumer +3" \
            groups --describe --group "members-$protocol" --members
        expect 0 "jobs(:|\()0,1,2" groups --describe --group "members-$protocol" --members --verbose
        expect 0 "GroupNotEmptyException" groups --delete --group "members-$protocol"
        expect 0 "Assignments can only be reset if the group '?members-$protocol'? is inactive" \
            reset "members-$protocol" --topic jobs --to-earliest --execute
        kill "$(pgrep -P $member -f ConsoleConsumer || echo $member)"
        wait $member || true
    done
}

check_resets() {
    expect 0 "^verified +jobs +[012] +0 *$" reset verified --topic jobs --to-earliest --dry-run
    [ "$(offset verified 0)" = 1000 ] || fail "a dry run has moved the group"
    moved verified "0 0 0" --topic jobs --to-earliest
    moved verified "1000 1000 1000" --topic jobs --to-latest
    moved verified "17 17 17" --topic jobs --to-offset 17
    moved verified "27 27 27" --topic jobs --shift-by 10
    moved verified "0 0 0" --topic jobs --shift-by -1000
    moved verified "5 0 0" --topic jobs:0 --to-offset 5
    moved verified "5 0 0" --topic jobs --to-current
    moved verified "0 0 0" --topic jobs --by-duration P1D
    moved verified "1000 1000 1000" --all-topics --to-datetime 2100-01-01T00:00:00.000
    expect 0 "^jobs,0,3$" reset verified --topic jobs --to-offset 3 --export --dry-run
    printf 'jobs,0,1\njobs,1,2\njobs,2,3\n' >"$work/plan.csv"
    moved verified "1 2 3" --from-file "$work/plan.csv"
    moved verified-by-broker "4 4 4" --topic jobs --to-offset 4
    expect 0 "^kcat +jobs +[012] +0 *$" groups --reset-offsets --all-groups --topic jobs --to-earliest --dry-run
    expect 0 "^late +jobs +[012] +1000 *$" reset late --topic jobs --to-latest --execute
}

check_deletion() {
    expect 0 "jobs +0 +Successful" groups --delete-offsets --group verified --topic jobs:0
    [ -z "$(offset verified 0)" ] || fail "partition 0 still has an offset: $(offset verified 0)"
    expect 0 "Deletion of requested consumer groups \('verified', 'kcat'\) was successful" \
        groups --delete --group verified --group kcat
    expect 0 "GroupIdNotFoundException: Group verified not found" groups --describe --group verified
    expect 0 "'nobody' could not be deleted due to: .*GroupIdNotFoundException" groups --delete --group nobody
}

check_cluster() {
    expect 0 "Feature: group.version.*FinalizedVersionLevel: 1" \
        server org.apache.kafka.tools.FeatureCommand describe
    expect 0 "Feature: transaction.version.*SupportedMaxVersion: 2.*FinalizedVersionLevel: 2" \
        server org.apache.kafka.tools.FeatureCommand describe
    expect 0 "group.version was (upgraded|updated) to 1|.*group.version.*1" \
        server org.apache.kafka.tools.FeatureCommand upgrade --feature group.version=1
    expect 1 "Could not (upgrade|update)" server org.apache.kafka.tools.FeatureCommand upgrade --feature group.version=9
    expect 0 "^LeaderId: +[0-9]+$" server org.apache.kafka.tools.MetadataQuorumCommand describe --status
    expect 0 "^[0-9]+.*Leader" server org.apache.kafka.tools.MetadataQuorumCommand describe --replication
    expect 0 "^Cluster ID: " tool org.apache.kafka.tools.ClusterTool cluster-id --bootstrap-server "$bootstrap"
    expect 0 "^[0-9]+ +127.0.0.1 +[0-9]+" \
        tool org.apache.kafka.tools.ClusterTool list-endpoints --bootstrap-server "$bootstrap"
    expect 0 "ConsumerGroupHeartbeat\(68\): 0 to 1 \[usable: 1\]" server org.apache.kafka.tools.BrokerApiVersionsCommand
}

check_transactions() {
    local s="[[:space:]]+"
    transactions() { server org.apache.kafka.tools.TransactionsCommand "$@"; }
    expect 0 "^100 records sent" server org.apache.kafka.tools.ProducerPerformance --topic idempotent --num-records 100 \
        --record-size 10 --throughput -1 --transactional-id tool-id --transaction-duration-ms 100
    expect 0 "^[0-9]+${s}0${s}-1${s}9$s[0-9]+${s}None" transactions describe-producers --topic idempotent --partition 0
    expect 0 "^TransactionalId${s}Coordinator${s}ProducerId${s}TransactionState" transactions list
    expect 0 "^tool-id$s[0-9]+$s[0-9]+${s}CompleteCommit" transactions list
    expect 0 "^tool-id" transactions list --transactional-id-pattern "tool-.*"
    expect 0 "^CoordinatorId${s}TransactionalId${s}ProducerId${s}ProducerEpoch${s}TransactionState" \
        transactions describe --transactional-id tool-id
    expect 0 "^[0-9]+${s}tool-id$s[0-9]+$s[0-9]+${s}CompleteCommit$s" transactions describe --transactional-id tool-id
    expect 1 "Failed to describe transaction state.*nobody" transactions describe --transactional-id nobody
    expect 0 "^Topic${s}Partition${s}ProducerId" transactions find-hanging --broker-id "$(node)"
    expect 1 "Could not find any open transactions starting at offset 0 on partition idempotent-0" \
        transactions abort --topic idempotent --partition 0 --start-offset 0
}

# The id of the broker.
node() { server org.apache.kafka.tools.MetadataQuorumCommand describe --status | awk '/^LeaderId/ {print $2}'; }

# Kept before there is such a group. The bounds include the broker's own timeouts, which are shorter here than Kafka's.
check_group_configs() {
    configs() { server org.apache.kafka.tools.ConfigCommand --entity-type groups "$@"; }
    expect 0 "^Completed updating" configs --entity-name configured --alter \
        --add-config consumer.session.timeout.ms=50000,consumer.heartbeat.interval.ms=1000
    expect 0 "consumer.session.timeout.ms=50000 .*GROUP_CONFIG:consumer.session.timeout.ms=50000" \
        configs --entity-name configured --describe
    expect 0 "consumer.heartbeat.interval.ms=1000 " configs --describe
    expect 1 "InvalidConfiguration" configs --entity-name configured --alter --add-config consumer.session.timeout.ms=60001
    expect 1 "InvalidConfiguration" configs --entity-name configured --alter --add-config no.such=1
    expect 0 "^Completed updating" configs --entity-name configured --alter \
        --delete-config consumer.session.timeout.ms,consumer.heartbeat.interval.ms
    ! configs --describe 2>/dev/null | grep -q "consumer.session.timeout.ms" || fail "configs of a group are still there"
}

check_client_metrics() {
    metrics() { server org.apache.kafka.tools.ClientMetricsCommand "$@"; }
    expect 0 "^$" metrics --list
    expect 0 "^Altered client metrics config for shop\.$" metrics --alter --name shop --metrics org.apache.kafka.producer. \
        --interval 60000 --match client_id=shop-.*
    expect 0 "^shop$" metrics --list
    expect 0 "interval.ms=60000" metrics --describe --name shop
    expect 0 "match=client_id=shop-" metrics --describe
    expect 1 "interval must be between 100 and 3600000" metrics --alter --name shop --interval 1
    expect 0 "^Deleted client metrics config for shop\.$" metrics --delete --name shop
    expect 0 "^$" metrics --list
}

check_programs
check_list_and_describe
check_members
check_resets
check_deletion
check_cluster
check_transactions
check_group_configs
check_client_metrics
echo "ok: Kafka's tools for groups and clusters, kcat -G: $checks outputs as expected ($SECONDS s)"
