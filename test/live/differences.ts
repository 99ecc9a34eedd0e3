import { dial } from '../mounts/hosts/wire.ts'
import type { Side, Sides } from './sides.ts'

/** The status of the reply to a request by the wire, 0 for none; with the name of a header, its value too. */
export const answer =
  (line: string, headers: readonly string[] | ((token: string) => readonly string[]) = [], shown?: string) =>
  async (side: Side) => {
    const connection = await dial(side.address)
    const token = `X-Vault-Token: ${side.vault.rootToken}`
    const all = typeof headers === 'function' ? headers(token) : [token, ...headers]
    connection.write(
      [`${line} HTTP/1.1`, `Host: ${new URL(side.address).host}`, 'Connection: close', ...all, '', ''].join('\r\n'),
    )
    const text = await connection.closed
    const status = /^HTTP\/1\.1 (\d+)/.exec(text)?.[1] ?? '0'
    const value = shown && new RegExp(`\\r\\n${shown}: ([^\\r]*)`, 'i').exec(text)?.[1]
    return value ? `${status} ${value}` : status
  }

export function own(
  side: Side,
  path: string,
  init: { method?: string; body?: string; headers?: Record<string, string> },
): Promise<Response> {
  return fetch(`${side.address}/v1/${path}`, { ...init, headers: { 'X-Vault-Token': side.vault.rootToken, ...init.headers } })
}

/** What a client finds otherwise, in words and provoked. */
export type Row<S = Sides> = {
  readonly what: string
  readonly vault: string
  readonly here: string
  readonly why: string
  readonly ask: (side: Side, sides: S) => Promise<unknown>
  readonly seen: { readonly straight: unknown; readonly through: unknown }
}
