import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Produces three records with keys, and consumes them in a group. */
public class Example {
    static final String BOOTSTRAP = System.getenv().getOrDefault("BOOTSTRAP", "localhost:9092");
    static final String TOPIC = "greetings-java";

    public static void main(String[] args) throws Exception {
        List<ProducerRecord<String, String>> records = List.of(
                new ProducerRecord<>(TOPIC, "alice", "hello from java"),
                new ProducerRecord<>(TOPIC, "bob", "hello from java"),
                new ProducerRecord<>(TOPIC, "alice", "goodbye from java"));
        produce(records);
        consume(records.size());
    }

    static void produce(List<ProducerRecord<String, String>> records) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", BOOTSTRAP);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (var record : records) {
                producer.send(record).get(); // waits until the record is stored, or throws
            }
        }
    }

    static void consume(int wanted) {
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", BOOTSTRAP,
                "group.id", "readers-java",
                "auto.offset.reset", "earliest", // where a group begins that has committed nothing
                "enable.auto.commit", false);
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(TOPIC));
            for (int seen = 0; seen < wanted; ) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofSeconds(1))) {
                    System.out.println(record.key() + ": " + record.value());
                    seen++;
                }
                consumer.commitSync(); // after the work, so that a crash repeats records and loses none
            }
        }
    }
}
