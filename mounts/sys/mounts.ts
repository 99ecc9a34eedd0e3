import { parseBool } from '#engine'
import type { CanonicalPath } from '../path.ts'
import { pairsOf } from '../query.ts'
import { authRows } from './auth.ts'
import { readOpenApi, readUiMounts } from './internal.ts'
import { leaseRows } from './leases.ts'
import type { SysRow } from './request.ts'
import { secretsRows } from './secrets.ts'

/** Which of Vault's paths we answer, change on the way, or add to. Everything else passes through untouched. */
const rows: readonly SysRow[] = [
  ...secretsRows,
  ...authRows,
  ...leaseRows,
  { methods: ['GET'], prefix: 'sys/internal/ui/mounts', handle: readUiMounts, unknown: 403 },
  { methods: ['GET', 'POST', 'PUT'], prefix: 'sys/internal/specs/openapi', handle: readOpenApi, fresh: 'tried' },
]

export function findSys(method: string, path: CanonicalPath): { row: SysRow; params: string } | undefined {
  if (!path.path.startsWith('sys/') && !path.path.startsWith('auth/token/revoke')) return undefined
  const verb = verbOf(method, path)
  const row = verb && rows.find(one => one.methods.includes(verb) && `${path.path}/`.startsWith(`${one.prefix}/`))
  return row ? { row, params: path.path.slice(row.prefix.length + 1) } : undefined
}

/** What a request asks for, by its verb and its query. Help, and what is refused for these alone, are Vault's to answer. */
function verbOf(method: string, { query, trailingSlash }: CanonicalPath): string | undefined {
  const asked = query === '' ? undefined : pairsOf(query)
  if (asked?.get('help')) return undefined
  if (method === 'POST' || method === 'PUT') return trailingSlash ? undefined : method
  const list = method === 'GET' && asked?.get('list')
  if (!list) return method
  const wanted = parseBool(list)
  return wanted === undefined ? undefined : wanted ? 'LIST' : method
}
