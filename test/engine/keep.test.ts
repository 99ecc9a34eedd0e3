import { describe, expect, test } from 'vitest'
import { BrokerError } from '../../engine/errors.ts'
import { keep } from '../../engine/integrations/keep.ts'
import type { RootCredential } from '../../engine/integrations/port.ts'
import { Secret } from '../../engine/secret.ts'
import { type FaultKind, StoreFault } from '../../engine/stores/store.ts'

// What a server that rotates gave is nowhere else than in this process until a store has it.
const of = (token: string, version: string): RootCredential => ({
  fields: { client_secret: new Secret('c'), refresh_token: new Secret(token) },
  version,
  stale: false,
})
const read = of('first', '1')
const next = { refresh_token: new Secret('next') }
const silent = (kind?: FaultKind) =>
  new BrokerError('unavailable', 'no', kind ? { cause: new StoreFault(kind, 'no') } : undefined)
const conflict = () => new BrokerError('conflict', 'somebody else changed this')

/** A store that says these errors first; what came of keeping the next one there, and how long was waited. */
async function kept(says: (Error | undefined)[], there = of('first', '1'), only = true) {
  let now = there
  let waited = 0
  const fail = () => {
    const error = says.shift()
    if (error) throw error
  }
  const root = {
    fresh: async () => {
      fail()
      return now
    },
    replace: async ({ fields }: Pick<RootCredential, 'fields'>, version: string) => {
      fail()
      if (version !== now.version) throw conflict()
      now = { ...now, fields, version: `${version}+` }
    },
  }
  const pause = async (ms: number) => {
    waited += ms
  }
  const said = await keep(root, read, next, { only, pause }).then(
    () => 'kept',
    (error: unknown) => (error as BrokerError).code,
  )
  return { said, waited, token: now.fields['refresh_token']?.reveal() }
}

const times = (count: number, make: () => Error) => Array.from({ length: count }, make)

describe('the only one that is good now', () => {
  test.each([
    ['Vault', undefined],
    ['another store', 'down'],
  ] as const)('is kept by %s that was away for most of a minute', async (_, kind) => {
    expect(await kept(times(13, () => silent(kind)))).toEqual({ said: 'kept', waited: 52_600, token: 'next' })
    expect(await kept(times(99, () => silent(kind)))).toEqual({ said: 'unavailable', waited: 57_600, token: 'first' })
  })

  test('is not offered for so long to a store that says no', async () => {
    expect(await kept(times(99, () => silent('denied')))).toEqual({ said: 'unavailable', waited: 2_600, token: 'first' })
  })

  test('is kept by one that stops to answer when it is asked what was written meanwhile', async () => {
    const other = { ...of('first', '2'), fields: { ...read.fields, client_secret: new Secret('by hand') } }
    expect(await kept([undefined, silent(), silent()], other)).toMatchObject({ said: 'kept', token: 'next' })
  })

  test('is not put in the place of one that somebody wrote', async () => {
    expect(await kept([], of('by hand', '2'))).toMatchObject({ said: 'conflict', token: 'by hand' })
  })
})

test('another one is not put over any other version, and not waited for so long', async () => {
  expect(await kept([], of('first', '2'), false)).toMatchObject({ said: 'conflict', token: 'first' })
  expect(
    await kept(
      times(99, () => silent()),
      of('first', '1'),
      false,
    ),
  ).toMatchObject({ said: 'unavailable', waited: 2_600 })
})
