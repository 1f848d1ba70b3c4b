// Topics, records and groups with kafkajs; README.md says how it is told what to do.
'use strict'

const { Kafka, logLevel } = require('kafkajs')
const readline = require('readline')
const { setTimeout: sleep } = require('timers/promises')

const [bootstrap, partitionCount] = process.argv.slice(2)
const PARTITIONS = Number(partitionCount)
const MS_MAX = 120000 // for a machine that has no time for the test
const kafka = new Kafka({
  clientId: 'routed', brokers: [bootstrap], logLevel: logLevel.NOTHING, retry: { retries: 3 }, connectionTimeout: MS_MAX,
  requestTimeout: MS_MAX
})

async function create(topic) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS, replicationFactor: 1 }] })
  } finally {
    await admin.disconnect()
  }
  return {}
}

async function produce(first, count, ...topics) {
  return send({ idempotent: true, maxInFlightRequests: 1 }, -1, first, count, topics)
}

async function fire(first, count, ...topics) {
  return send({}, 0, first, count, topics)
}

async function send(config, acks, first, count, topics) {
  const producer = kafka.producer(config)
  await producer.connect()
  try {
    const topicMessages = topics.map(topic => ({
      topic,
      messages: Array.from({ length: Number(count) }, (_, i) => Number(first) + i)
        .map(n => ({ key: String(n), value: `record ${n} of ${topic}`, partition: n % PARTITIONS }))
    }))
    await producer.sendBatch({ topicMessages, acks, timeout: MS_MAX })
    // Before it is closed: the driver waits until the broker has read it all.
    if (acks === 0) await sleep(500)
  } finally {
    await producer.disconnect()
  }
  return {}
}

async function consume(groupId, count, ...topics) {
  const read = []
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: 100, sessionTimeout: 45000 })
  await consumer.connect()
  try {
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachBatch: async ({ batch: { topic, partition, messages } }) => {
        const next = String(BigInt(messages[messages.length - 1].offset) + 1n)
        await consumer.commitOffsets([{ topic, partition, offset: next }])
        read.push(...messages.map(one => [partition, Number(one.offset), String(one.key), String(one.value)]))
      }
    })
    for (const end = Date.now() + MS_MAX; read.length < Number(count) && Date.now() < end;) await sleep(20)
  } finally {
    await consumer.disconnect()
  }
  return { read }
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [word, ...words] = line.split(' ')
    const answer = await { create, produce, fire, consume }[word](...words).catch(error => ({ error: String(error) }))
    process.stdout.write(JSON.stringify(answer) + '\n')
  }
}

main()
