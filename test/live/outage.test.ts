import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import { pause, until } from '../harness/process.ts'
import type { Reply } from '../harness/vault.ts'
import { type EnrolledWorld, openEnrolledWorld } from './enrolled_world.ts'
import { ask, auditOf, done, logIn, withheld, withheldLogin } from './world.ts'

// Vault sealed, paused or gone: 503 with a sentence, after a deadline at the most, nothing issued, and it goes on by itself afterwards.

const DEADLINE_MS = 5000

let world: EnrolledWorld
let attester: Attester
let token: string
/** what was issued to us, logins included */
let given = 1
beforeAll(async () => {
  world = await openEnrolledWorld({ args: ['--deadline', String(DEADLINE_MS)] })
  ;({ attester } = world)
  token = await logIn(world.service, attester)
})
afterAll(() => world?.[Symbol.asyncDispose]())

const ASKED = { plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
const creds = (as = token) => ask(world.door.address, 'POST', 'broker/creds/deploy', { body: ASKED, token: as })
const issued = async () => (await auditOf(world.door.auditFile)).filter(one => one['result'] === 'issued').length

type Asked = Readonly<Record<string, () => Promise<Reply>>>

/** Requests of every kind that were made ready before. */
async function prepared(): Promise<Asked> {
  const [{ body: login }, { body: challenge }] = [
    await withheldLogin(world.service, attester),
    await withheld(world.service, /challenge$/, held => logIn(held, attester)),
  ]
  return {
    creds: () => creds(),
    login: () => ask(world.door.address, 'POST', 'auth/tpm-quote/login', { body: login }),
    'a challenge for a role that nobody asked for': () =>
      ask(world.door.address, 'POST', 'auth/tpm-quote/challenge', { body: { ...challenge, role: `r${Date.now()}` } }),
    'a write': () => world.api('POST', 'broker/config', { actions: 'deploy,delete' }),
    'a mount': () => world.api('POST', 'sys/mounts/another', { type: 'broker' }),
    'a list of mounts': () => world.api('GET', 'sys/mounts'),
  }
}

async function unavailable(asked: Asked, sentence: RegExp): Promise<void> {
  const answers = Object.entries(asked).map(async ([what, go]) => {
    const { status, body } = await go()
    return { what, status, errors: (body as { errors: string[] }).errors }
  })
  for (const answer of await Promise.all(answers))
    expect(answer).toEqual({ what: answer.what, status: 503, errors: [expect.stringMatching(sentence)] })
}

/** Nobody waits for two deadlines in a row: all have their answers before somebody has two who began half a deadline before them, and asks what takes one
 *  deadline and then again. */
async function answeredInTime(asked: Asked): Promise<void> {
  const waits = async () => expect((await world.api('GET', 'sys/mounts')).status).toBe(503)
  const once = waits()
  await delay(DEADLINE_MS / 2)
  const answered = unavailable(asked, /did not answer in time|did not answer within/)
  // answered by the front door alone: what was sent before is there by then
  const sent = fetch(`${world.door.address}/healthz`)
  let twice = false
  const waitsTwice = async () => {
    await Promise.all([once, sent])
    await waits()
    twice = true
  }
  await Promise.all([answered.then(() => expect(twice).toBe(false)), waitsTwice()])
}

/** Goes on, and nothing was issued but what we got. */
async function recovered(): Promise<void> {
  await until('a credential', async () => (await creds()).status === 200)
  expect(await logIn(world.service, attester)).toMatch(/^hvs\./)
  given += 2
  await until('the outcomes', async () => (await issued()) === given)
  expect((await fetch(`${world.door.address}/readyz`)).status).toBe(200)
}

async function ready(): Promise<object> {
  const reply = await fetch(`${world.door.address}/readyz`)
  return { status: reply.status, ...((await reply.json()) as object) }
}

test('sealed', async () => {
  const asked = await prepared()
  await world.vault.seal()
  const { status, body } = await world.api('GET', 'sys/mounts')
  expect({ status, body }, 'in its own words').toEqual({ status: 503, body: { errors: ['Vault is sealed'] } })
  await unavailable(asked, /sealed/i)
  expect(await ready()).toMatchObject({ status: 503, ready: false, checks: { vault: false, audit: true } })
  await world.vault.unseal()
  await recovered()
})

describe('paused', () => {
  const paused = async (during: () => Promise<void>) => {
    await pause(world.vault.pid)
    try {
      await during()
    } finally {
      process.kill(world.vault.pid, 'SIGCONT')
    }
  }

  test('each answer comes within the deadline', async () => {
    const asked = await prepared()
    await paused(() => answeredInTime(asked))
    await recovered()
  })

  test('also for those who ask while others are waiting already', async () => {
    await paused(async () => {
      const began = performance.now()
      const waves = Array.from({ length: 6 }, async (_, wave) => {
        await until('its turn', async () => performance.now() - began > wave * 300)
        await answeredInTime({ creds, [`wave ${wave}`]: creds })
      })
      await Promise.all(waves)
    })
    await recovered()
  })
})

test('its own token is taken away: it logs in again, and nobody notices', async () => {
  const { body } = await world.vault.api('LIST', 'auth/token/accessors')
  for (const accessor of body.data.keys as string[]) {
    const { data } = (await world.vault.api('POST', 'auth/token/lookup-accessor', { accessor })).body as {
      data: { path: string }
    }
    if (data.path === 'auth/approle/login') await done(world.vault.api('POST', 'auth/token/revoke-accessor', { accessor }))
  }
  await done(creds())
  await recovered()
})

test('gone', async () => {
  const asked = await prepared()
  process.kill(world.vault.pid, 'SIGKILL')
  await unavailable(asked, /did not answer|cannot be reached|closed the connection/)
  const text = world.door.server.output() + JSON.stringify(await auditOf(world.door.auditFile))
  expect(text).not.toContain(token)
  expect(text).not.toMatch(/eyJ[\w-]+\./)
})
