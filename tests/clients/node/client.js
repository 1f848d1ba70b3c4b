// Shows that kafkajs administers topics, produces with every codec, and decodes what it fetches.
//
// For each codec: a topic with 4 partitions, made by its admin client; half of the records from an idempotent
// producer, half from a plain one with acks=1; all of it fetched and compared byte by byte.
//
// Its public consumer always joins a group. So this fetches through kafkajs's own Cluster and Broker (the same
// Fetch request and record-batch decoder, without the group); the arguments are those of ../checking.py.
//
// Left out: null header values, which its producer cannot encode; they are sent empty. And its headers are
// an object, so that equal names come to stand side by side: the expected records are changed alike.
'use strict'

const { Kafka, ConfigResourceTypes, logLevel } = require('kafkajs')
const createCluster = require('kafkajs/src/cluster')
const { createLogger } = require('kafkajs/src/loggers')
const consoleLog = require('kafkajs/src/loggers/console')
const socketFactory = require('kafkajs/src/network/socketFactory')
const { parseArgs } = require('util')
const dataset = require('./dataset')
const codecs = require('./codecs')

const CHUNK_RECORDS = 500 // kafkajs groups a send by partition in quadratic time
const CHUNK_BYTES = 950000 // and makes one batch of it, which must stay below 1 MiB
// How long a call, the next records or a change may take: for a machine that has no time for the test. A request that
// kafkajs gives up is sent again: a plain producer would then write records twice.
const MS_MAX = 120000
const DELIVERY = [{ idempotent: true, acks: -1 }, { idempotent: false, acks: 1 }]

class Mismatch extends Error {}

// {name: [content, ...]}, as kafkajs takes headers
function headersObject(headers) {
  const object = {}
  for (const [name, content] of headers) (object[name] = object[name] || []).push(content === null ? Buffer.alloc(0) : content)
  return object
}

// The order and nulls of a record as kafkajs can send them
function asSent(record) {
  const headers = Object.entries(headersObject(record.headers)).flatMap(([name, all]) => all.map(one => [name, one]))
  return { ...record, headers }
}

function* chunks(records) {
  let chunk = []
  let bytes = 0
  for (const record of records) {
    const size = (record.value ? record.value.length : 0) + 200
    if (chunk.length === CHUNK_RECORDS || (chunk.length && bytes + size > CHUNK_BYTES)) {
      yield chunk
      chunk = []
      bytes = 0
    }
    chunk.push(record)
    bytes += size
  }
  if (chunk.length) yield chunk
}

async function createTopic(admin, topic, partitions) {
  await admin.createTopics({
    topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '-1' }] }],
  })
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: [{ type: ConfigResourceTypes.TOPIC, name: topic, configNames: ['retention.ms'] }],
  })
  const { configValue } = resources[0].configEntries[0]
  if (configValue !== '-1') throw new Mismatch(`${topic}: retention.ms reads back as ${configValue}`)
}

async function produce(kafka, topic, codec, records, { idempotent, acks }) {
  const producer = kafka.producer({ idempotent, maxInFlightRequests: 1 })
  await producer.connect()
  for (const chunk of chunks(records)) {
    const messages = chunk.map(r => ({ ...r, headers: headersObject(r.headers) }))
    await producer.send({ topic, acks, compression: codecs.TYPES[codec], messages })
  }
  await producer.disconnect()
}

async function connectCluster(bootstrap) {
  const cluster = new createCluster({
    logger: createLogger({ level: logLevel.ERROR, logCreator: consoleLog }),
    socketFactory: socketFactory(),
    brokers: [bootstrap],
    clientId: 'kafkajs-fetch',
    connectionTimeout: MS_MAX,
    requestTimeout: MS_MAX,
    enforceRequestTimeout: true,
    metadataMaxAge: 300000,
    allowAutoTopicCreation: false,
    offsets: new Map(),
  })
  await cluster.connect()
  return cluster
}

async function consume(cluster, topic, partitions, records) {
  await cluster.addTargetTopic(topic)
  const expected = Array.from({ length: partitions }, (_, p) => records.filter(r => r.partition === p))
  const seen = expected.map(() => 0)
  let deadline = Date.now() + MS_MAX
  for (let missing = records.length; missing > 0; ) {
    const got = await fetchOnce(cluster, topic, expected, seen)
    if (got > 0) deadline = Date.now() + MS_MAX
    if (Date.now() > deadline) throw new Mismatch(`${topic}: read ${seen} records of its partitions, ${missing} are missing`)
    missing -= got
  }
}

