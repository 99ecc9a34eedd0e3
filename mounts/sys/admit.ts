import { BrokerError, type Capability, hashed, holderFields, plain, type TokenFacts } from '#engine'
import type { SysRequest } from './request.ts'

export type Wanted = {
  /** in the words of the audit log */
  readonly operation: 'read' | 'update' | 'delete' | 'list'
  /** the path that Vault would ask its policies about */
  readonly path: string
  /** a write of Vault's own paths is an `update`, whether there was something before or not */
  readonly anyOf: readonly Capability[]
  /** one of Vault's root-protected paths */
  readonly sudo?: true
}

/** Vault's word on one of its own paths that we answer. A denial is in the audit log, and changes nothing; a change is there before it happens.
 *  @throws BrokerError permission_denied */
export async function admit(request: SysRequest, wanted: Wanted): Promise<void> {
  const { broker, caller } = request
  const { operation, path, anyOf, sudo } = wanted
  const asked = placeOf(request, wanted)
  let facts: TokenFacts | undefined
  try {
    const may = await broker.authority.granted(caller, path)
    facts = may.facts
    if (!may(anyOf) || (sudo && !may(['sudo']))) throw new BrokerError('permission_denied', 'permission denied')
  } catch (error) {
    const holder = facts && holderFields(facts, 'refused')
    if (error instanceof BrokerError)
      broker.audit.appendLazy({ type: 'refusal', ...asked, fields: { ...holder, code: plain(error.code) } })
    throw error
  }
  const fields = holderFields(facts, 'admitted')
  const admitted = { ...asked, type: 'request', path: path.replace(/^sys\//, ''), fields } as const
  if (operation === 'update' || operation === 'delete') await broker.audit.append(admitted)
  else broker.audit.appendLazy(admitted)
}

/** Where Vault decides who may when it is told to do it: the log has it before that, and what was asked is hashed, as anybody can ask.
 *  @returns to be called when Vault denied it */
export async function announce(request: SysRequest, wanted: Pick<Wanted, 'operation' | 'path'>): Promise<() => void> {
  const { audit } = request.broker
  const asked = placeOf(request, wanted)
  await audit.append({ type: 'request', ...asked })
  return () => audit.appendLazy({ type: 'refusal', ...asked, fields: { code: plain('permission_denied') } })
}

/** Who may not ask does not write into the log. */
function placeOf({ txn }: SysRequest, { operation, path }: Pick<Wanted, 'operation' | 'path'>) {
  return { txn, operation, mount: 'sys/', path: hashed(path.replace(/^sys\//, '')) }
}
