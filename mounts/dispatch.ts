import {
  type Audit,
  type Broker,
  BrokerError,
  type Capability,
  hashed,
  holderFields,
  type Identified,
  type Mount,
  parseFields,
  plain,
  type RefusalPlace,
  type TokenFacts,
} from '#engine'
import { fromStockLogin } from './auth/stock_login.ts'
import { helpOf, mountHelp } from './help.ts'
import { match, type Operation, type Path, type Reply, type Request } from './table.ts'

/** A request as a host hands it over: the path is canonical, nothing is parsed, nobody is authorised yet. */
export type Logical = {
  /** `unsupported`: one of Vault's that no path of ours has */
  readonly operation: Operation | 'help' | 'unsupported'
  readonly path: string
  readonly data: Readonly<Record<string, unknown>>
  readonly caller: Request<never>['caller']
  readonly txn: string
  /** the address that it came from */
  readonly from: string
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

/** Finds the row, authorises, parses, records, runs. Who may not ask learns nothing else: neither what is there nor what is wrong with the request. */
export function openDispatch(broker: Broker, tables: Tables): Dispatch {
  return async (mount, sent) => {
    const logical = plainly(mount, sent)
    const { operation } = logical
    const found = match(tables[mount.type], logical.path.slice(mount.path.length).split('/'))
    if (operation === 'help') return help(broker, mount, tables[mount.type], found, logical)
    if (found && operation !== 'unsupported') return perform(broker, mount, found, { ...logical, operation })
    // said only to who might do it: a path where nothing is has no verbs either
    const anyOf: readonly Capability[] = operation === 'unsupported' ? ['create', 'update'] : [CAPABILITY[operation]]
    const refused = refusalPlace(mount, undefined, logical)
    const may = await recorded(broker.audit, refused, () => broker.authority.granted(logical.caller, aclPath(logical)))
    await recorded(broker.audit, of(may.facts, refused), async () => insist(may(anyOf)))
    if (operation === 'unsupported') throw new BrokerError('unsupported_operation', 'unsupported operation')
    throw new BrokerError('unsupported_path', 'unsupported path')
  }
}

/** A login in the shape of one of Vault's own methods is a login like any other. */
function plainly(mount: Mount, logical: Logical): Logical {
  if (mount.type !== 'tpm-quote' || logical.operation !== 'update') return logical
  const { segments, data } = fromStockLogin({ segments: logical.path.slice(mount.path.length).split('/'), data: logical.data })
  return { ...logical, path: `${mount.path}${segments.join('/')}`, data }
}

type Found = { readonly row: Path; readonly params: Readonly<Record<string, string>> }
type Asked = Logical & { readonly operation: Operation }

async function perform(broker: Broker, mount: Mount, found: Found, logical: Asked): Promise<Outcome> {
  const refused = refusalPlace(mount, found.row, logical)
  const admitted = await admit(broker, mount, found, { logical, refused })
  const { identified } = admitted
  try {
    const outcome = await answered(broker, mount, found, logical, admitted)
    await identified?.permitted
    return outcome
  } catch (error) {
    if (identified) await recorded(broker.audit, of(identified.facts, refused), () => identified.permitted)
    throw misspelt(error, found.row, logical)
  }
}

/** Whose token it was is with what was refused. */
function of(facts: TokenFacts, place: RefusalPlace): RefusalPlace {
  return { ...place, fields: { ...place.fields, ...holderFields(facts, 'refused') } }
}

/** What is missing may have been sent under another name: where nothing else warns of it, the refusal does. */
function misspelt(error: unknown, { fields }: Path, { data }: Asked): unknown {
  const [names] = warningOf(
    'unrecognized parameters',
    Object.keys(data).filter(name => !Object.hasOwn(fields, name)),
  )
  const isTold = !(error instanceof BrokerError) || error.code !== 'bad_request' || names === undefined
  return isTold ? error : new BrokerError('bad_request', `${error.message}; ${names}`, { cause: error.cause })
}

async function answered(
  broker: Broker,
  mount: Mount,
  { row, params }: Found,
  logical: Asked,
  { identified, facts }: Admitted,
): Promise<Outcome> {
  const operation = row.operations[logical.operation]
  if (!operation) throw new BrokerError('unsupported_operation', 'unsupported operation')
  const { values, given, unknown } = parseFields(row.fields, { ...logical.data, ...params })
  const replaced = Object.keys(params).filter(
    name => ![undefined, params[name]].includes(logical.data[name] as string | undefined),
  )
  const fields = facts && holderFields(facts, 'admitted')
  await record(broker.audit, row, { ...placeOf(mount, logical), ...(fields && { fields }) }, logical.operation)
  const { caller, txn, from, wrapTtl } = logical
  const reply = await operation.run({ mount, values, given, caller, identified, txn, from, wrapTtl } as Request<never>)
  return { reply, warnings: [...warningOf(IGNORED, unknown), ...warningOf(REPLACED, replaced)] }
}

/** Vault's own sentences: scripts look for them. */
const IGNORED = 'Endpoint ignored these unrecognized parameters'
const REPLACED = "Endpoint replaced the value of these parameters with the values captured from the endpoint's path"

function warningOf(sentence: string, names: readonly string[]): readonly string[] {
  const short = names.map(name => name.slice(0, 64)).toSorted()
  return names.length > 0 ? [`${sentence}: [${short.join(' ')}]`] : []
}

/** Vault adds a slash to a path that is listed, and then asks its policies: a rule for the path with the slash counts, and one without it too. */
const aclPath = ({ operation, path }: Pick<Logical, 'operation' | 'path'>) => (operation === 'list' ? `${path}/` : path)

type Admitted = { readonly identified?: Identified; readonly facts?: TokenFacts }
type Admitting = { readonly logical: Asked; readonly refused: RefusalPlace }

/** The token is looked at before anything else is. */
async function admit(broker: Broker, mount: Mount, { row, params }: Found, { logical, refused }: Admitting): Promise<Admitted> {
  const { authority, audit } = broker
  const { caller, operation } = logical
  const path = aclPath(logical)
  if (row.unauthenticated) return {}
  if (row.identify) {
    const identified = await recorded(audit, refused, () => authority.identify(caller, path, [CAPABILITY[operation]]))
    return { identified, facts: identified.facts }
  }
  const may = await recorded(audit, refused, () => authority.granted(caller, path))
  await recorded(audit, of(may.facts, refused), async () => {
    const writes = operation === 'update' && row.exists !== undefined
    // who may neither create nor update does not make us look whether it is there
    const allowed = may(writes ? ['create', 'update'] : [CAPABILITY[operation]])
    const exact = allowed && writes ? may([await createOrUpdate(row, mount, params)]) : allowed
    insist(exact)
  })
  return { facts: may.facts }
}

function insist(allowed: boolean): void {
  if (!allowed) throw new BrokerError('permission_denied', 'permission denied')
}

async function createOrUpdate(row: Path, mount: Mount, params: Readonly<Record<string, string>>): Promise<Capability> {
  return (await row.exists?.({ mount, values: params as never })) ? 'update' : 'create'
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
    if (error instanceof BrokerError)
      audit.appendLazy({ type: 'refusal', ...place, fields: { ...place.fields, code: plain(error.code) } })
    throw error
  }
}

function placeOf(mount: Mount, logical: Logical): RefusalPlace {
  return { txn: logical.txn, operation: logical.operation, mount: mount.path, path: logical.path.slice(mount.path.length) }
}

/** Who may not ask does not write into the audit log either: what they chose of the path is hashed. */
function refusalPlace(mount: Mount, row: Path | undefined, logical: Logical): RefusalPlace {
  const place = placeOf(mount, logical)
  if (row && row.pattern === place.path) return place
  return { ...place, path: hashed(logical.path.slice(mount.path.length)), fields: { pattern: plain(row?.pattern ?? '') } }
}

/** Vault lets every valid token read help. */
async function help(
  broker: Broker,
  mount: Mount,
  rows: readonly Path[],
  found: Found | undefined,
  logical: Logical,
): Promise<Outcome> {
  await recorded(broker.audit, refusalPlace(mount, found?.row, logical), () =>
    broker.authority.granted(logical.caller, logical.path),
  )
  if (logical.path.length <= mount.path.length) return { help: mountHelp(TITLES[mount.type], rows, mount.type) }
  if (!found) throw new BrokerError('unsupported_path', 'unsupported path')
  return { help: helpOf(found.row, mount.type) }
}
