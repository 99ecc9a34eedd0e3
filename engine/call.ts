import type { Agent, Dispatcher } from 'undici'
import { openCollected } from './collected.ts'

/** What came back: `headers` by lower-case names. */
export type Answer = { readonly status: number; readonly headers: Dispatcher.ResponseData['headers']; readonly body: Buffer }

export type Bounds = {
  /** milliseconds for all of it, from waiting for a connection to the last byte */
  readonly deadlineMs: number
  /** that the body of the answer may have */
  readonly bytes: number
  /** ends the call before */
  readonly ending?: AbortSignal | undefined
}

/** A call that was given up from here: the answer did not come in time, nobody wants it any more, or it is too long. */
export class GivenUp extends Error {
  readonly why: 'late' | 'ending' | 'long'
  constructor(why: GivenUp['why']) {
    super(why === 'long' ? 'the answer is too long' : 'no answer within the deadline')
    this.name = 'GivenUp'
    this.why = why
  }
}

/** Answers before the answer (RFC 9110, 15.2) that a call waits through: undici waits through any number, and a server that sends nothing else keeps a
 *  whole processor busy until the deadline. */
const MOST_INFORMATIONAL = 16

/** One request by undici's `dispatch`: no stream and no abort signal is made for it, which halves its cost.
 *  @throws GivenUp; Error of undici, which may hold what was sent */
export function call(agent: Agent, options: Dispatcher.DispatchOptions, { deadlineMs, bytes, ending }: Bounds): Promise<Answer> {
  if (ending?.aborted) return Promise.reject(new GivenUp('ending'))
  const { promise, resolve, reject } = Promise.withResolvers<Answer>()
  let under: Dispatcher.DispatchController | undefined
  let givenUp: GivenUp | undefined
  const giveUp = (why: GivenUp['why']) => {
    givenUp = new GivenUp(why)
    under?.abort(givenUp)
    reject(givenUp)
  }
  const leave = () => giveUp('ending')
  const timer = setTimeout(() => giveUp('late'), deadlineMs)
  ending?.addEventListener('abort', leave)
  let status = 0
  let informational = 0
  let headers: Dispatcher.ResponseData['headers'] = {}
  const body = openCollected()
  agent.dispatch(options, {
    onRequestStart: controller => {
      under = controller
      if (givenUp) controller.abort(givenUp)
    },
    onResponseStart: (_, code, told) => {
      status = code
      headers = told
      if (code < 200 && ++informational > MOST_INFORMATIONAL) giveUp('long')
    },
    onResponseData: (_, chunk) => {
      if (body.size() + chunk.length > bytes) giveUp('long')
      else body.add(chunk)
    },
    onResponseEnd: () => resolve({ status, headers, body: body.bytes() }),
    onResponseError: (_, error) => reject(error),
  })
  return promise.finally(() => {
    clearTimeout(timer)
    ending?.removeEventListener('abort', leave)
  })
}
