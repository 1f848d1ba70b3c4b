// Reads the data set of ../dataset.py (its docstring defines the file) and builds record bodies from it.
'use strict'

const fs = require('fs')

function read(path) {
  const data = fs.readFileSync(path)
  if (data.toString('latin1', 0, 4) !== 'YGRD' || data.readUInt32BE(4) !== 1) {
    throw new Error(`${path} is not a data set of version 1`)
  }
  const partitions = data.readUInt32BE(8)
  const records = new Array(data.readUInt32BE(12))
  for (let i = 0, at = 16; i < records.length; i++) {
    const length = data.readUInt32BE(at)
    records[i] = decode(data.subarray(at + 4, at + 4 + length))
    at += 8 + length
  }
  return { partitions, records }
}

function decode(body) {
  let at = 12
  const take = () => {
    const length = body.readInt32BE(at)
    at += 4 + Math.max(length, 0)
    return length < 0 ? null : body.subarray(at - length, at)
  }
  const record = { timestamp: body.readBigInt64BE(0).toString(), partition: body.readInt32BE(8), key: take(), value: take() }
  const headers = body.readInt32BE(at)
  at += 4
  record.headers = Array.from({ length: headers }, () => [take().toString(), take()])
  return record
}

function encode({ timestamp, partition, key, value, headers }) {
  const head = Buffer.alloc(12)
  head.writeBigInt64BE(BigInt(timestamp), 0)
  head.writeInt32BE(partition, 8)
  const parts = [head, ...bytes(key), ...bytes(value), int32(headers.length)]
  for (const [name, content] of headers) parts.push(...bytes(Buffer.from(name)), ...bytes(content))
  return Buffer.concat(parts)
}

function bytes(raw) {
  return raw === null ? [int32(-1)] : [int32(raw.length), raw]
}

function int32(number) {
  const buffer = Buffer.alloc(4)
  buffer.writeInt32BE(number)
  return buffer
}

module.exports = { read, encode }
