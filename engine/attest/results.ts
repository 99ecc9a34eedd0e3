import { type BoundRequest, bootClaimsOf, eatClaims, hexOf, type QuoteClaims, type Shown } from '#attestation'
import type { Mount } from '../mount_table.ts'
import type { Store } from '../vault/store.ts'
import type { World } from '../world.ts'
import { LIST_LIMIT } from './file_lists.ts'

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
  readonly shown: Shown
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
  readonly bank: string
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
  readonly last: (mountId: string, tpmId: string) => Promise<Result | undefined>
  /** the files that an observed machine used, as lists of files have them; none when there is no such record */
  readonly files: (mountId: string, tpmId: string) => Promise<readonly string[]>
  readonly forget: (mountId: string, tpmId: string) => Promise<void>
}

/** A result that says nothing new is written as often as this, for its time. */
const AGAIN_MS = 60_000
const MOST_KNOWN = 10_000
/** More than any boot measures; what is longer is told as being longer. */
const KEPT_ITEMS = 2_000

export function openResults(store: Store, world: World): Results {
  const known = new Map<string, { readonly said: string; readonly at: number }>()
  const path = (mountId: string, tpmId: string) => `${mountId}/result/${tpmId}`
  const filesPath = (mountId: string, tpmId: string) => `${mountId}/result-files/${tpmId}`
  const chunk = (mountId: string, tpmId: string, index: number) => `${filesPath(mountId, tpmId)}/${index}`

  const isNews = (at: string, result: Result) => {
    const [said, now] = [JSON.stringify(result), world.monotonic()]
    const before = known.get(at)
    if (before?.said === said && now - before.at < AGAIN_MS) return false
    known.delete(at)
    known.set(at, { said, at: now })
    for (const oldest of known.keys()) if (known.size > MOST_KNOWN) known.delete(oldest)
    return true
  }
  const write = async (at: string, seen: Seen, mountId: string) => {
    for (const [index, text] of chunksOf(seen.shown.listing ?? '').entries())
      await store.put(chunk(mountId, seen.tpmId, index), { text })
    await store.put(at, { at: new Date(world.now()).toISOString(), ...resultOf(seen) })
  }
  return {
    keep: async (mount, seen) => {
      const at = path(mount.id, seen.tpmId)
      if (!isNews(at, resultOf(seen)) && !seen.observed) return
      const written = write(at, seen, mount.id)
      if (seen.observed) return written
      // who logs in does not wait for it
      written.catch((error: unknown) => {
        known.delete(at)
        world.log.warn({ error, tpm_id: seen.tpmId }, 'the result of a TPM could not be kept')
      })
    },
    last: async (mountId, tpmId) => (await store.fresh<Result>(path(mountId, tpmId)))?.value,
    files: async (mountId, tpmId) => {
      const names = await store.list(`${filesPath(mountId, tpmId)}/`)
      const texts = await Promise.all(names.map((_, index) => store.fresh<{ text: string }>(chunk(mountId, tpmId, index))))
      return texts.flatMap(kept => (kept ? [kept.value.text] : []))
    },
    forget: async (mountId, tpmId) => {
      known.delete(path(mountId, tpmId))
      await store.deleteAll(`${filesPath(mountId, tpmId)}/`)
      await store.delete(path(mountId, tpmId))
    },
  }
}

function resultOf(seen: Seen): Result {
  const { tpmId, akName, request, loginRole, nonce: _, claims, reference, shown, obfuscated } = seen
  const { verdict, boot, ima } = shown
  const established = { tpmId, nonce: Buffer.alloc(0), quote: claims, obfuscated, reference, boot, ima }
  const { eat_nonce: __, boot: ___, ...eat } = eatClaims(established)
  return {
    outcome: verdict.ok ? 'OK' : verdict.code,
    ...(verdict.ok ? {} : { detail: verdict.detail }),
    operation: request.operation,
    role: loginRole,
    ak_name: Buffer.from(akName).toString('hex'),
    reference: reference.name,
    reference_version: reference.version,
    pcrs: hexOf(claims.pcrs),
    ...(boot && { boot: bootClaimsOf(boot, KEPT_ITEMS) as BootSeen }),
    ...(ima && { ima }),
    ...(verdict.ok && { eat }),
  }
}

/** Pieces that are lists of files themselves. */
function chunksOf(listing: string): readonly string[] {
  const chunks: string[] = []
  for (let from = 0; from < listing.length; ) {
    const end = from + LIST_LIMIT >= listing.length ? listing.length : listing.lastIndexOf('\n', from + LIST_LIMIT) + 1
    chunks.push(listing.slice(from, end))
    from = end
  }
  return chunks
}
