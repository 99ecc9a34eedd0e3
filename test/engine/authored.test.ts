import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, dataOf, openTestBroker, type TestBroker } from '../fakes/broker.ts'

// What authors of roles and policies write, and what they are told.

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const ROLE = { plugins: 'a', actions: 'deploy', audiences: 'b' }

describe('destinations in one text, as a command line has them', () => {
  const [read, write] = ['GET https://api.example.com/a', 'GET,POST https://api.example.com/items/{id}/**']
  test.each([
    ['with methods', write, [write]],
    [
      'several',
      `${write},${read}, PUT,PATCH,DELETE https://X.example/A,https://b.example`,
      [write, read, 'PUT,PATCH,DELETE https://X.example/A', 'https://b.example'],
    ],
    ['a list', [write, read], [write, read]],
  ])('%s', async (_, destinations, wanted) => {
    await broker.ask('update', 'broker/role/x', { ...ROLE, delivery: 'sealed', destinations })
    expect(dataOf(await broker.ask('read', 'broker/role/x'))).toMatchObject({ destinations: wanted })
  })
})
