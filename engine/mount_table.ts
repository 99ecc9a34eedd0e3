import { randomUUID } from 'node:crypto'
import { retryConflicts } from './conflicts.ts'
import { BrokerError, isConflict } from './errors.ts'
import { gatherCalls } from './gather.ts'
import type { OwnVault } from './vault/own.ts'
import type { Store } from './vault/store.ts'

/** What this broker serves: auth mounts, which have a real `jwt` mount behind them, and secrets mounts, which have nothing behind them in Vault. */
export const mountTypes = { 'tpm-quote': 'auth', broker: 'secret' } as const
export type MountType = keyof typeof mountTypes

export type Mount = {
  readonly type: MountType
  /** canonical with its trailing slash: `auth/tpm-quote/`, `broker/` */
  readonly path: string
  /** stays when the mount moves; state and keys are kept under it */
  readonly id: string
  readonly accessor: string
  readonly description: string
  /** 0: what holds where a mount says nothing */
  readonly defaultTtlSeconds: number
  readonly maxTtlSeconds: number
  readonly options?: Readonly<Record<string, string>>
  readonly listingVisibility?: Visibility
  /** it is being disabled: nothing is asked of it any more */
  readonly tainted?: boolean
  /** the last move, for who asks how it went */
  readonly moved?: { readonly id: string; readonly from: string }
}

export const visibilities = ['', 'hidden', 'unauth'] as const
export type Visibility = (typeof visibilities)[number]

/** What an operator says of a mount when it is enabled, and tunes later. */
export type Tuned = Pick<Mount, 'description' | 'defaultTtlSeconds' | 'maxTtlSeconds' | 'options' | 'listingVisibility'>

/** Makes what a mount needs before the mount is there, so that none is ever there without it; and destroys it. */
export type Needs = Readonly<Record<'open' | 'close', (mount: Mount) => Promise<unknown>>>

export type MountTable = {
  /** the mount that a canonical path lies in: synchronous, from the last look */
  readonly find: (path: string) => Mount | undefined
  readonly ofType: (type: MountType) => readonly Mount[]
  /** Sees what was there when it was asked for. One look at a time is for all who asked before it began: anybody may ask, before it is known who they are. */
  readonly refresh: () => Promise<void>
  /** Looks if the last look is older than others may rely on: this process may have stood still, or Vault may not have answered. @throws BrokerError unavailable */
  readonly recent: () => Promise<void>
  /** past what was seen last: it is there, at this path, and not on its way out */
  readonly still: (mount: Mount) => Promise<boolean>
  /** The mount, of Vault's or ours, that is there, above or below it. */
  readonly takenBy: (path: string) => Promise<string | undefined>
  /** @throws BrokerError bad_request when the path is taken */
  readonly addBroker: (path: string, given: Tuned, needs: Needs) => Promise<Mount>
  readonly tuneBroker: (mount: Mount, given: Partial<Tuned>) => Promise<void>
  /** No request finds it while it is tainted; who had found it before is told by `still`. */
  readonly taintBroker: (mount: Mount, tainted: boolean) => Promise<void>
  /** Ends a taint too. @throws BrokerError bad_request when the path is taken, or the mount has gone elsewhere meanwhile */
  readonly moveBroker: (mount: Mount, to: string) => Promise<{ readonly id: string }>
  readonly dropBroker: (mount: Mount) => Promise<void>
  /** Of an auth mount that Vault has no more: it stays in the table, tainted, until `close` has come to its end, so that who disables it again goes on. */
  readonly closing: (mount: Mount, close: () => Promise<unknown>) => Promise<void>
  readonly stop: () => void
}

/** In the options of a `jwt` mount of Vault this says that it stands behind one of ours: Vault's own table is the one truth on auth mounts. */
export const MARK = { option: 'assay', value: 'tpm-quote' } as const

const LOOK_MS = 4_000
/** By then what was changed at another replica counts here. */
const RECENT_MS = 5_000
const TABLE = 'mounts'
const TRIES = 20

type Change = (rows: readonly Mount[]) => readonly Mount[]

