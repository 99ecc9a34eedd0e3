import { accept, type RefusalCode, refuse, type Verdict } from '../refusals.ts'
import { type Head, TOKEN_HEADER } from './head.ts'
import { without } from './injections.ts'

/** Where an agent puts its sealed token. */
export type Match = {
  /** headers that it stands in, in lower case */
  readonly slots: readonly string[]
  /** the token, or undefined when there is none */
  readonly find: (head: Head) => string | undefined
  /** name of the query parameter that it stands in */
  readonly parameter?: string
  /** what a request without a token hears, where that is not `NO_TOKEN` */
  readonly missing?: RefusalCode
}

/** Reads `bearer`, `basic`, `aws`, `header NAME` or `query NAME`; undefined for anything else. */
export function parseMatch(text: string): Match | undefined {
  const [kind = '', name = '', ...more] = text.split(' ')
  if (more.length > 0 || Object.hasOwn(plain, kind) === (name !== '')) return undefined
  if (kind === 'header' && /^[A-Za-z0-9-]{1,64}$/.test(name)) return inHeader(name.toLowerCase())
  if (kind === 'query' && /^[A-Za-z0-9_.~-]{1,64}$/.test(name)) return inQuery(name)
  return plain[kind]
}

const plain: Readonly<Record<string, Match>> = {
  bearer: { slots: ['authorization'], find: ({ values }) => after(values.get('authorization'), /^(?:bearer|token) +/i) },
  /** the password of basic authentication, as git and package managers send tokens: once they were asked for it */
  basic: {
    slots: ['authorization'],
    find: ({ values }) => password(after(values.get('authorization'), /^basic +/i)),
    missing: 'NO_PASSWORD',
  },
  /** the session token of throw-away AWS keys: every SDK sends it along */
  aws: {
    slots: ['authorization', 'x-amz-security-token', 'x-amz-date'],
    find: ({ values }) => values.get('x-amz-security-token'),
  },
}

/** Some who send a token in this header without a scheme, such as cargo, want to be asked for it, too. */
function inHeader(name: string): Match {
  const find: Match['find'] = ({ values }) => values.get(name)
  return { slots: [name], find, ...(name === 'authorization' && { missing: 'NO_AUTHORIZATION' }) }
}

function inQuery(parameter: string): Match {
  return { slots: [], parameter, find: ({ query }) => new URLSearchParams(query).get(parameter) ?? undefined }
}

function after(value: string | undefined, scheme: RegExp): string | undefined {
  if (value === undefined || !scheme.test(value)) return undefined
  return value.replace(scheme, '')
}

function password(encoded: string | undefined): string | undefined {
  if (encoded === undefined) return undefined
  const text = Buffer.from(encoded, 'base64').toString('utf8')
  const at = text.indexOf(':')
  return at < 0 ? undefined : text.slice(at + 1)
}

/** The token of a request. It stands in one place: in `Assay-Token`, or where the service wants it; a copy anywhere else in the head is refused,
 *  because an allowed server may keep what it gets. */
export function findToken(head: Head, match: Match): Verdict<string> {
  const own = head.values.get(TOKEN_HEADER)
  const token = own ?? match.find(head)
  if (token === undefined || token === '')
    return refuse(match.missing ?? 'NO_TOKEN', own === undefined ? 'not where the service wants it' : 'empty')
  return isStray(head, token, match) ? refuse('TOKEN_STRAY', 'in the head, beside its place') : accept(token)
}

/** Whether it stands where it does not belong, too. A token that is short enough to stand anywhere is none. */
function isStray(head: Head, token: string, match: Match): boolean {
  const query = match.parameter === undefined ? head.query : without(head.query, match.parameter)
  if (query.includes(token) || head.destination.path.includes(token)) return true
  for (let at = 0; at < head.raw.length; at += 2) {
    if (!head.raw[at + 1]?.includes(token)) continue
    const name = (head.raw[at] ?? '').toLowerCase()
    if (name !== TOKEN_HEADER && !match.slots.includes(name)) return true
  }
  return false
}
