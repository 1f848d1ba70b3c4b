import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.Version1Producer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.ApplicationRecoverableException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Copies records exactly once with the Java client; tests/transactions/README.md says how it is called. */
class TransactionalCopier {
    private static final double ABORT_SHARE = 0.1;
    private static final int DELAY_MS_MAX = 30;
    private static final long PAUSE_MS = 200;

    private final int version;
    private final String bootstrap;
    private final String name;
    private final String id;
    private int partitions;
    private final Random dice = new Random();
    private volatile boolean stopped;
    private int attempts;

    /** What all sends of a transaction are for: a record that could not be stored. */
    private static final class SendFailed extends KafkaException {
        private static final long serialVersionUID = 1L;

        SendFailed(Throwable cause) {
            super(cause);
        }
    }

    TransactionalCopier(int version, String bootstrap, String name, String id) {
        this.version = version;
        this.bootstrap = bootstrap;
        this.name = name;
        this.id = id;
    }

    private static void say(String fields) {
        System.out.println("{" + fields + "}");
        System.out.flush();
    }

    private Producer<byte[], byte[]> producer() {
        Map<String, Object> config = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "client.id", name, "transactional.id", id, "transaction.timeout.ms", 10_000,
            "retry.backoff.ms", 20, "reconnect.backoff.ms", 10, "reconnect.backoff.max.ms", 100, "linger.ms", 1,
            "key.serializer", ByteArraySerializer.class.getName(),
            "value.serializer", ByteArraySerializer.class.getName()));
        return version == 1 ? new Version1Producer(config) : new KafkaProducer<>(config);
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group) {
        Map<String, Object> config = new HashMap<>(Map.of(
            "bootstrap.servers", bootstrap, "client.id", name, "group.id", group, "enable.auto.commit", false,
            "auto.offset.reset", "earliest", "isolation.level", "read_committed", "max.poll.records", 50,
            "retry.backoff.ms", 20, "reconnect.backoff.ms", 10, "reconnect.backoff.max.ms", 100));
        // Each group protocol with one of the versions.
        config.putAll(version == 1 ? Map.of("session.timeout.ms", 6000, "heartbeat.interval.ms", 500)
            : Map.of("group.protocol", "consumer"));
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** With a listener partitions are revoked within a poll only, thus not within a transaction. */
    private static final class WithinPolls implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        }
    }

    private void pause() throws InterruptedException {
        Thread.sleep(dice.nextInt(DELAY_MS_MAX));
    }

    private ProducerRecord<byte[], byte[]> copied(ConsumerRecord<byte[], byte[]> one, String output, String attempt) {
        int number = Integer.parseInt(new String(one.value()));
        String value = one.partition() + ":" + number + ":" + attempt;
        return new ProducerRecord<>(output, (one.partition() + number) % partitions, one.key(), value.getBytes());
    }

    /** One transaction; false if it was aborted. */
    private boolean copy(ConsumerRecords<byte[], byte[]> records, Producer<byte[], byte[]> producer,
                         KafkaConsumer<byte[], byte[]> consumer, String output) throws InterruptedException {
        String attempt = name + "." + ++attempts;
        List<KafkaException> failures = new ArrayList<>();
        producer.beginTransaction();
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> one : records) {
            producer.send(copied(one, output, attempt), (place, error) -> {
                if (error != null) {
                    failures.add(new SendFailed(error));
                }
            });
            offsets.put(new TopicPartition(one.topic(), one.partition()), new OffsetAndMetadata(one.offset() + 1));
        }
        pause();
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        producer.flush();
        pause();
        if (!failures.isEmpty()) {
            throw failures.get(0);
        }
        if (dice.nextDouble() < ABORT_SHARE) {
            producer.abortTransaction();
            say("\"ended\": \"" + attempt + "\", \"committed\": false");
            return false;
        }
        say("\"committing\": \"" + attempt + "\", \"records\": " + records.count());
        commit(producer);
        say("\"ended\": \"" + attempt + "\", \"committed\": true");
        return true;
    }

    /** A commit that timed out may be called again, and is to be. */
    private static void commit(Producer<byte[], byte[]> producer) {
        while (true) {
            try {
                producer.commitTransaction();
                return;
            } catch (TimeoutException e) {
                System.err.println("commit again: " + e);
            }
        }
    }

    /** What was read since the last commit comes again. */
    private static void rewind(KafkaConsumer<byte[], byte[]> consumer) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        for (TopicPartition one : consumer.assignment()) {
            OffsetAndMetadata offset = committed.get(one);
            consumer.seek(one, offset == null ? 0 : offset.offset());
        }
    }

    private static boolean needsNewProducer(KafkaException error) {
        return error instanceof ApplicationRecoverableException || error instanceof InvalidConfigurationException;
    }

    /** Copies until it is stopped, or until an error that only a new producer and a new consumer help against. */
    private void copyWithOneProducer(String input, String output, String group) throws InterruptedException {
        try (Producer<byte[], byte[]> producer = producer(); KafkaConsumer<byte[], byte[]> consumer = consumer(group)) {
            producer.initTransactions();
            consumer.subscribe(List.of(input), new WithinPolls());
            while (!stopped) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(PAUSE_MS));
                if (records.isEmpty()) {
                    continue;
                }
                boolean isCommitted = false;
                try {
                    isCommitted = copy(records, producer, consumer, output);
                } catch (KafkaException e) {
                    System.err.println(name + "." + attempts + " is to be aborted: " + e);
                    if (needsNewProducer(e)) {
                        throw e;
                    }
                    producer.abortTransaction();
                }
                if (!isCommitted) {
                    rewind(consumer);
                }
            }
        }
    }

    private void copyUntilStopped(String input, String output, String group) throws InterruptedException {
        while (!stopped) {
            try {
                copyWithOneProducer(input, output, group);
            } catch (KafkaException | IllegalStateException e) {
                System.err.println(name + " needs a new producer: " + e);
                Thread.sleep(PAUSE_MS);
            }
        }
        say("\"left\": true");
    }

    private int epoch() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            return admin.describeTransactions(List.of(id)).description(id).get().producerEpoch();
        }
    }

    /** Leaves a transaction open, after one that tells the transaction version: since 2 each has an epoch of its own. */
    private void abandon(String output) throws Exception {
        Producer<byte[], byte[]> producer = producer();
        producer.initTransactions();
        int epoch = epoch();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(output, "committed".getBytes()));
        producer.commitTransaction();
        int next = epoch();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>(output, "abandoned".getBytes()));
        producer.flush();
        say("\"open\": true, \"version\": " + (next > epoch ? 2 : 1));
        Thread.sleep(Long.MAX_VALUE);
    }

    public static void main(String[] args) throws Exception {
        TransactionalCopier copier = new TransactionalCopier(Integer.parseInt(args[0]), args[2], args[3], args[4]);
        if (args[1].equals("abandon")) {
            copier.abandon(args[5]);
            return;
        }
        Thread waiting = new Thread(() -> {
            try {
                System.in.transferTo(java.io.OutputStream.nullOutputStream());
            } catch (java.io.IOException e) {
                System.err.println("standard input is gone: " + e);
            }
            copier.stopped = true;
        });
        waiting.setDaemon(true);
        waiting.start();
        copier.partitions = Integer.parseInt(args[8]);
        copier.copyUntilStopped(args[5], args[6], args[7]);
    }
}
