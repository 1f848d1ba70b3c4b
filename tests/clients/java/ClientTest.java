import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

/**
 * Shows that Kafka's own Java client produces, reads back and administers topics.
 *
 * <p>For each codec: a topic with 4 partitions; half of the records from the default, idempotent producer, half from
 * a plain one with acks=1; all of it read back by assign() and compared byte by byte, in turn with read_uncommitted
 * and read_committed; offsetsForTimes and seek. Then a topic written with acks=0, and {@link AdminCalls}.
 *
 * <p>Arguments: {@code BOOTSTRAP DATASET CODECS PREFIX}, as ../checking.py describes them.
 */
class ClientTest {
    public static void main(String[] args) {
        try {
            run(args[0], Dataset.read(Path.of(args[1])), args[2].split(","), args[3]);
        } catch (Throwable failure) {
            System.err.println("java: " + failure.getMessage());
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static void run(String bootstrap, Dataset data, String[] codecs, String prefix) throws Exception {
        long start = System.nanoTime();
        int size = data.records().size();
        int requestMax = RoundTrip.SECONDS_MAX * 1000;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "request.timeout.ms", requestMax,
            "default.api.timeout.ms", 2 * requestMax))) {
            for (int i = 0; i < codecs.length; i++) {
                var part = data.records().subList(size * i / codecs.length, size * (i + 1) / codecs.length);
                String topic = prefix + "-" + codecs[i];
                createTopic(admin, topic, data.partitions());
                var trip = new RoundTrip(bootstrap, topic, data.partitions(), part);
                long[] next = new long[data.partitions()];
                trip.produce(codecs[i], part.subList(0, part.size() / 2), RoundTrip.IDEMPOTENT, next);
                trip.produce(codecs[i], part.subList(part.size() / 2, part.size()), RoundTrip.PLAIN, next);
                trip.consume(i % 2 == 0 ? "read_uncommitted" : "read_committed");
            }
            withoutAcks(admin, bootstrap, prefix + "-acks0", data);
            new AdminCalls(admin, bootstrap, prefix).run();
        }
        System.out.printf("java client %s: %d records, %s: every byte and offset as produced, admin calls too (%.1f s)%n",
            clientVersion(), size, String.join(", ", codecs), (System.nanoTime() - start) / 1e9);
    }

    private static String clientVersion() throws Exception {
        var properties = new Properties();
        try (var file = Admin.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            properties.load(file);
        }
        return properties.getProperty("version");
    }

    private static void createTopic(Admin admin, String topic, int partitions) throws Exception {
        // The data set's timestamps lie in the past: without this a broker may delete the records at once.
        var configs = Map.of("retention.ms", "-1");
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
    }

    /** acks=0 is never answered; on a healthy broker all of it arrives, and in order, all the same. */
    private static void withoutAcks(Admin admin, String bootstrap, String topic, Dataset data) throws Exception {
        createTopic(admin, topic, data.partitions());
        var records = data.records().subList(0, 10_000);
        var trip = new RoundTrip(bootstrap, topic, data.partitions(), records);
        long[] next = new long[data.partitions()];
        // Kafka may still refuse the first records of a new topic; with acks=0 they would be lost.
        trip.produce("lz4", records.subList(0, 100), RoundTrip.PLAIN, next);
        trip.produce("lz4", records.subList(100, records.size()), RoundTrip.FIRE_AND_FORGET, next);
        trip.consume("read_uncommitted");
    }
}
