import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Produces records to a topic and reads them back by assign(), every byte, offset and timestamp checked. */
class RoundTrip {
    /**
     * How long a request, the next records or a change may take: for a machine that has no time for the test. A request
     * that the client gives up is sent again: a plain producer would then write records twice.
     */
    static final int SECONDS_MAX = 120;
    /** The default producer is idempotent with acks=all; the others are what older programs use. */
    static final Map<String, Object> IDEMPOTENT = Map.of();
    static final Map<String, Object> PLAIN = Map.of("enable.idempotence", false, "acks", "1");
    static final Map<String, Object> FIRE_AND_FORGET = Map.of("enable.idempotence", false, "acks", "0");

    private final String bootstrap;
    private final String topic;
    private final List<List<Dataset.Entry>> expected;
    private final List<TopicPartition> partitions;

    RoundTrip(String bootstrap, String topic, int partitions, List<Dataset.Entry> records) {
        this.bootstrap = bootstrap;
        this.topic = topic;
        this.expected = IntStream.range(0, partitions).mapToObj(p -> Dataset.ofPartition(records, p)).toList();
        this.partitions = IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(topic, p)).toList();
    }

    static KafkaProducer<byte[], byte[]> producer(String bootstrap, String codec, Map<String, Object> delivery) {
        Map<String, Object> config = new HashMap<>(delivery);
        config.putAll(Map.of("bootstrap.servers", bootstrap, "compression.type", codec, "linger.ms", 20,
            "batch.size", 128 * 1024, "request.timeout.ms", SECONDS_MAX * 1000, "max.block.ms", SECONDS_MAX * 1000,
            "delivery.timeout.ms", 5 * SECONDS_MAX * 1000));
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(more);
        config.put("bootstrap.servers", bootstrap);
        config.put("request.timeout.ms", SECONDS_MAX * 1000);
        config.put("default.api.timeout.ms", 2 * SECONDS_MAX * 1000);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Sends the records; the acknowledged offsets must continue at {@code next}, per partition. */
    void produce(String codec, List<Dataset.Entry> records, Map<String, Object> delivery, long[] next)
        throws Exception {
        List<Future<RecordMetadata>> acks = new ArrayList<>(records.size());
        try (var producer = producer(bootstrap, codec, delivery)) {
            for (Dataset.Entry r : records) {
                acks.add(producer.send(
                    new ProducerRecord<>(topic, r.partition(), r.timestamp(), r.key(), r.value(), r.headers())));
            }
        }
        for (Future<RecordMetadata> ack : acks) {
            RecordMetadata metadata = ack.get();
            if (metadata.hasOffset()) { // with acks=0 nobody knows
                Mismatch.equal(next[metadata.partition()]++, metadata.offset(), "acknowledged offset of " + metadata);
            }
        }
    }

    /** Reads everything, with fetches smaller than the largest records (KIP-74), then asks for times and seeks. */
    void consume(String isolation) {
        Map<String, Object> config = Map.of("auto.offset.reset", "earliest", "max.partition.fetch.bytes", 256 * 1024,
            "max.poll.records", 5_000, "isolation.level", isolation, "fetch.max.wait.ms", 100);
        try (var consumer = consumer(bootstrap, config)) {
            consumer.assign(partitions);
            int[] seen = new int[partitions.size()];
            int missing = expected.stream().mapToInt(List::size).sum();
            while (missing > 0) {
                var batch = consumer.poll(Duration.ofSeconds(SECONDS_MAX));
                Mismatch.require(!batch.isEmpty(),
                    topic + ": read " + Arrays.toString(seen) + " records of its partitions, " + missing + " missing");
                for (ConsumerRecord<byte[], byte[]> record : batch) {
                    check(record, seen[record.partition()]++);
                }
                missing -= batch.count();
            }
            Mismatch.require(consumer.poll(Duration.ofMillis(50)).isEmpty(), topic + ": more records than produced");
            checkOffsets(consumer);
            checkSeek(consumer);
        }
    }

    private void check(ConsumerRecord<byte[], byte[]> got, int next) {
        String where = topic + "-" + got.partition() + " at offset " + got.offset();
        Mismatch.equal((long) next, got.offset(), where + ": offsets must be dense from 0");
        Mismatch.require(next < expected.get(got.partition()).size(), where + ": more records than produced");
        Dataset.Entry wanted = expected.get(got.partition()).get(next);
        byte[] body = Dataset.encode(got.timestamp(), got.partition(), got.key(), got.value(), got.headers());
        if (!Arrays.equals(body, wanted.body())) {
            throw new Mismatch(where + ": " + Dataset.show(body) + ", was produced as " + Dataset.show(wanted.body()));
        }
    }

    /** The ends, and the first record at or after a timestamp: one that is there, one between, one past the end. */
    private void checkOffsets(KafkaConsumer<byte[], byte[]> consumer) {
        var begin = consumer.beginningOffsets(partitions);
        var end = consumer.endOffsets(partitions);
        for (TopicPartition partition : partitions) {
            List<Dataset.Entry> records = expected.get(partition.partition());
            Mismatch.equal(0L, begin.get(partition), "beginning of " + partition);
            Mismatch.equal((long) records.size(), end.get(partition), "end of " + partition);
            long inside = records.get(records.size() / 3).timestamp();
            for (long time : new long[] {0, inside, inside + 1, Long.MAX_VALUE / 2}) {
                OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(partition, time)).get(partition);
                long first = IntStream.range(0, records.size())
                    .filter(i -> records.get(i).timestamp() >= time).findFirst().orElse(-1);
                Mismatch.equal(first, found == null ? -1L : found.offset(), partition + " at time " + time);
                if (found != null) {
                    Mismatch.equal(records.get((int) first).timestamp(), found.timestamp(), partition + ": timestamp");
                }
            }
        }
    }

    /** An offset inside a batch: the broker sends the whole batch, the reader must see only what it asked for. */
    private void checkSeek(KafkaConsumer<byte[], byte[]> consumer) {
        for (TopicPartition partition : partitions) {
            int size = expected.get(partition.partition()).size();
            for (int offset : new int[] {size - 1, size / 2 + 1, 3}) {
                consumer.assign(List.of(partition));
                consumer.seek(partition, offset);
                var batch = consumer.poll(Duration.ofSeconds(SECONDS_MAX)).records(partition);
                Mismatch.require(!batch.isEmpty(), partition + ": nothing at offset " + offset);
                check(batch.get(0), offset);
            }
        }
    }
}
