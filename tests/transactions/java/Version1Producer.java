package org.apache.kafka.clients.producer;

import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.ApiVersions;
import org.apache.kafka.clients.NodeApiVersions;
import org.apache.kafka.common.utils.Time;

/**
 * Kafka's producer as it is with a cluster whose transaction.version is 1: it is told of no finalized feature. It stands
 * in Kafka's package for the constructor that takes ApiVersions.
 */
public final class Version1Producer extends KafkaProducer<byte[], byte[]> {
    private static final class WithoutFeatures extends ApiVersions {
        @Override
        public synchronized void update(String node, NodeApiVersions versions) {
            super.update(node, new NodeApiVersions(versions.allSupportedApiVersions().values(), List.of()));
        }
    }

    public Version1Producer(Map<String, Object> config) {
        super(new ProducerConfig(config), null, null, null, null, null, new WithoutFeatures(), Time.SYSTEM);
    }
}
