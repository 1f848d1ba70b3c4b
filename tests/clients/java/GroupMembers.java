import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Members of a group with the Java client; tests/groups/README.md says how they are told what to do. */
class GroupMembers {
    private static final Map<String, String> ASSIGNORS = Map.of(
        "eager", "org.apache.kafka.clients.consumer.RangeAssignor",
        "cooperative", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
    private static final Duration COMMIT_MAX = Duration.ofSeconds(15);

    /** One member, on a thread of its own. */
    private static final class Member extends Thread implements ConsumerRebalanceListener {
        private final String topic;
        private final Map<String, Object> config;
        private volatile boolean stopped;
        private boolean isBetweenGenerations;
        private KafkaConsumer<byte[], byte[]> consumer;
        private final TreeSet<Integer> assigned = new TreeSet<>();
        /** By partition: the offsets of what is read and not committed. */
        private final TreeMap<Integer, List<Long>> pending = new TreeMap<>();

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
            letGo(partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            say("lost", partitions.stream().map(TopicPartition::partition).toList());
            letGo(partitions);
        }

        private void letGo(Collection<TopicPartition> partitions) {
            List<Integer> gone = partitions.stream().map(TopicPartition::partition).toList();
            settle("uncertain", gone);
            assigned.removeAll(gone);
            say("assigned", assigned);
        }

        /** Says what was read of these: "read" if it is committed, "uncertain" if the next member may read it, too. */
        private void settle(String what, Collection<Integer> partitions) {
            String places = partitions.stream()
                .flatMap(number -> Optional.ofNullable(pending.remove(number)).orElse(List.of()).stream()
                    .map(offset -> "[" + number + "," + offset + "]"))
                .collect(Collectors.joining(","));
            if (!places.isEmpty()) {
                say(what, "[" + places + "]");
            }
        }

        /**
         * What has been read. If the broker is gone or the generation over, it comes again; while the group rebalances
         * (a cooperative member reads on), it is to be said again when that is done.
         */
        private void commit() {
            isBetweenGenerations = false;
            Map<TopicPartition, OffsetAndMetadata> own = new HashMap<>();
            pending.forEach((number, offsets) -> own.put(new TopicPartition(topic, number),
                new OffsetAndMetadata(offsets.get(offsets.size() - 1) + 1, getName())));
            if (own.isEmpty()) {
                return;
            }
            try {
                consumer.commitSync(own, COMMIT_MAX);
                settle("read", List.copyOf(pending.keySet()));
            } catch (KafkaException e) {
                isBetweenGenerations = e instanceof RebalanceInProgressException;
                System.err.println(getName() + " could not commit: " + e);
            }
        }

        @Override
        public void run() {
            consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            consumer.subscribe(List.of(topic), this);
            while (!stopped || (isBetweenGenerations && !pending.isEmpty())) {
                for (ConsumerRecord<byte[], byte[]> one : consumer.poll(Duration.ofMillis(100))) {
                    pending.computeIfAbsent(one.partition(), number -> new ArrayList<>()).add(one.offset());
                }
                settle("uncertain", pending.keySet().stream().filter(number -> !assigned.contains(number)).toList());
                commit();
            }
            consumer.close();
            settle("uncertain", List.copyOf(pending.keySet()));
            say("left", true);
        }
    }

    private static Map<String, Object> protocol(String mode) {
        String assignor = ASSIGNORS.get(mode);
        return assignor == null ? Map.of("group.protocol", "consumer")
            : Map.of("partition.assignment.strategy", assignor, "heartbeat.interval.ms", 500);
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> config = new HashMap<>(protocol(args[3]));
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
            if (ASSIGNORS.containsKey(args[3])) {
                own.put("session.timeout.ms", Integer.parseInt(words[2]) * 1000);
            }
            if (words.length > 3) {
                own.put("group.instance.id", words[3]);
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
