import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Topics, records and groups with the Java client; tests/routed/README.md says how it is told what to do. */
class RoutedClient {
    private static final int SECONDS_MAX = 120; // for a machine that has no time for the test

    private final String bootstrap;
    private final int partitions;

    RoutedClient(String bootstrap, int partitions) {
        this.bootstrap = bootstrap;
        this.partitions = partitions;
    }

    private String answer(String[] words) throws Exception {
        return switch (words[0]) {
            case "create" -> create(words[1]);
            case "produce" -> produce("all", Integer.parseInt(words[1]), Integer.parseInt(words[2]),
                List.of(words).subList(3, words.length));
            case "fire" -> produce("0", Integer.parseInt(words[1]), Integer.parseInt(words[2]),
                List.of(words).subList(3, words.length));
            case "consume" -> consume("classic", words[1], Integer.parseInt(words[2]),
                List.of(words).subList(3, words.length));
            case "consume-next" -> consume("consumer", words[1], Integer.parseInt(words[2]),
                List.of(words).subList(3, words.length));
            default -> throw new Mismatch("no command is called " + words[0]);
        };
    }

    private String create(String topic) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap, "default.api.timeout.ms",
            SECONDS_MAX * 1000, "request.timeout.ms", SECONDS_MAX * 500))) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
        }
        return "{}";
    }

    private String produce(String acks, int first, int count, List<String> topics) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "delivery.timeout.ms", SECONDS_MAX * 1000,
            "request.timeout.ms", SECONDS_MAX * 500, "max.block.ms", SECONDS_MAX * 1000, "linger.ms", 20, "acks", acks,
            "enable.idempotence", acks.equals("all"));
        try (var producer = new KafkaProducer<>(config, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>(count * topics.size());
            for (int n = first; n < first + count; n++) {
                for (String topic : topics) {
                    String value = "record " + n + " of " + topic;
                    sent.add(producer.send(new ProducerRecord<>(topic, n % partitions, String.valueOf(n), value)));
                }
            }
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
            if (acks.equals("0")) {
                Thread.sleep(500); // Before it is closed: the driver waits until the broker has read it all.
            }
        }
        return "{}";
    }

    private String consume(String protocol, String group, int count, List<String> topics) {
        List<String> rows = new ArrayList<>(count);
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "group.id", group, "auto.offset.reset",
            "earliest", "enable.auto.commit", false, "fetch.max.wait.ms", 100, "group.protocol", protocol);
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(topics);
            long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(SECONDS_MAX);
            while (rows.size() < count && System.nanoTime() < end) {
                for (var one : consumer.poll(Duration.ofMillis(100))) {
                    rows.add("[%d, %d, \"%s\", \"%s\"]".formatted(
                        one.partition(), one.offset(), one.key(), one.value()));
                }
            }
            consumer.commitSync(Duration.ofSeconds(SECONDS_MAX));
        }
        return "{\"read\": [" + String.join(", ", rows) + "]}";
    }

    public static void main(String[] args) throws Exception {
        var client = new RoutedClient(args[0], Integer.parseInt(args[1]));
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            try {
                System.out.println(client.answer(line.split(" ")));
            } catch (Exception failure) {
                System.out.println("{\"error\": \"" + failure.toString().replace('"', '\'').replace('\n', ' ') + "\"}");
            }
            System.out.flush();
        }
    }
}
