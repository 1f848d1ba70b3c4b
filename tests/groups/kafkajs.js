// Members of a group with kafkajs; README.md says how they are told what to do. It knows the eager protocol only.
'use strict'

const { Kafka, PartitionAssigners, logLevel } = require('kafkajs')
const readline = require('readline')
const range = require('./range_assigner')

const [bootstrap, groupId, topic] = process.argv.slice(2)
const members = new Map()
const sessions = new Map() // how long each may be silent, in ms

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

// What was read is certain once the group has it. kafkajs does not say so in what it returns: a consumer that stops gives
// up a commit that is refused, and its promise holds nevertheless. It tells it by an event.
function member(name) {
  const retry = { initialRetryTime: 20, maxRetryTime: 200, retries: 1000 }
  const kafka = new Kafka({ clientId: name, brokers: [bootstrap], logLevel: logLevel.NOTHING, retry })
  const consumer = kafka.consumer({
    groupId, sessionTimeout: sessions.get(name), heartbeatInterval: 500, rebalanceTimeout: 60000, maxWaitTimeInMs: 100,
    retry, partitionAssigners: [PartitionAssigners.roundRobin, range]
  })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => say(name, { assigned: payload.memberAssignment[topic] || [] }))
  consumer.on(consumer.events.REBALANCING, () => say(name, { assigned: [] }))
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error(name, 'has crashed:', payload.error)
    say(name, { lost: [] })
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
  const committed = new Map() // by partition
  consumer.on(consumer.events.COMMIT_OFFSETS, ({ payload: { topics } }) => {
    for (const { partition, offset } of topics.flatMap(one => one.partitions)) committed.set(partition, String(offset))
  })
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: true,
    eachBatch: async ({ batch, heartbeat, isStale, isRunning }) => {
      if (isStale() || !isRunning()) return
      const next = (BigInt(batch.lastOffset()) + 1n).toString()
      committed.delete(batch.partition)
      try {
        await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next, metadata: name }])
      } finally {
        const what = committed.get(batch.partition) === next ? 'read' : 'uncertain'
        say(name, { [what]: batch.messages.map(one => [batch.partition, Number(one.offset)]) })
      }
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
  const [word, name, seconds] = line.split(' ')
  if (word === 'add') sessions.set(name, Number(seconds) * 1000)
  const done = word === 'add' ? add(name) : leave(name)
  done.catch(error => { console.error(error); process.exitCode = 1 })
})
lines.on('close', async () => {
  await Promise.all([...members.values()].map(one => one.disconnect()))
  process.exit()
})