// One fetch of all unfinished partitions; returns the number of records checked
async function fetchOnce(cluster, topic, expected, seen) {
  const open = expected.map((_, p) => p).filter(p => seen[p] < expected[p].length)
  const [leader] = Object.keys(cluster.findLeaderForPartitions(topic, open))
  const broker = await cluster.findBroker({ nodeId: leader })
  const wanted = open.map(p => ({ partition: p, fetchOffset: seen[p].toString(), maxBytes: 1048576 }))
  const { responses } = await broker.fetch({ maxWaitTime: 5000, topics: [{ topic, partitions: wanted }] })
  let got = 0
  for (const { partitions } of responses) {
    for (const { partition, messages } of partitions) {
      // A batch may begin before the offset asked for
      for (const message of messages.filter(m => Number(m.offset) >= seen[partition])) {
        check(topic, partition, message, expected[partition], seen[partition]++)
        got++
      }
    }
  }
  return got
}

function check(topic, partition, message, expected, next) {
  const where = `${topic}-${partition} at offset ${message.offset}`
  if (Number(message.offset) !== next || next >= expected.length) {
    throw new Mismatch(`${where}: expected offset ${next} of ${expected.length}; offsets must be dense from 0`)
  }
  const headers = Object.entries(message.headers).flatMap(([name, all]) => (Array.isArray(all) ? all : [all]).map(one => [name, one]))
  const got = { timestamp: message.timestamp, partition, key: message.key, value: message.value, headers }
  if (!dataset.encode(got).equals(dataset.encode(expected[next]))) {
    throw new Mismatch(`${where}: ${show(got)}, was produced as ${show(expected[next])}`)
  }
}

function show(record) {
  return JSON.stringify(record, (_, v) => (v && v.type === 'Buffer' ? Buffer.from(v.data).toString('latin1').slice(0, 200) : v))
}

async function checkOffsets(admin, topic, partitions, records) {
  for (const { partition, low, high } of await admin.fetchTopicOffsets(topic)) {
    const count = records.filter(r => r.partition === partition).length
    if (low !== '0' || high !== String(count)) throw new Mismatch(`${topic}-${partition}: offsets ${low} to ${high}, produced ${count}`)
  }
}

async function checkDelete(admin, topic) {
  await createTopic(admin, topic, 1)
  await admin.deleteTopics({ topics: [topic] })
  // Kafka answers a moment before it lists the topic no more
  for (const end = Date.now() + MS_MAX; (await admin.listTopics()).includes(topic); ) {
    if (Date.now() > end) throw new Mismatch(`${topic} is still listed after its deletion`)
    await new Promise(done => setTimeout(done, 50))
  }
}

async function main() {
  const start = Date.now()
  const options = { bootstrap: { type: 'string' }, dataset: { type: 'string' }, codecs: { type: 'string' }, prefix: { type: 'string' } }
  const args = parseArgs({ options }).values
  const timeouts = { connectionTimeout: MS_MAX, requestTimeout: MS_MAX }
  const kafka = new Kafka({ brokers: [args.bootstrap], clientId: 'kafkajs', logLevel: logLevel.ERROR, ...timeouts })
  const { partitions, records } = dataset.read(args.dataset)
  const names = args.codecs.split(',')
  await codecs.install()
  const admin = kafka.admin()
  await admin.connect()
  const cluster = await connectCluster(args.bootstrap)
  for (const [i, codec] of names.entries()) {
    const topic = `${args.prefix}-${codec}`
    const cut = n => Math.floor((records.length * n) / names.length)
    const part = records.slice(cut(i), cut(i + 1)).map(asSent)
    const middle = Math.floor(part.length / 2)
    await createTopic(admin, topic, partitions)
    await produce(kafka, topic, codec, part.slice(0, middle), DELIVERY[0])
    await produce(kafka, topic, codec, part.slice(middle), DELIVERY[1])
    await consume(cluster, topic, partitions, part)
    await checkOffsets(admin, topic, partitions, part)
  }
  await checkDelete(admin, `${args.prefix}-deleted`)
  await cluster.disconnect()
  await admin.disconnect()
  const { version } = require('kafkajs/package.json')
  console.log(`kafkajs ${version}: ${records.length} records, ${names.join(', ')}: every byte and offset as produced (${(Date.now() - start) / 1000} s)`)
}

main().catch(error => {
  console.error(`kafkajs: ${error instanceof Mismatch ? error.message : error.stack}`)
  process.exit(1)
})
