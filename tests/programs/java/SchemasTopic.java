import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.connect.util.KafkaBasedLog;
import org.apache.kafka.connect.util.TopicAdmin;

/**
 * A store of keys and values in a compacted topic, as a schema registry has it: it reads the topic to its end at the start,
 * and after each write before it answers. The log is Kafka Connect's own.
 *
 * <p>{@code SchemasTopic BOOTSTRAP TOPIC} first says what it has read, as lines {@code KEY=VALUE} and then {@code --}. Then
 * it takes lines {@code KEY=VALUE} on standard input, where an empty value removes the key, and says {@code ok KEY} once it
 * has read back what it wrote. At the end of its input it says once more what it has.
 */
final class SchemasTopic {
    private static final int SECONDS_MAX = 300;
    private final Map<String, String> read = new TreeMap<>();

    private synchronized void take(Throwable error, ConsumerRecord<String, String> one) {
        if (error != null) {
            // The log's thread goes on; what is missing then would look like a fault of the broker's.
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        if (one.value() == null) {
            read.remove(one.key());
        } else {
            read.put(one.key(), one.value());
        }
    }

    private synchronized void say() {
        read.forEach((key, value) -> System.out.println(key + "=" + value));
        System.out.println("--");
    }

    private synchronized String value(String key) {
        return read.get(key);
    }

    private static <T> void await(Future<T> call) throws ExecutionException, InterruptedException, TimeoutException {
        call.get(SECONDS_MAX, TimeUnit.SECONDS);
    }

    private void write(KafkaBasedLog<String, String> log, String line)
            throws ExecutionException, InterruptedException, TimeoutException {
        int at = line.indexOf('=');
        String key = line.substring(0, at);
        String value = at + 1 == line.length() ? null : line.substring(at + 1);
        await(log.sendWithReceipt(key, value));
        await(log.readToEnd());
        if (value == null ? value(key) != null : !value.equals(value(key))) {
            throw new IllegalStateException("wrote " + line + ", and at the end of the topic is " + value(key));
        }
        System.out.println("ok " + key);
    }

    private static KafkaBasedLog<String, String> log(String bootstrap, String topic, SchemasTopic store) {
        // It writes its own settings into these.
        Map<String, Object> producer = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "acks", "all",
                "key.serializer", StringSerializer.class.getName(), "value.serializer", StringSerializer.class.getName()));
        Map<String, Object> consumer = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
                "key.deserializer", StringDeserializer.class.getName(),
                "value.deserializer", StringDeserializer.class.getName()));
        Map<String, Object> admin = Map.of("bootstrap.servers", bootstrap);
        return new KafkaBasedLog<>(topic, producer, consumer, () -> new TopicAdmin(admin), store::take, Time.SYSTEM,
                topicAdmin -> { });
    }

    public static void main(String[] arguments)
            throws ExecutionException, InterruptedException, IOException, TimeoutException {
        SchemasTopic store = new SchemasTopic();
        KafkaBasedLog<String, String> log = log(arguments[0], arguments[1], store);
        log.start();
        store.say();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            store.write(log, line);
        }
        store.say();
        log.stop();
    }
}
