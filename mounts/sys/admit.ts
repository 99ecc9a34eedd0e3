import { BrokerError, type Capability, hashed, plain } from '#engine'
import type { SysRequest } from './request.ts'

export type Wanted = {
  /** in the words of the audit log */
  readonly operation: 'read' | 'update' | 'delete' | 'list'
  /** the path that Vault would ask its policies about */
  readonly path: string
  readonly anyOf: readonly Capability[]
  /** one of Vault's root-protected paths */
  readonly sudo?: true
}

/** Vault's word on one of its own paths that we answer. A denial is in the audit log, and changes nothing; a change is there before it happens.
 *  @throws BrokerError permission_denied */
export async function admit({ broker, caller, txn }: SysRequest, wanted: Wanted): Promise<void> {
  const { operation, path, anyOf, sudo } = wanted
  const place = { txn, operation, mount: 'sys/', path: hashed(path.replace(/^sys\//, '')) }
  try {
    const may = await broker.authority.granted(caller, path)
    if (!may(anyOf) || (sudo && !may(['sudo']))) throw new BrokerError('permission_denied', 'permission denied')
  } catch (error) {
    if (error instanceof BrokerError) broker.audit.appendLazy({ type: 'refusal', ...place, fields: { code: plain(error.code) } })
    throw error
  }
  const request = { ...place, type: 'request', path: path.replace(/^sys\//, '') } as const
  if (operation === 'update' || operation === 'delete') await broker.audit.append(request)
  else broker.audit.appendLazy(request)
}
