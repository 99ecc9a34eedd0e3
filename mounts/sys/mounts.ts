import type { CanonicalPath } from '../path.ts'
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
  { methods: ['GET'], prefix: 'sys/internal/ui/mounts', handle: readUiMounts },
  { methods: ['GET'], prefix: 'sys/internal/specs/openapi', handle: readOpenApi },
]

export function findSys(method: string, path: CanonicalPath): { row: SysRow; params: string } | undefined {
  if (!path.path.startsWith('sys/') && !path.path.startsWith('auth/token/revoke')) return undefined
  const row = rows.find(one => one.methods.includes(method) && `${path.path}/`.startsWith(`${one.prefix}/`))
  return row ? { row, params: path.path.slice(row.prefix.length + 1) } : undefined
}
