import { setTimeout } from 'node:timers/promises'
import type { AnswerPorts } from './answering.ts'

type Own = AnswerPorts['own']

const TOO_MANY = 429
/** ms; the reply says so in seconds */
const WAIT = 1000
/** not all of them come again at once */
const SPREAD = 64

const delay = (ms: number) => setTimeout(ms, undefined, { ref: false })

/** Whoever asked too often is told so only after the time that they are told to wait: a flood that waits for its answers is then as slow as it
 *  should be, and costs little more than its connections.
 *  @param room how many wait at once; when it is full, the rest are told at once and lose their connection */
export function holdBack(own: Own, { room = 2000, wait = delay as (ms: number) => Promise<unknown> } = {}): Own {
  let [waiting, turn] = [0, 0]
  return async (request, env) => {
    const response = await own(request, env)
    if (response.status !== TOO_MANY) return response
    if (waiting >= room) {
      response.headers.set('Connection', 'close')
      return response
    }
    waiting += 1
    turn = (turn + 1) % SPREAD
    await wait(WAIT * (1 + turn / SPREAD))
    waiting -= 1
    return response
  }
}
