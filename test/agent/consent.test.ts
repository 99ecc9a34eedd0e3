import { expect, test } from 'vitest'
import type { Client, Reply } from '../../agent/client.ts'
import { consented } from '../../agent/consent.ts'
import { AgentError } from '../../agent/exits.ts'

const invitation = { url: 'https://door.test/consent', user_code: 'ABCD', handle: 'h', expires_in: 30, interval: 0.001 }
const pending = { data: { status: 'pending' } }
const issued = { data: { token: 'sealed', expires_in: 60 } }

/** A service that invites and then answers each poll with the next of these; the last for good. */
function service(...answers: readonly (Reply | AgentError)[]) {
  let polls = 0
  const post: Client['post'] = async path => {
    if (!path.endsWith('/poll')) return { data: invitation }
    const answer = answers[Math.min(polls++, answers.length - 1)] ?? pending
    if (answer instanceof AgentError) throw answer
    return answer
  }
  return { client: { post }, mounts: { auth: 'tpm-quote', broker: 'broker' }, polls: () => polls }
}
const wait = (from: ReturnType<typeof service>, signal?: AbortSignal) =>
  consented(from, { role: 'mail', scope: [] }, 'hvs.x', () => {}, signal)

test('what a person decided is waited for, also where the service cannot answer for a while', async () => {
  const away = new AgentError('unavailable', 'the service cannot answer now (503): sealed')
  expect(await wait(service(pending, away, away, pending, issued))).toMatchObject({ token: 'sealed' })
})

test('who is refused does not ask again', async () => {
  const from = service(pending, new AgentError('refused', 'denied'), issued)
  await expect(wait(from)).rejects.toThrow('denied')
  expect(from.polls()).toBe(2)
})

test('nobody waits for longer than the credential is wanted', async () => {
  const ended = new AbortController()
  const from = service(pending)
  const waiting = wait(from, ended.signal)
  await expect.poll(from.polls).toBeGreaterThan(2)
  ended.abort()
  await expect(waiting).rejects.toThrow('nobody waits')
})
