import { BrokerError } from './errors.ts'
import type { Fields, Values } from './fields.ts'
import type { Store } from './vault/store.ts'

/** Records of one kind under a mount, each with a name: what an operator configures. */
export type Collection<F extends Fields> = {
  readonly fields: F
  /** may be as old as the store says */
  readonly get: (mountId: string, name: string) => Promise<Values<F> | undefined>
  /** past the cache: for what is itself remembered, and where a right depends on it */
  readonly fresh: (mountId: string, name: string) => Promise<Values<F> | undefined>
  /** What is given replaces what is there; the rest stays, or is as the fields say.
   *  @throws BrokerError bad_request when the record would make no sense, conflict when it changed meanwhile */
  readonly write: (mountId: string, name: string, given: Given<F>) => Promise<Values<F>>
  /** Throws what `write` would now, and writes nothing. */
  readonly check: (mountId: string, name: string, given: Given<F>) => Promise<void>
  readonly list: (mountId: string) => Promise<readonly string[]>
  readonly delete: (mountId: string, name: string) => Promise<void>
}

/** What is written: some fields, or what follows from the record that is there. */
export type Given<F extends Fields> = Partial<Values<F>> | ((kept: Values<F> | undefined) => Partial<Values<F>>)

export type Rules<F extends Fields> = {
  /** Throws BrokerError bad_request with a sentence. May say things worth a warning. */
  readonly check?: (record: Values<F>, mountId: string, name: string) => Promise<void> | void
}

export function openCollection<F extends Fields>(store: Store, kind: string, fields: F, rules: Rules<F> = {}): Collection<F> {
  const at = (mountId: string, name: string) => `${mountId}/${kind}/${safe(name)}`
  const checked = async (mountId: string, name: string, given: Given<F>) => {
    const kept = await store.fresh<Partial<Values<F>>>(at(mountId, name))
    const changes = typeof given === 'function' ? given(withDefaults(fields, kept?.value)) : given
    const record = { ...withDefaults(fields, kept?.value ?? {}), ...changes } as Values<F>
    missing(fields, record)
    await rules.check?.(record, mountId, name)
    return { record, version: kept?.version ?? 0 }
  }
  return {
    fields,
    get: async (mountId, name) => withDefaults(fields, (await store.get<Partial<Values<F>>>(at(mountId, name)))?.value),
    fresh: async (mountId, name) => withDefaults(fields, (await store.fresh<Partial<Values<F>>>(at(mountId, name)))?.value),
    write: async (mountId, name, given) => {
      const { record, version } = await checked(mountId, name, given)
      await store.put(at(mountId, name), record, version)
      return record
    },
    check: async (mountId, name, given) => void (await checked(mountId, name, given)),
    list: mountId => store.list(`${mountId}/${kind}/`),
    delete: (mountId, name) => store.delete(at(mountId, name)),
  }
}

const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?$/

/** One spelling per name: what differs by case or white space only cannot exist beside each other. */
function safe(name: string): string {
  if (!NAME.test(name)) {
    throw new BrokerError('bad_request', 'wanted a name of at most 128 lower-case letters, digits, dots, dashes and underscores')
  }
  return name
}

function withDefaults<F extends Fields>(fields: F, kept: Partial<Values<F>>): Values<F>
function withDefaults<F extends Fields>(fields: F, kept: Partial<Values<F>> | undefined): Values<F> | undefined
function withDefaults<F extends Fields>(fields: F, kept: Partial<Values<F>> | undefined): Values<F> | undefined {
  if (!kept) return undefined
  const entries = Object.entries(fields).map(([name, one]) => [name, (kept as Record<string, unknown>)[name] ?? one.fallback])
  return Object.fromEntries(entries) as Values<F>
}

function missing<F extends Fields>(fields: F, record: Values<F>): void {
  const name = Object.keys(fields).find(key => fields[key]?.required && record[key] === undefined)
  if (name) throw new BrokerError('bad_request', `missing ${name}: ${fields[name]?.description}`)
}
