import { type Audit, type Broker, BrokerError, type Capability, type Mount, parseFields, plain, type RefusalPlace } from '#engine'
import { helpOf, mountHelp } from './help.ts'
import { match, type Operation, type Path, type Reply, type Request } from './table.ts'

/** A request as a host hands it over: the path is canonical, nothing is parsed, nobody is authorised yet. */
export type Logical = {
  readonly operation: Operation | 'help'
  readonly path: string
  readonly data: Readonly<Record<string, unknown>>
  readonly caller: Request<never>['caller']
  readonly txn: string
  readonly wrapTtl: string | undefined
}
export type Outcome = { readonly reply: Reply; readonly warnings: readonly string[] } | { readonly help: object }

export type Tables = Readonly<Record<Mount['type'], readonly Path[]>>
export type Dispatch = (mount: Mount, logical: Logical) => Promise<Outcome>

const CAPABILITY: Readonly<Record<Operation, Capability>> = { read: 'read', update: 'update', delete: 'delete', list: 'list' }
const TITLES: Readonly<Record<Mount['type'], string>> = {
  'tpm-quote': 'Machines log in with TPM 2.0 quotes over fresh challenges.',
  broker: 'Credentials that are scoped to a task, short-lived and bound to the key of an attested machine.',
}

/** Finds the row, authorises, parses, records, runs. Everything below here has been asked for by somebody who may. */
export function openDispatch(broker: Broker, tables: Tables): Dispatch {
  return async (mount, logical) => {
    const rows = tables[mount.type]
    const rest = logical.path.slice(mount.path.length)
    if (logical.operation === 'help') return help(broker, mount, rows, rest, logical)
    const found = match(rows, rest.split('/'))
    if (!found) throw new BrokerError('unsupported_path', 'unsupported path')
    return perform(broker, mount, found, { ...logical, operation: logical.operation })
  }
}

type Found = { readonly row: Path; readonly params: Readonly<Record<string, string>> }
type Asked = Logical & { readonly operation: Operation }

async function perform(broker: Broker, mount: Mount, { row, params }: Found, logical: Asked): Promise<Outcome> {
  const place = placeOf(mount, logical)
  const operation = row.operations[logical.operation]
  const identified = await recorded(broker.audit, place, () => admit(broker, mount, { row, params }, logical))
  if (!operation) throw new BrokerError('unsupported_operation', 'unsupported operation')
  const { values, given, unknown } = parseFields(row.fields, { ...logical.data, ...params })
  await record(broker.audit, row, place, logical.operation)
  const { caller, txn, wrapTtl } = logical
  const reply = await operation.run({ mount, values, given, caller, identified, txn, wrapTtl } as Request<never>)
  const warnings = unknown.map(name => `the parameter ${JSON.stringify(name.slice(0, 64))} is not known here and was ignored`)
  return { reply, warnings }
}

/** The token is looked at before anything else, so that who may not ask does not learn what is there. */
async function admit(broker: Broker, mount: Mount, { row, params }: Found, logical: Asked) {
  if (row.unauthenticated) return undefined
  const capability = await capabilityOf(row, mount, params, logical.operation)
  if (row.identify) return broker.authority.identify(logical.caller, logical.path, [capability])
  await broker.authority.require(logical.caller, logical.path, [capability])
  return undefined
}

async function capabilityOf(
  row: Path,
  mount: Mount,
  params: Readonly<Record<string, string>>,
  operation: Operation,
): Promise<Capability> {
  if (operation !== 'update' || !row.exists) return CAPABILITY[operation]
  return (await row.exists({ mount, values: params as never })) ? 'update' : 'create'
}

/** What changes something is in the audit log before it happens; what only looks is there soon after. */
async function record(audit: Audit, row: Path, place: RefusalPlace, operation: Operation): Promise<void> {
  if (row.audits === 'itself') return
  const changes = operation === 'update' || operation === 'delete'
  if (changes) await audit.append({ type: 'request', ...place })
  else audit.appendLazy({ type: 'request', ...place })
}

async function recorded<T>(audit: Audit, place: RefusalPlace, admitted: () => Promise<T>): Promise<T> {
  try {
    return await admitted()
  } catch (error) {
    if (error instanceof BrokerError) audit.appendLazy({ type: 'refusal', ...place, fields: { code: plain(error.code) } })
    throw error
  }
}

function placeOf(mount: Mount, logical: Asked): RefusalPlace {
  return { txn: logical.txn, operation: logical.operation, mount: mount.path, path: logical.path.slice(mount.path.length) }
}

/** Vault lets every valid token read help. */
async function help(broker: Broker, mount: Mount, rows: readonly Path[], rest: string, logical: Logical): Promise<Outcome> {
  await broker.authority.allows(logical.caller, logical.path, ['read'])
  if (rest === '') return { help: mountHelp(TITLES[mount.type], rows) }
  const found = match(rows, rest.split('/'))
  if (!found) throw new BrokerError('unsupported_path', 'unsupported path')
  return { help: helpOf(found.row) }
}
