import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.record.TimestampType;

/** Calls what the AdminClient offers for topics, and checks that each answer and each effect is Kafka's. */
class AdminCalls {
    private static final Duration PATIENCE = Duration.ofSeconds(RoundTrip.SECONDS_MAX);
    private final Admin admin;
    private final String bootstrap;
    private final String topic;

    AdminCalls(Admin admin, String bootstrap, String prefix) {
        this.admin = admin;
        this.bootstrap = bootstrap;
        this.topic = prefix + "-admin";
    }

    void run() throws Exception {
        describeCluster();
        createTopics();
        describeAndListTopics();
        createPartitions();
        describeConfigs();
        alterConfigs();
        configsTakeEffect();
        listOffsets();
        deleteRecords();
        describeLogDirs();
        deleteTopics();
    }

    private void describeCluster() throws Exception {
        var cluster = admin.describeCluster();
        Mismatch.require(!cluster.clusterId().get().isEmpty(), "no cluster id");
        var nodes = cluster.nodes().get();
        Mismatch.equal(1, nodes.size(), "nodes");
        Mismatch.require(nodes.contains(cluster.controller().get()), "the controller is not among the nodes");
        var node = nodes.iterator().next();
        Mismatch.equal(bootstrap, node.host() + ":" + node.port(), "advertised address");
    }

