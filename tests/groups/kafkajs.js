// Members of a group with kafkajs; README.md says how they are told what to do. It knows the eager protocol only.
'use strict'

const { Kafka, PartitionAssigners, logLevel } = require('kafkajs')
const readline = require('readline')
const range = require('./range_assigner')

const [bootstrap, groupId, topic] = process.argv.slice(2)
const members = new Map()

function say(member, what) {
  process.stdout.write(JSON.stringify({ member, ...what }) + '\n')
}

async function add(name) {
  const retry = { initialRetryTime: 20, maxRetryTime: 200, retries: 1000 }
  const kafka = new Kafka({ clientId: name, brokers: [bootstrap], logLevel: logLevel.NOTHING, retry })
  const consumer = kafka.consumer({
    groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTimeInMs: 100, retry,
    partitionAssigners: [PartitionAssigners.roundRobin, range]
  })
  members.set(name, consumer)
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => say(name, { assigned: payload.memberAssignment[topic] || [] }))
  consumer.on(consumer.events.REBALANCING, () => say(name, { assigned: [] }))
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: true,
    eachBatch: async ({ batch, heartbeat, isStale, isRunning }) => {
      if (isStale() || !isRunning()) return
      say(name, { read: batch.messages.map(one => [batch.partition, Number(one.offset)]) })
      const next = (BigInt(batch.lastOffset()) + 1n).toString()
      await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next, metadata: name }])
      await heartbeat()
    }
  })
}

async function leave(name) {
  await members.get(name).disconnect()
  say(name, { assigned: [] })
  say(name, { left: true })
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', line => {
  const [word, name] = line.split(' ')
  const done = word === 'add' ? add(name) : leave(name)
  done.catch(error => { console.error(error); process.exitCode = 1 })
})
lines.on('close', async () => {
  await Promise.all([...members.values()].map(one => one.disconnect()))
  process.exit()
})
