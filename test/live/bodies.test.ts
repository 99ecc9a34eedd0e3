import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { BrokerError } from '#engine'
import { parametersAtVault } from '../../mounts/hosts/parameters.ts'
import { type SysRequest, textIn } from '../../mounts/sys/request.ts'
import { startVault, type Vault } from '../harness/vault.ts'

// What a body says is Vault's reading, as Vault acts on it after us: whatever it is made of, the front door has the same one, or refuses it.

let vault: Vault
beforeAll(async () => {
  vault = await startVault()
})
afterAll(() => vault[Symbol.asyncDispose]())

const REFUSED = 'refused'
type Sent = { readonly body: string | Buffer; readonly type?: string }
const FORM = 'application/x-www-form-urlencoded'

/** Where nothing is mounted, Vault says where it has looked. */
async function readByVault({ body, type = 'application/json' }: Sent): Promise<string> {
  const headers = { 'X-Vault-Token': vault.rootToken, 'Content-Type': type }
  const reply = await fetch(`${vault.address}/v1/sys/remount`, { method: 'POST', headers, body: Buffer.from(body) })
  const { errors } = (await reply.json()) as { errors: readonly string[] }
  const quoted = /^no matching mount at (".*")$/.exec(errors[0] ?? '')?.[1]
  return quoted === undefined ? REFUSED : bare(JSON.parse(quoted.replaceAll('\\v', '\\u000b')) as string)
}

/** Slashes at the ends are none of a path. */
const bare = (path: string) => path.replaceAll(/^\/|\/$/g, '')

/** What it refuses is refused here, or left to it. */
function readHere({ body, type = 'application/json' }: Sent): string {
  const request = { sent: parametersAtVault(type, Buffer.from(body)) } as SysRequest
  try {
    return textIn(request, 'to') ? bare(textIn(request, 'from') || REFUSED) : REFUSED
  } catch (error) {
    if (error instanceof BrokerError) return REFUSED
    throw error
  }
}

const json = (from: string): Sent => ({ body: `{"from":${from},"to":"x"}` })
const form = (body: string): Sent => ({ body, type: FORM })
const all: readonly (readonly [string, Sent, string])[] = [
  ['a text', json('"a"'), 'a'],
  ['a text with escapes', json('"\\u0061\\ud83d\\ude00"'), 'a😀'],
  ...['0', '-0', '7', '1.0', '1e2', '1E+2', '12345678901234567890123', '0.1'].map(
    number => [`the number ${number}`, json(number), number] as const,
  ),
  ['true', json('true'), '1'],
  ['false', json('false'), '0'],
  ...['null', '""', '[]', '["a"]', '[97,98]', '{}', '{"a":"b"}'].map(value => [value, json(value), REFUSED] as const),
  ...['', 'null', '[]', '"a"', '1', '{', '{"from":"a"}', '{"From":"a","to":"x"}'].map(
    body => [`the body ${body}`, { body }, REFUSED] as const,
  ),
  ['JSON that is said to be a form', form('{"from":"a","to":"x"}'), 'a'],
  ['a form', form('from=a+b&to=x'), 'a b'],
  ['a form that repeats itself', form('from=a&to=x&from=b'), 'a,b'],
  ['a form whose type has more to it', { body: 'from=a&to=x', type: `${FORM.toUpperCase()}; charset=utf-8` }, 'a'],
  ['a form that looks like JSON to those who skip more', form('\v{"&from=a&to=x&":1}'), 'a'],
  ['a form with a semicolon', form('from=a;to=x'), REFUSED],
  ['a form that is said to be JSON', { body: 'from=a&to=x' }, REFUSED],
  ['JSON behind a byte order mark', { body: '\ufeff{"from":"a","to":"x"}' }, REFUSED],
]
test.each(all)('%s is read as Vault reads it', async (_, sent, read) => {
  expect([await readByVault(sent), readHere(sent)]).toEqual([read, read])
})

const blank = ' '.repeat(600)
const uncertain: readonly (readonly [string, Sent, string])[] = [
  ['a form that looks like JSON beyond what Vault looks at', form(`${blank}{"&from=a&to=x&":1}`), 'a'],
  ['JSON of which Vault makes a form', form(`${blank}{"from":"a","to":"x"}`), REFUSED],
  ['bytes that are no UTF-8', { body: Buffer.from('{"from":"\xe2\x82","to":"x"}', 'latin1') }, '��'],
  ['half a pair of surrogates, which older ones take', json('"\\ud800"'), REFUSED],
  ['more behind the JSON, which older ones take', { body: '{"from":"a","to":"x"} {}' }, REFUSED],
]
test.each(uncertain)('%s is refused', async (_, sent, vaults) => {
  expect([await readByVault(sent), readHere(sent)]).toEqual([vaults, REFUSED])
})

const scalar = fc.oneof(
  fc.double().map(JSON.stringify),
  fc.json({ maxDepth: 1 }),
  fc.stringMatching(/^-?\d{1,3}(?:\.\d{1,3})?(?:[eE][+-]?\d)?$/),
)
const piece = fc.constantFrom(
  'from',
  'to',
  '=',
  '&',
  '&from=',
  '&to=',
  '{',
  '}',
  '"',
  ':',
  ',',
  'a',
  '%61',
  '+',
  ' ',
  '\n',
  '\v',
  '\ufeff',
  '1e2',
  'true',
)
const bodies = fc.oneof(
  scalar.map(value => json(value)),
  fc.array(piece, { maxLength: 12 }).map(pieces => form(pieces.join(''))),
  fc.array(piece, { maxLength: 12 }).map(pieces => form(`from=a&to=x${pieces.join('')}`)),
)

test('whatever is sent is read as Vault reads it, or refused', async () => {
  let read = 0
  for (const sent of fc.sample(bodies, 400)) {
    const [vaults, here] = [await readByVault(sent), readHere(sent)]
    if (here === REFUSED && vaults !== REFUSED) expect({ sent, refused: /[^ -~]/.test(vaults) }).toEqual({ sent, refused: true })
    else if (vaults !== REFUSED) {
      expect({ sent, here }).toEqual({ sent, here: vaults })
      read += 1
    }
  }
  // a test in which nothing is read would say nothing
  expect(read).toBeGreaterThan(100)
})
