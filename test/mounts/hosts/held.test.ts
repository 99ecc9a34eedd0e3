import { expect, test } from 'vitest'
import type { Bindings } from '../../../mounts/hosts/answering.ts'
import { holdBack } from '../../../mounts/hosts/held.ts'

const env = {} as Bindings
const ask = (status: number) => new Request(`http://127.0.0.1/${status}`)
const answers = (request: Request) => new Response(null, { status: Number(new URL(request.url).pathname.slice(1)) })

/** What was answered so far, in order. */
function asking(own: ReturnType<typeof holdBack>) {
  const answered: string[] = []
  const send = (name: string, status: number) =>
    Promise.resolve(own(ask(status), env)).then(response => void answered.push(`${name} ${response.status}`))
  return { answered, send }
}

/** A clock that goes on when it is told to. */
function stopped() {
  const { promise, resolve } = Promise.withResolvers<void>()
  const times: number[] = []
  return { times, goOn: resolve, wait: (ms: number) => promise.then(() => void times.push(ms)) }
}

test('who asked too often waits behind all others, and is answered', async () => {
  const { wait, goOn } = stopped()
  const { answered, send } = asking(holdBack(answers, { wait }))
  const floods = [send('floods', 429), send('floods', 429)]
  await Promise.all([send('asks', 200), send('errs', 403), send('waits', 503)])
  expect(answered).toEqual(['asks 200', 'errs 403', 'waits 503'])
  goOn()
  await Promise.all(floods)
  expect(answered.slice(3)).toEqual(['floods 429', 'floods 429'])
})

test('they wait for as long as they were told, and come back one after the other', async () => {
  const { wait, goOn, times } = stopped()
  const own = holdBack(answers, { wait })
  goOn()
  await Promise.all(Array.from({ length: 64 }, async () => own(ask(429), env)))
  expect(new Set(times).size).toBe(64)
  expect(Math.min(...times)).toBe(1000)
  expect(Math.max(...times)).toBeLessThan(2000)
})

test('where no room is left to wait, the connection ends', async () => {
  const { wait, goOn } = stopped()
  const own = holdBack(answers, { room: 2, wait })
  const waiting = [1, 2].map(async () => own(ask(429), env))
  const { headers } = await own(ask(429), env)
  expect(headers.get('connection')).toBe('close')
  goOn()
  for (const response of await Promise.all(waiting)) expect(response.headers.get('connection')).toBeNull()
  // there is room again
  expect((await own(ask(429), env)).headers.get('connection')).toBeNull()
})