export async function openMountTable(
  vault: OwnVault,
  store: Store,
  { monotonic, onError }: { readonly monotonic: () => number; readonly onError: (error: unknown) => void },
): Promise<MountTable> {
  const rows = openRows(store)
  let mounts: readonly Mount[] = []
  let seenAt = Number.NEGATIVE_INFINITY
  const leaving = new Map<string, Mount>()
  const refresh = gatherCalls(async () => {
    const at = monotonic()
    const [auths, own] = await Promise.all([vault.read('sys/auth'), rows.read()])
    const marked = Object.entries(auths?.data ?? {}).flatMap(([path, row]) => authMount(path, row as AuthRow))
    mounts = [...marked, ...own, ...leaving.values()]
    seenAt = at
  })
  const change = async (make: Change) => {
    await rows.change(make)
    await refresh()
  }
  const timer = setInterval(() => void refresh().catch(onError), LOOK_MS).unref()
  await refresh()
  return {
    find: path => mounts.find(mount => `${path}/`.startsWith(mount.path) && !mount.tainted),
    ofType: type => mounts.filter(mount => mount.type === type),
    refresh,
    recent: async () => {
      if (monotonic() - seenAt > RECENT_MS) await refresh()
    },
    addBroker: async (path, given, { open, close }) => {
      const taken = await takenBy(vault, path, mounts)
      if (taken !== undefined) throw inUse(taken)
      const id = randomUUID()
      const mount: Mount = { type: 'broker', path, id, accessor: `broker_${id.slice(0, 8)}`, ...given }
      await open(mount)
      await change(others => [...refuseTaken(others, path), mount]).catch(async (error: unknown) => {
        if (isRefused(error)) await close(mount).catch(() => undefined)
        throw error
      })
      return mount
    },
    still: async ({ id, path }) => {
      const now = await rows.read()
      return now.some(row => row.id === id && row.path === path && !row.tainted)
    },
    tuneBroker: ({ id }, given) => change(all => withRow(all, id, row => tuned(row, given))),
    taintBroker: ({ id }, tainted) => change(all => withRow(all, id, row => ({ ...row, tainted }))),
    takenBy: path => takenBy(vault, path, mounts),
    moveBroker: async (mount, to) => {
      const moved = { id: randomUUID(), from: mount.path }
      await change(all => {
        if (!all.some(row => row.id === mount.id && row.path === mount.path))
          throw new BrokerError('bad_request', `no matching mount at "${mount.path}"`)
        refuseTaken(all, to)
        return withRow(all, mount.id, row => ({ ...row, tainted: false, path: to, moved }))
      })
      return moved
    },
    dropBroker: mount => change(all => all.filter(row => row.id !== mount.id)),
    closing: async (mount, close) => {
      leaving.set(mount.id, { ...mount, tainted: true })
      await refresh()
      await close()
      leaving.delete(mount.id)
      mounts = mounts.filter(({ id }) => id !== mount.id)
    },
    stop: () => clearInterval(timer),
  }
}

/** Our own mounts, which are in one record. What is changed of them is changed one after another, as whoever sets up mounts sets up many at once. */
function openRows(store: Store) {
  const write = async (make: Change): Promise<void> => {
    const was = await store.fresh<readonly Mount[]>(TABLE)
    await store.put(TABLE, make(was?.value ?? []), was?.version ?? 0)
  }
  let turn: Promise<unknown> = Promise.resolve()
  return {
    read: async () => (await store.fresh<readonly Mount[]>(TABLE))?.value ?? [],
    change: (make: Change): Promise<void> => {
      const mine = turn.then(() => retryConflicts(TRIES, () => write(make)))
      turn = mine.catch(() => undefined)
      return mine
    },
  }
}

function withRow(rows: readonly Mount[], id: string, make: (row: Mount) => Mount): readonly Mount[] {
  return rows.map(row => (row.id === id ? make(row) : row))
}

type AuthRow = {
  type: string
  uuid: string
  accessor: string
  description: string
  options: Record<string, string> | null
  config: { default_lease_ttl: number; max_lease_ttl: number }
}

function authMount(path: string, row: AuthRow): readonly Mount[] {
  if (row.type !== 'jwt' || row.options?.[MARK.option] !== MARK.value) return []
  const { default_lease_ttl: defaultTtlSeconds, max_lease_ttl: maxTtlSeconds } = row.config
  return [
    {
      type: 'tpm-quote',
      path: `auth/${path}`,
      id: row.uuid,
      accessor: row.accessor,
      description: row.description,
      defaultTtlSeconds,
      maxTtlSeconds,
    },
  ]
}

/** As Vault does it: of the options that are not given nothing changes, and one that is given empty goes. */
function tuned(row: Mount, given: Partial<Tuned>): Mount {
  const { options = {}, ...others } = given
  if (Object.keys(options).length === 0) return { ...row, ...others }
  const named = Object.entries({ ...row.options, ...options }).filter(
    ([name, value]) => value !== '' || options[name] === undefined,
  )
  return { ...row, ...others, options: Object.fromEntries(named) }
}

/** Vault's own rule: no mount may lie within another. */
function collide(one: string, other: string): boolean {
  return one.startsWith(other) || other.startsWith(one)
}

async function takenBy(vault: OwnVault, path: string, own: readonly Mount[]): Promise<string | undefined> {
  const native = await vault.read('sys/mounts')
  const paths = [
    ...Object.keys(native?.data ?? {}),
    ...own.filter(row => row.type === 'broker').map(row => row.path),
    'auth/',
    'sys/',
  ]
  return paths.find(other => collide(path, other))
}

/** Somebody else was first. Where nothing was answered the mount may be there. */
function isRefused(error: unknown): boolean {
  return isConflict(error) || (error instanceof BrokerError && error.code === 'bad_request')
}

const inUse = (path: string) => new BrokerError('bad_request', `path is already in use at ${path}`)

function refuseTaken(rows: readonly Mount[], path: string): readonly Mount[] {
  const taken = rows.find(row => collide(path, row.path))
  if (taken) throw inUse(taken.path)
  return rows
}
