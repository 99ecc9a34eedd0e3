import type { Upstreams } from '../egress/upstreams.ts'
import type { Authority } from './head.ts'
import type { Injection } from './injection.ts'
import type { Match } from './match.ts'

/** A declared HTTP service, ready to be asked. */
export type HttpService = {
  readonly name: string
  readonly scheme: 'https' | 'http'
  readonly authorities: readonly Authority[]
  readonly serves: (method: string, path: string) => boolean
  /** whether what this route answers holds credentials */
  readonly issuesTokens: (method: string, path: string) => boolean
  readonly match: Match
  readonly injections: readonly Injection[]
  /** headers, in lower case and folded, of which the client's own copy goes nowhere */
  readonly slots: ReadonlySet<string>
  readonly upstreams: Upstreams
  readonly websocket: boolean
  /** whether a header may name another path, to copy from there or to it */
  readonly copies: boolean
  readonly encodedAnswers: 'refuse' | 'pass'
}

/** Finds the service of a destination. A host and port belong to one service. */
export type Services = { readonly find: (place: Authority) => HttpService | undefined }

export function openServices(services: readonly HttpService[]): Services {
  const byPlace = new Map(services.flatMap(service => service.authorities.map(place => [keyOf(place), service] as const)))
  return { find: place => byPlace.get(keyOf(place)) }
}

const keyOf = ({ host, port }: Authority) => `${host}:${port}`
