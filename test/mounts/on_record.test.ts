import { afterEach, beforeEach, expect, test } from 'vitest'
import { configure, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const of = async (txn: string) => (await broker.records()).filter(one => one['txn'] === txn)
const accessorOf = (token: string) => broker.vault.state.tokens.get(token)?.accessor ?? ''

test('who changed something, or looked, is on record, and is found by the accessor of the token', async () => {
  const token = broker.vault.token()
  const accessor = accessorOf(token)
  await broker.ask('update', 'broker/role/deploy', { ttl: 60 }, { token, txn: 'writes' })
  await broker.ask('read', 'broker/role/deploy', {}, { token, txn: 'reads' })
  await broker.ask('update', 'auth/tpm-quote/config', { challenge_ttl: 30 }, { token, txn: 'trusts' })
  expect(accessor).not.toBe('')
  const { reply } = (await broker.ask('update', 'broker/audit-hash', { input: accessor })) as { reply: { data: object } }
  const holder = { accessor: (reply.data as { hash: string }).hash, entity_id: 'entity', display_name: 'token' }
  expect([...(await of('writes')), ...(await of('reads')), ...(await of('trusts'))]).toMatchObject([
    { type: 'request', operation: 'update', path: 'role/deploy', ...holder },
    { type: 'request', operation: 'read', path: 'role/deploy', ...holder },
    { type: 'request', operation: 'update', path: 'config', ...holder },
  ])
})

test('so is who was refused, without a name that they may have chosen', async () => {
  const token = broker.vault.token({ allow: () => ['deny'] })
  const asked = ['broker/role/deploy', 'broker/nothing', 'broker/creds/deploy', 'auth/tpm-quote/config']
  for (const path of asked) await outcomeOf(broker.ask('update', path, {}, { token, txn: path }))
  for (const path of asked) {
    const [refusal] = await of(path)
    expect(refusal, path).toMatchObject({ type: 'refusal', code: 'permission_denied', entity_id: 'entity' })
    expect(refusal).toMatchObject({ accessor: broker.broker.audit.hash(accessorOf(token)) })
    expect(refusal).not.toHaveProperty('display_name')
  }
})

test('so is who tunes a mount, and who was not let', async () => {
  const [may, mayNot] = [broker.vault.token(), broker.vault.token({ allow: () => ['deny'] })]
  const tune = (token: string) => broker.sys('POST', 'sys/mounts/broker/tune', { description: 'tuned' }, token)
  await tune(may)
  await expect(tune(mayNot)).rejects.toMatchObject({ code: 'permission_denied' })
  const of = (token: string) => ({ accessor: broker.broker.audit.hash(accessorOf(token)), entity_id: 'entity' })
  const tuned = (await broker.records()).filter(one => one['mount'] === 'sys/').slice(-2)
  expect(tuned).toMatchObject([
    { type: 'request', path: 'mounts/broker/tune', ...of(may), display_name: 'token' },
    { type: 'refusal', code: 'permission_denied', ...of(mayNot) },
  ])
  expect(tuned[1]).not.toHaveProperty('display_name')
})

test('of a token that nobody knows there is nothing to say, and a batch token has no accessor', async () => {
  await outcomeOf(broker.ask('update', 'broker/role/deploy', {}, { token: 'hvs.none', txn: 'nobody' }))
  await broker.ask('read', 'broker/role/deploy', {}, { token: broker.vault.token({ batch: true }), txn: 'batch' })
  const [[nobody], [batch]] = [await of('nobody'), await of('batch')]
  expect(nobody).toMatchObject({ type: 'refusal', code: 'permission_denied' })
  for (const field of ['accessor', 'entity_id']) expect(nobody).not.toHaveProperty(field)
  expect(batch).toMatchObject({ type: 'request', entity_id: 'entity' })
  expect(batch).not.toHaveProperty('accessor')
})
