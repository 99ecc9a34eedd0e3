import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { type Bank, type BoundRequest, bootClaimsOf, eatClaims, hexOf, type QuoteClaims, type Shown } from '#attestation'
import type { Mount } from '../mount_table.ts'
import type { RefusalCode } from '../refusals.ts'
import { openLargeStore } from '../vault/large.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { hex } from './records.ts'

/** What a machine showed with a quote that it really made, and what came of it. */
export type Seen = {
  readonly tpmId: string
  readonly akName: Uint8Array
  readonly request: Pick<BoundRequest, 'operation' | 'role'>
  readonly loginRole: string
  readonly nonce: Uint8Array
  readonly obfuscated: boolean
  readonly claims: QuoteClaims
  /** the set that decided, or that was looked at first */
  readonly reference: { readonly name: string; readonly version: number }
  readonly shown: Omit<Shown, 'verdict'>
  /** why it was refused, when it was */
  readonly refused: { readonly code: RefusalCode; readonly detail: string } | undefined
  /** set when machines are only observed: then it is kept before anyone hears of it */
  readonly observed: boolean
}

/** The last result of a TPM, as an operator reads it: times are RFC 3339, digests hexadecimal. */
export type Result = Readonly<Record<string, unknown>> & {
  readonly outcome: string
  readonly pcrs: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly boot?: BootSeen
}
/** As `bootClaimsOf` writes it. */
export type BootSeen = {
  readonly bank: Bank
  readonly replayed: readonly number[]
  readonly secure_boot?: boolean
  readonly databases?: Readonly<Record<string, string>>
  readonly images?: readonly string[]
  readonly drivers?: readonly string[]
  readonly files?: readonly string[]
  readonly command_lines?: readonly string[]
}

export type Results = {
  readonly keep: (mount: Mount, seen: Seen) => Promise<void>
  /** what a document said: it has nothing beside it that could be shown */
  readonly note: (mount: Mount, machineId: string, result: Result) => void
  readonly last: (mountId: string, tpmId: string) => Promise<Result | undefined>
  /** the files that an observed machine used, as a list of files has them */
  readonly files: (mountId: string, tpmId: string) => Promise<string | undefined>
  readonly forget: (mountId: string, tpmId: string) => Promise<void>
}

/** A result that says nothing new is written as often as this, for its time. */
const AGAIN_MS = 60_000
const MOST_KNOWN = 10_000
/** More than any boot measures; what is longer is told as being longer. */
const KEPT_ITEMS = 2_000

export function openResults(store: Store, world: World): Results {
  const large = openLargeStore(store)
  const known = new LRUCache<string, { readonly said: string; readonly at: number }>({ max: MOST_KNOWN })
  const path = (mountId: string, tpmId: string) => `${mountId}/result/${tpmId}`
  const filesPath = (mountId: string, tpmId: string) => `${mountId}/result-files/${tpmId}`

  const isNews = (at: string, result: Result) => {
    const [said, now] = [createHash('sha256').update(JSON.stringify(result)).digest('base64'), world.monotonic()]
    const before = known.get(at)
    if (before?.said === said && now - before.at < AGAIN_MS) return false
    known.set(at, { said, at: now })
    return true
  }
  /** One write after the other for each TPM, so that the last result is the last that stays. */
  const turns = new Map<string, Promise<void>>()
  const inTurn = (at: string, write: () => Promise<void>): Promise<void> => {
    const written = (turns.get(at) ?? Promise.resolve()).then(write)
    const turn = written
      .catch(() => undefined)
      .then(() => {
        if (turns.get(at) === turn) turns.delete(at)
      })
    turns.set(at, turn)
    return written
  }
  const dated = (result: Result) => ({ at: new Date(world.now()).toISOString(), ...result })
  /** who logs in does not wait for it */
  const later = (at: string, tpmId: string, written: Promise<void>) => {
    written.catch((error: unknown) => {
      known.delete(at)
      world.log.warn({ error, tpm_id: tpmId }, 'the result of a TPM could not be kept')
    })
  }
  const write = async (mountId: string, { tpmId, shown }: Seen, result: Result) => {
    if (shown.listing !== undefined) await large.put(filesPath(mountId, tpmId), { files: shown.listing })
    await large.put(path(mountId, tpmId), result)
  }
  return {
    keep: async (mount, seen) => {
      const at = path(mount.id, seen.tpmId)
      if (!isNews(at, resultOf(seen, Buffer.alloc(0))) && !seen.observed) return
      const result = dated(resultOf(seen, seen.nonce))
      const written = inTurn(at, () => write(mount.id, seen, result))
      if (seen.observed) return written
      later(at, seen.tpmId, written)
    },
    note: (mount, machineId, result) => {
      const at = path(mount.id, machineId)
      const { eat: _, ...said } = result
      if (!isNews(at, said)) return
      const now = dated(result)
      later(
        at,
        machineId,
        inTurn(at, () => large.put(at, now)),
      )
    },
    last: async (mountId, tpmId) => (await large.fresh<Result>(path(mountId, tpmId)))?.value,
    files: async (mountId, tpmId) => (await large.fresh<{ files: string }>(filesPath(mountId, tpmId)))?.value.files,
    forget: (mountId, tpmId) =>
      inTurn(path(mountId, tpmId), async () => {
        known.delete(path(mountId, tpmId))
        await large.delete(filesPath(mountId, tpmId))
        await large.delete(path(mountId, tpmId))
      }),
  }
}

function resultOf(seen: Seen, nonce: Uint8Array): Result {
  const { tpmId, akName, request, loginRole, claims, reference, shown, refused, obfuscated } = seen
  const { boot, ima } = shown
  return {
    outcome: refused?.code ?? 'OK',
    ...(refused && { detail: refused.detail }),
    operation: request.operation,
    role: loginRole,
    ak_name: hex(akName),
    reference: reference.name,
    reference_version: reference.version,
    pcrs: hexOf(claims.pcrs),
    ...(boot && { boot: bootClaimsOf(boot, KEPT_ITEMS) as BootSeen }),
    ...(ima && { ima }),
    ...(refused ? {} : { eat: eatClaims({ tpmId, nonce, quote: claims, obfuscated, reference, boot, ima }) }),
  }
}
