import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Members of a group with the Java client; tests/groups/README.md says how they are told what to do. */
class GroupMembers {
    private static final Map<String, Map<String, Object>> MODES = Map.of(
        "eager", Map.of("partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor",
            "session.timeout.ms", 6000, "heartbeat.interval.ms", 500),
        "cooperative", Map.of("partition.assignment.strategy",
            "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
            "session.timeout.ms", 6000, "heartbeat.interval.ms", 500),
        "consumer", Map.of("group.protocol", "consumer"));

    /** One member, on a thread of its own. */
    private static final class Member extends Thread implements ConsumerRebalanceListener {
        private final String topic;
        private final Map<String, Object> config;
        private volatile boolean stopped;
        private boolean isBetweenGenerations;
        private KafkaConsumer<byte[], byte[]> consumer;
        private final TreeSet<Integer> assigned = new TreeSet<>();

        Member(String name, String topic, Map<String, Object> config) {
            super(name);
            this.topic = topic;
            this.config = config;
        }

        private void say(String what, Object value) {
            String line = "{\"member\": \"" + getName() + "\", \"" + what + "\": " + value + "}";
            synchronized (System.out) {
                System.out.println(line);
                System.out.flush();
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            partitions.forEach(one -> assigned.add(one.partition()));
            say("assigned", assigned);
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit();
            onPartitionsLost(partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            partitions.forEach(one -> assigned.remove(one.partition()));
            say("assigned", assigned);
        }

        /**
         * What has been read. If the broker is gone or the generation over, it comes again; while the group rebalances
         * (a cooperative member reads on), it is to be said again when that is done.
         */
        private void commit() {
            isBetweenGenerations = false;
            try {
                Map<TopicPartition, OffsetAndMetadata> own = new HashMap<>();
                for (TopicPartition one : consumer.assignment()) {
                    own.put(one, new OffsetAndMetadata(consumer.position(one, Duration.ofSeconds(5)), getName()));
                }
                consumer.commitSync(own, Duration.ofSeconds(5));
            } catch (RebalanceInProgressException e) {
                isBetweenGenerations = true;
            } catch (KafkaException e) {
                // As said above.
            }
        }

        @Override
        public void run() {
            consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            consumer.subscribe(List.of(topic), this);
            while (!stopped || isBetweenGenerations) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                if (!records.isEmpty()) {
                    say("read", StreamSupport.stream(records.spliterator(), false).map(Member::place)
                        .collect(Collectors.joining(",", "[", "]")));
                }
                if (!records.isEmpty() || isBetweenGenerations) {
                    commit();
                }
            }
            consumer.close();
            say("left", true);
        }

        private static String place(ConsumerRecord<byte[], byte[]> one) {
            return "[" + one.partition() + "," + one.offset() + "]";
        }
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> config = new HashMap<>(MODES.get(args[3]));
        config.putAll(Map.of("bootstrap.servers", args[0], "group.id", args[1], "enable.auto.commit", false,
            "auto.offset.reset", "earliest", "retry.backoff.ms", 20, "reconnect.backoff.ms", 10,
            "reconnect.backoff.max.ms", 100, "fetch.max.wait.ms", 100, "metadata.max.age.ms", 5000));
        Map<String, Member> members = new ConcurrentHashMap<>();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("leave")) {
                members.get(words[1]).stopped = true;
                continue;
            }
            Map<String, Object> own = new HashMap<>(config);
            own.put("client.id", words[1]);
            if (words.length > 2) {
                own.put("group.instance.id", words[2]);
            }
            Member member = new Member(words[1], args[2], own);
            members.put(words[1], member);
            member.start();
        }
        for (Member member : members.values()) {
            member.stopped = true;
            member.join();
        }
    }
}
