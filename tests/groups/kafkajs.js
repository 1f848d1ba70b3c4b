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

// kafkajs gives up for good where the broker is gone in the middle of certain calls: while it subscribes, and while it
// looks for the group's coordinator ("restart: false" in its event CRASH). As a supervisor would, we start it again.
async function add(name) {
  members.set(name, null)
  while (members.has(name)) {
    const consumer = member(name)
    members.set(name, consumer)
    try {
      return await start(name, consumer)
    } catch (error) {
      console.error(name, 'starts again after', error)
      await consumer.disconnect()
      await new Promise(resolve => setTimeout(resolve, 50))
    }
  }
}

function member(name) {
  const retry = { initialRetryTime: 20, maxRetryTime: 200, retries: 1000 }
  const kafka = new Kafka({ clientId: name, brokers: [bootstrap], logLevel: logLevel.NOTHING, retry })
  const consumer = kafka.consumer({
    groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTimeInMs: 100, retry,
    partitionAssigners: [PartitionAssigners.roundRobin, range]
  })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => say(name, { assigned: payload.memberAssignment[topic] || [] }))
  consumer.on(consumer.events.REBALANCING, () => say(name, { assigned: [] }))
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    say(name, { assigned: [] })
    if (!payload.restart && members.get(name) === consumer) {
      console.error(name, 'starts again after', payload.error)
      add(name)
    }
  })
  return consumer
}

async function start(name, consumer) {
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
  const consumer = members.get(name)
  members.delete(name)
  await consumer.disconnect()
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
