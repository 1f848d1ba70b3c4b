// Produces three records with keys, and consumes them in a group.

const { Kafka, Partitioners, logLevel } = require('kafkajs');

const topic = 'greetings-node';
const messages = [
  { key: 'alice', value: 'hello from node' },
  { key: 'bob', value: 'hello from node' },
  { key: 'alice', value: 'goodbye from node' },
];

const kafka = new Kafka({
  brokers: (process.env.BOOTSTRAP || 'localhost:9092').split(','),
  logLevel: logLevel.WARN,
});

async function produce() {
  // Naming the partitioner says that Java's is wanted, and keeps kafkajs from warning about it.
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });
  await producer.connect();
  await producer.send({ topic, messages }); // until all are stored
  await producer.disconnect();
}

async function consume(wanted) {
  const consumer = kafka.consumer({ groupId: 'readers-node' });
  await consumer.connect();
  // From the beginning, if the group has committed nothing.
  await consumer.subscribe({ topic, fromBeginning: true });
  let seen = 0;
  await new Promise((resolve, reject) => {
    consumer.on(consumer.events.CRASH, ({ payload }) => payload.restart || reject(payload.error));
    consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        console.log(`${message.key}: ${message.value}`);
        // After the work, so that a crash repeats records and loses none. A commit names the next offset to read.
        const offset = String(BigInt(message.offset) + 1n);
        await consumer.commitOffsets([{ topic, partition, offset }]);
        seen += 1;
        if (seen === wanted) resolve();
      },
    }).catch(reject);
  });
  await consumer.disconnect();
}

async function main() {
  await produce();
  await consume(messages.length);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
