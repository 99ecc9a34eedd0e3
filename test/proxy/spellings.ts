import { REAL } from '../fakes/sealing.ts'

/** The credential as an answer may have it. */
export const spelled: readonly (readonly [string, string])[] = [
  ['raw', REAL],
  ['base64', Buffer.from(REAL).toString('base64')],
  ['base64 after one byte', Buffer.from(`x${REAL}y`).toString('base64')],
  ['base64 after two bytes', Buffer.from(`xy${REAL}zz`).toString('base64')],
  ['base64url', Buffer.from(`user:${REAL}`).toString('base64url')],
  ['hex', Buffer.from(REAL).toString('hex')],
  ['HEX', Buffer.from(REAL).toString('hex').toUpperCase()],
  ['hex of single bytes', (Buffer.from(REAL).toString('hex').match(/../g) ?? []).join(' ')],
  ['percent', [...Buffer.from(REAL)].map(byte => `%${byte.toString(16)}`).join('')],
  ['JSON escapes', [...Buffer.from(REAL)].map(byte => `\\u00${byte.toString(16)}`).join('')],
]
