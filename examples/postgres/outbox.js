// An order and its message, in one transaction; and a reader of such messages, which ships each order once.

const { Client } = require('pg')

const topic = 'orders-node'

// Adds an order, and tells of it.
async function add(client, id, item) {
  await client.query('INSERT INTO orders_node VALUES ($1, $2)', [id, item])
  const message = [topic, JSON.stringify({ id, item }), String(id)]
  const sent = await client.query('SELECT yagura.produce($1, $2, key => $3) AS id', message)
  return sent.rows[0].id
}

async function main() {
  const client = new Client({ connectionString: process.env.DATABASE_URL ?? 'postgres://localhost/shop' })
  await client.connect()
  await client.query('CREATE TABLE IF NOT EXISTS orders_node (id bigint PRIMARY KEY, item text NOT NULL)')
  await client.query('CREATE TABLE IF NOT EXISTS shipments_node (id bigint PRIMARY KEY)')

  await client.query('BEGIN')
  const message = await add(client, 1, 'a lamp')
  await client.query('COMMIT') // the order and its message are there

  await client.query('BEGIN')
  await add(client, 2, 'a regret')
  await client.query('ROLLBACK') // neither is

  let place
  while (!(place = (await client.query('SELECT partition, "offset" FROM yagura.position($1)', [message])).rows[0])) {
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  console.log(`order 1 is at offset ${place.offset} of partition ${place.partition}`)

  await client.query('BEGIN')
  for (const { value } of (await client.query("SELECT value FROM yagura.poll('shipping-node', $1)", [topic])).rows) {
    const { id } = JSON.parse(value)
    await client.query('INSERT INTO shipments_node VALUES ($1)', [id])
    console.log(`order ${id} is shipped`)
  }
  await client.query("SELECT yagura.commit('shipping-node', $1)", [topic])
  await client.query('COMMIT') // what is read and how far the reader has come, or neither
  await client.end()
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})