    private void createTopics() throws Exception {
        var wanted = new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "-1"));
        admin.createTopics(List.of(wanted), new CreateTopicsOptions().validateOnly(true)).all().get();
        Mismatch.require(!admin.listTopics().names().get().contains(topic), "validateOnly created the topic");
        var created = admin.createTopics(List.of(wanted));
        Mismatch.equal(3, created.numPartitions(topic).get(), "created partitions");
        Mismatch.equal(1, created.replicationFactor(topic).get(), "replication factor");
        Mismatch.equal("-1", created.config(topic).get().get("retention.ms").value(), "config of the new topic");
        until(true, () -> names().contains(topic));
        fails(TopicExistsException.class, admin.createTopics(List.of(wanted)).all());
        fails(InvalidTopicException.class, create(new NewTopic("no spaces", 1, (short) 1)));
        fails(InvalidPartitionsException.class, create(new NewTopic(topic + "-0", 0, (short) 1)));
        fails(InvalidReplicationFactorException.class, create(new NewTopic(topic + "-9", 1, (short) 9)));
        var misspelt = new NewTopic(topic + "-c", 1, (short) 1).configs(Map.of("retention.mss", "1"));
        fails(InvalidConfigurationException.class, create(misspelt));
    }

    private Future<Void> create(NewTopic one) {
        return admin.createTopics(List.of(one)).all();
    }

    private void describeAndListTopics() throws Exception {
        TopicDescription byName = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
        Mismatch.equal(3, byName.partitions().size(), "described partitions");
        Mismatch.require(byName.partitions().stream().allMatch(p -> p.isr().contains(p.leader())), "leader not in sync");
        Uuid id = byName.topicId();
        Mismatch.require(!id.equals(Uuid.ZERO_UUID), "no topic id");
        var ids = TopicCollection.ofTopicIds(List.of(id));
        Mismatch.equal(topic, admin.describeTopics(ids).allTopicIds().get().get(id).name(), "topic of the id");
        Mismatch.equal(id, admin.listTopics().namesToListings().get().get(topic).topicId(), "listed id");
        fails(UnknownTopicOrPartitionException.class, admin.describeTopics(List.of(topic + "-none")).allTopicNames());
        var unknown = TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()));
        fails(UnknownTopicIdException.class, admin.describeTopics(unknown).allTopicIds());
    }

    private void createPartitions() throws Exception {
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        until(5, () -> admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size());
        var fewer = Map.of(topic, NewPartitions.increaseTo(2));
        fails(InvalidPartitionsException.class, admin.createPartitions(fewer).all());
    }

    private void describeConfigs() throws Exception {
        var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config config = admin.describeConfigs(List.of(resource), options).all().get().get(resource);
        Mismatch.require(config.entries().size() > 25, "only these configs: " + config);
        entry(config, "retention.ms", "-1", ConfigSource.DYNAMIC_TOPIC_CONFIG, ConfigEntry.ConfigType.LONG);
        entry(config, "max.message.bytes", "1048588", ConfigSource.DEFAULT_CONFIG, ConfigEntry.ConfigType.INT);
        entry(config, "cleanup.policy", "delete", ConfigSource.DEFAULT_CONFIG, ConfigEntry.ConfigType.LIST);
        entry(config, "compression.type", "producer", ConfigSource.DEFAULT_CONFIG, ConfigEntry.ConfigType.STRING);
        ConfigEntry retention = config.get("retention.ms");
        Mismatch.require(!retention.documentation().isEmpty(), "retention.ms has no documentation");
        Mismatch.equal("retention.ms", retention.synonyms().get(0).name(), "first synonym");
    }

    private static void entry(Config config, String name, String value, ConfigSource source, ConfigEntry.ConfigType type) {
        ConfigEntry entry = config.get(name);
        Mismatch.equal(value, entry.value(), name);
        Mismatch.equal(source, entry.source(), "source of " + name);
        Mismatch.equal(type, entry.type(), "type of " + name);
    }

    private void alterConfigs() throws Exception {
        alter(topic, "retention.ms", "86400000", OpType.SET).get();
        until("86400000", () -> value(topic, "retention.ms"));
        alter(topic, "retention.ms", null, OpType.DELETE).get();
        until("604800000", () -> value(topic, "retention.ms"));
        fails(InvalidConfigurationException.class, alter(topic, "retention.ms", "soon", OpType.SET));
        fails(InvalidConfigurationException.class, alter(topic, "retention.mss", "1", OpType.SET));
        fails(UnknownTopicOrPartitionException.class, alter(topic + "-none", "retention.ms", "1", OpType.SET));
        alter(topic, "retention.ms", "-1", OpType.SET).get();
    }

    private Future<Void> alter(String name, String config, String value, OpType type) {
        var op = new AlterConfigOp(new ConfigEntry(config, value), type);
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        return admin.incrementalAlterConfigs(Map.of(resource, List.of(op))).all();
    }

    private String value(String name, String config) throws Exception {
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(config).value();
    }

    /** max.message.bytes, message.timestamp.type, and compression.type (run.py looks at the stored codec). */
    private void configsTakeEffect() throws Exception {
        String limited = topic + "-limited";
        create(new NewTopic(limited, 1, (short) 1).configs(Map.of("max.message.bytes", "1000"))).get();
        long before = System.currentTimeMillis(); // an old timestamp would fall to retention
        send(limited, 0, 500, before);
        raises(RecordTooLargeException.class, () -> send(limited, 0, 5_000, before));

        String stamped = topic + "-stamped";
        create(new NewTopic(stamped, 1, (short) 1).configs(Map.of("message.timestamp.type", "LogAppendTime"))).get();
        RecordMetadata metadata = send(stamped, 0, 10, 1);
        ConsumerRecord<byte[], byte[]> record = readOne(new TopicPartition(stamped, 0), 0, "none");
        Mismatch.equal(TimestampType.LOG_APPEND_TIME, record.timestampType(), "timestamp type");
        Mismatch.equal(metadata.timestamp(), record.timestamp(), "acknowledged and stored append time");
        Mismatch.require(record.timestamp() >= before, "append time " + record.timestamp() + ", sent at " + before);

        create(new NewTopic(topic + "-recompressed", 1, (short) 1).configs(Map.of("compression.type", "zstd"))).get();
        send(topic + "-recompressed", 0, 5_000, before);
    }

    private RecordMetadata send(String name, int partition, int bytes, long timestamp) throws Exception {
        try (var producer = RoundTrip.producer(bootstrap, "none", RoundTrip.IDEMPOTENT)) {
            return producer.send(new ProducerRecord<>(name, partition, timestamp, null, new byte[bytes])).get();
        }
    }

    private ConsumerRecord<byte[], byte[]> readOne(TopicPartition partition, long offset, String reset) {
        try (var consumer = RoundTrip.consumer(bootstrap, Map.of("auto.offset.reset", reset))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, offset);
            for (long end = System.nanoTime() + PATIENCE.toNanos(); System.nanoTime() < end;) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    return record;
                }
            }
        }
        throw new Mismatch("nothing to read in " + partition + " from " + offset);
    }

    /** Partition 1 gets the timestamps 1000, 3000, 2000: the newest is not the last. */
    private void listOffsets() throws Exception {
        for (long timestamp : new long[] {1000, 3000, 2000}) {
            send(topic, 1, 100, timestamp);
        }
        equalOffset(OffsetSpec.earliest(), 0, -1);
        equalOffset(OffsetSpec.latest(), 3, -1);
        equalOffset(OffsetSpec.maxTimestamp(), 1, 3000);
        equalOffset(OffsetSpec.forTimestamp(1500), 1, 3000);
        equalOffset(OffsetSpec.forTimestamp(1000), 0, 1000);
        equalOffset(OffsetSpec.forTimestamp(3001), -1, -1);
        equalOffset(OffsetSpec.earliestLocal(), 0, -1);
        equalOffset(OffsetSpec.latestTiered(), -1, -1);
    }

    private void equalOffset(OffsetSpec spec, long offset, long timestamp) throws Exception {
        var partition = new TopicPartition(topic, 1);
        var found = admin.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
        Mismatch.equal(offset, found.offset(), spec.getClass().getSimpleName() + ": offset");
        Mismatch.equal(timestamp, found.timestamp(), spec.getClass().getSimpleName() + ": timestamp");
    }

    private void deleteRecords() throws Exception {
        var partition = new TopicPartition(topic, 1);
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(2)));
        Mismatch.equal(2L, deleted.lowWatermarks().get(partition).get().lowWatermark(), "low watermark");
        equalOffset(OffsetSpec.earliest(), 2, -1);
        equalOffset(OffsetSpec.latest(), 3, -1);
        Mismatch.equal(2L, readOne(partition, 0, "earliest").offset(), "first record after the deletion");
        try {
            readOne(partition, 0, "none");
            throw new Mismatch("offset 0 is deleted, but reading there gave a record");
        } catch (OffsetOutOfRangeException expected) {
            // as it must be
        }
        var beyond = Map.of(partition, RecordsToDelete.beforeOffset(99));
        fails(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, admin.deleteRecords(beyond).all());
    }

    private void describeLogDirs() throws Exception {
        int node = admin.describeCluster().nodes().get().iterator().next().id();
        var folders = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node).values();
        var sizes = folders.stream().flatMap(f -> f.replicaInfos().entrySet().stream())
            .filter(e -> e.getKey().topic().equals(topic))
            .collect(Collectors.toMap(e -> e.getKey().partition(), e -> e.getValue().size()));
        Mismatch.equal(Set.of(0, 1, 2, 3, 4), sizes.keySet(), "partitions in the log directories");
        Mismatch.require(sizes.get(1) > 0, "a partition with records has size 0");
        Mismatch.equal(0L, sizes.get(0), "size of an empty partition");
    }

    private void deleteTopics() throws Exception {
        Uuid id = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        admin.deleteTopics(List.of(topic + "-limited")).all().get();
        fails(UnknownTopicOrPartitionException.class, admin.deleteTopics(List.of(topic)).all());
        until(false, () -> names().contains(topic) || names().contains(topic + "-limited"));
        create(new NewTopic(topic, 1, (short) 1)).get();
        until(true, () -> names().contains(topic));
        Uuid fresh = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
        Mismatch.require(!fresh.equals(id), "a topic made anew has the id of the deleted one");
        Mismatch.equal(0L, send(topic, 0, 10, 1).offset(), "first offset of a topic made anew");
    }

    private Collection<String> names() throws Exception {
        return admin.listTopics().names().get();
    }

    private interface Call<T> {
        T run() throws Exception;
    }

    private static void fails(Class<? extends Exception> expected, Future<?> future) {
        raises(expected, future::get);
    }

    private static void raises(Class<? extends Exception> expected, Call<?> call) {
        try {
            call.run();
        } catch (ExecutionException failure) {
            Mismatch.equal(expected, failure.getCause().getClass(), "error (" + failure.getCause().getMessage() + ")");
            return;
        } catch (Exception failure) {
            throw new Mismatch("expected " + expected.getSimpleName() + ", got " + failure);
        }
        throw new Mismatch("expected " + expected.getSimpleName() + ", but the call succeeded");
    }

    /** Kafka answers a change before every part of it shows it; waits until the call gives what it must. */
    private static <T> void until(T expected, Call<T> call) throws Exception {
        T got = call.run();
        for (long end = System.nanoTime() + PATIENCE.toNanos(); !got.equals(expected) && System.nanoTime() < end;) {
            Thread.sleep(50);
            got = call.run();
        }
        Mismatch.equal(expected, got, "after " + PATIENCE.toSeconds() + " s");
    }
}
