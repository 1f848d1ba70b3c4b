// Kafka's assignor "range" for kafkajs, which has none that other clients have: with it they can be in one group.
'use strict'

const { AssignerProtocol: { MemberAssignment, MemberMetadata } } = require('kafkajs')

const VERSION = 0

// How many partitions each of the members gets, and from where on: the first ones get one more if it does not divide.
function share(partitions, members, index) {
  const [each, more] = [Math.floor(partitions.length / members), partitions.length % members]
  const from = each * index + Math.min(index, more)
  return partitions.slice(from, from + each + (index < more ? 1 : 0))
}

module.exports = ({ cluster }) => ({
  name: 'range',
  version: VERSION,

  // The leader knows only the topics that it reads itself. In these tests all members of a group read the same ones.
  async assign({ members, topics }) {
    const ids = members.map(one => one.memberId).sort()
    const numbers = topic => cluster.findTopicPartitionMetadata(topic).map(one => one.partitionId)
    const partitions = topic => numbers(topic).sort((a, b) => a - b)
    const part = index => Object.fromEntries(topics.map(topic => [topic, share(partitions(topic), ids.length, index)]))
    return ids.map((memberId, index) => ({
      memberId, memberAssignment: MemberAssignment.encode({ version: VERSION, assignment: part(index) })
    }))
  },

  protocol: ({ topics }) => ({ name: 'range', metadata: MemberMetadata.encode({ version: VERSION, topics }) })
})
