import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { canonicalise } from '../../mounts/path.ts'
import { dial } from '../mounts/hosts/wire.ts'
import { openWorld, type World } from './world.ts'

// What a query asks for (help, a list, what the verb says) is Vault's reading: whatever bytes it is made of, the front door has the same one, or refuses it.

let world: World
beforeAll(async () => {
  world = await openWorld()
  await world.operator(['secrets', 'enable', 'broker'])
  await world.operator(['secrets', 'enable', '-path=vaults', 'transit'])
  await world.operator(['write', 'broker/config', 'actions=deploy'])
  await world.operator(['write', 'broker/role/deploy', 'plugins=a', 'actions=deploy', 'audiences=b'])
  await world.operator(['write', '-f', 'vaults/keys/deploy'])
})
afterAll(() => world[Symbol.asyncDispose]())

/** The status of the reply, and whether it is help: sent as it is, byte for byte. */
async function asked(address: string, method: string, target: string, body: string): Promise<string> {
  const line = await dial(address)
  const length = `Content-Length: ${Buffer.byteLength(body)}`
  const head = [`${method} `, ` HTTP/1.1\r\nHost: a\r\nX-Vault-Token: ${world.vault.rootToken}\r\nConnection: close\r\n${length}`]
  line.write(Buffer.from(`${head[0]}${target}${head[1]}\r\n\r\n${body}`, 'latin1'))
  const text = await line.closed
  return `${text.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length)}${text.includes('{"help":') ? ' help' : ''}`
}

const name = fc.constantFrom('help', 'list', 'hel%70', '%6Cist', 'HELP', '?help', 'help%', '%EF%BB%BFhelp', 'a', '')
const value = fc.constantFrom(
  '1',
  'true',
  'TRUE',
  'tRUE',
  'f',
  '',
  '+',
  '+1',
  '%31',
  '%zz',
  '%',
  '%ff',
  '\u00e9',
  '1;',
  ';',
  'perhaps',
)
const pair = fc.oneof(
  { weight: 8, arbitrary: fc.tuple(name, fc.constantFrom('=', '=', '=', '', '==', '%3D'), value).map(parts => parts.join('')) },
  {
    weight: 1,
    arbitrary: fc
      .uint8Array({ minLength: 1, maxLength: 4 })
      .map(some => Buffer.from(some).toString('latin1').replaceAll(/\s/g, '')),
  },
)
const query = fc.array(fc.tuple(pair, fc.constantFrom('&', '&', '&', ';', '&&', '?')), { minLength: 1, maxLength: 3 })
const text = query.map(pairs => pairs.map(([one, end], at) => (at < pairs.length - 1 ? one + end : one)).join(''))

/** On a mount of ours and on one of Vault's: what is asked with these two has the same answers. */
const alike = [
  ['GET', 'broker/role', 'vaults/keys', ''],
  ['DELETE', 'broker/role', 'vaults/keys', ''],
  ['GET', 'sys/mounts/broker', 'sys/mounts/vaults', ''],
  ['POST', 'sys/mounts/broker', 'sys/mounts/vaults', '{"type":"kv"}'],
] as const

const RUNS = 250
const AT_ONCE = 40

test('what a query asks for is the same to both, or it is refused', async () => {
  const queries = [...fc.sample(text, RUNS), 'help=1;', 'help=%zz', '?help=1', 'a&help=1', 'list=1', 'list=1;']
  const cases = queries.flatMap(sent => alike.map(([method, ours, vaults, body]) => ({ method, ours, vaults, body, sent })))
  const answers = async ({ method, ours, vaults, body, sent }: (typeof cases)[number]) =>
    Promise.all([
      asked(world.door.address, method, `/v1/${ours}?${sent}`, body),
      asked(world.vault.address, method, `/v1/${vaults}?${sent}`, body),
    ])
  const met = new Set<string>()
  for (let at = 0; at < cases.length; at += AT_ONCE) {
    const some = cases.slice(at, at + AT_ONCE)
    for (const [index, [through, straight]] of (await Promise.all(some.map(answers))).entries()) {
      const { method, ours, sent } = some[index] ?? {}
      const refused = !canonicalise(`/v1/${ours}?${sent}`).ok
      expect({ method, ours, sent, through }).toEqual({ method, ours, sent, through: refused ? '400' : straight })
      if (!refused) met.add(`${method} ${through}`)
    }
  }
  // a test in which all asked for the same would say nothing
  const kinds = ['GET 200', 'GET 200 help', 'GET 400', 'GET 405', 'DELETE 405', 'POST 200 help', 'POST 400']
  expect([...met]).toEqual(expect.arrayContaining(kinds))
})
