import { StoreFault } from './store.ts'

/** What a vault asks for when it is asked without a token (RFC 9110, 11.6.1; parameters of Azure's own). */
export type Challenge = {
  /** where it says that tokens come from, with the tenant as its last segment */
  readonly authorization: string
  /** origin, without a slash at the end */
  readonly resource: string
}

const MAX = 2048
const PARAMETER = /([A-Za-z_]+)="([^"\\]*)"/y

/** Reads `Bearer authorization="https://login...", resource="https://vault.azure.net"`. @throws StoreFault malformed */
export function challengeOf(header: string): Challenge {
  const parameters = header.length > MAX ? undefined : parametersOf(header)
  const { authorization, authorization_uri, resource, scope } = parameters ?? {}
  const authority = originAndPath(authorization ?? authorization_uri)
  const wanted = originAndPath(resource ?? scope?.replace(/\/\.default$/, ''))
  if (!authority || !wanted) throw new StoreFault('malformed', 'the challenge of the store cannot be read')
  return { authorization: authority, resource: wanted }
}

/** Why a token must not be given for this challenge; undefined when it may. */
export function answers({ authorization, resource }: Challenge, vaultUrl: string, tenant: string): string | undefined {
  const [host, wanted] = [new URL(vaultUrl).hostname, new URL(resource).hostname]
  if (host !== wanted && !(wanted.includes('.') && host.endsWith(`.${wanted}`)))
    return 'the challenge of the store is for another domain than its own'
  const named = new URL(authorization).pathname.split('/').find(part => part !== '') ?? ''
  return named.toLowerCase() === tenant.toLowerCase() ? undefined : 'the store belongs to another tenant than the configured one'
}

function parametersOf(header: string): Readonly<Record<string, string>> | undefined {
  const [, rest] = /^Bearer +(.*)$/i.exec(header) ?? []
  if (rest === undefined) return undefined
  const found: Record<string, string> = {}
  const separator = /\s*(?:,\s*|$)/y
  for (let at = 0; at < rest.length; ) {
    PARAMETER.lastIndex = at
    const [, name = '', value = ''] = PARAMETER.exec(rest) ?? []
    // twice the same is two meanings
    if (name === '' || Object.hasOwn(found, name.toLowerCase())) return undefined
    found[name.toLowerCase()] = value
    separator.lastIndex = PARAMETER.lastIndex
    if (!separator.test(rest)) return undefined
    at = separator.lastIndex
  }
  return found
}

function originAndPath(url: string | undefined): string | undefined {
  if (url === undefined || !URL.canParse(url)) return undefined
  const { protocol, username, search, hash, origin, pathname } = new URL(url)
  const fine = ['https:', 'http:'].includes(protocol) && username === '' && search === '' && hash === ''
  return fine ? `${origin}${pathname.replace(/\/+$/, '')}` : undefined
}
