import { type Http, type Sent, Unanswered } from '../http.ts'
import { StoreFault } from './store.ts'

export type Call = Sent & { readonly signal: AbortSignal }
export type Answer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** parsed JSON; undefined when the body is empty or is no JSON */
  readonly json: unknown
}

/** One call to a store that speaks JSON over HTTP; what is no success becomes a StoreFault.
 *  @param passing statuses that the caller reads itself */
export async function ask(http: Http, { signal, ...call }: Call, passing: readonly number[] = []): Promise<Answer> {
  const received = await http.send(call, signal).catch(unanswered)
  const answer = { status: received.status, headers: received.headers, json: parsed(received.body) }
  const { status } = answer
  if (passing.includes(status)) return answer
  if (status === 404) throw new StoreFault('absent', 'the store has no such secret')
  if (status === 401 || status === 403) throw new StoreFault('denied', `the store refused the broker (${status})`)
  if (status === 429 || status >= 500) throw new StoreFault('down', `the store answered ${status}`)
  // also an odd success: 201 or 204 to a read is no answer to it
  if (status !== 200) throw new StoreFault('malformed', `the store answered ${status}`)
  return answer
}

/** @throws StoreFault down */
export function unanswered(error: unknown): never {
  if (error instanceof Unanswered) throw new StoreFault('down', `it ${error.reason}`)
  throw error
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    return undefined
  }
}

/** The members of a JSON object. @throws StoreFault malformed */
export function members(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new StoreFault('malformed', `the ${what} of the answer is no JSON object`)
  return value as Readonly<Record<string, unknown>>
}

/** A text that is there. @throws StoreFault malformed */
export function textIn(value: unknown, what: string): string {
  if (typeof value !== 'string' || value === '') throw new StoreFault('malformed', `the answer holds no ${what}`)
  return value
}
