import type { Client } from './client.ts'

/** Where the front door keeps what the agent uses, without slashes at the ends: `tpm-quote` below `auth/`, and `broker`. */
export type Mounts = { readonly auth: string; readonly broker: string }

/** A front door, and where it keeps what the agent uses. */
export type Service = { readonly client: Client; readonly mounts: Mounts }

export function authPath(mounts: Mounts): string {
  return `auth/${encoded(mounts.auth)}`
}

/** A mount's path may have several segments. */
export function encoded(path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}

/** Without the members that are not there. */
export function present(fields: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(Object.entries(fields).filter((field): field is [string, string] => field[1] !== undefined))
}

export const base64 = (value: Uint8Array): string => Buffer.from(value).toString('base64')
