import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { vi } from 'vitest'
import { openLog, PLACES, provision, readConfig, Secret } from '#engine'
import { type Server, serve } from '../../mounts/serve.ts'
import type { Vault } from '../harness/vault.ts'

export type Here = AsyncDisposable & { readonly address: string; readonly auditFile: string; readonly server: Server }

/** Nothing depends on how fast the machine is, unless a test says so. */
const patient = { deadline_ms: 60_000 }

/** A front door in this process, whose clock a test can move: it reads `performance.now` and `Date.now`. */
export async function serveHere(vault: Vault, settings: { listen?: object; vault?: object } = {}): Promise<Here> {
  await using opening = new AsyncDisposableStack()
  const home = await mkdtemp(join(tmpdir(), 'assay-here-'))
  opening.defer(() => rm(home, { recursive: true, force: true }))
  const setup = { address: vault.doorAddress, deadlineMs: patient.deadline_ms }
  const { roleId, secretId } = await provision(setup, PLACES, new Secret(vault.rootToken))
  const auditFile = join(home, 'audit.jsonl')
  const config = readConfig({
    vault: {
      address: vault.doorAddress,
      approle: { role_id: roleId, secret_id_file: 'not read' },
      ...patient,
      ...settings.vault,
    },
    listen: { port: 0, ...settings.listen },
    audit: { file: auditFile, ...patient },
  })
  const server = await serve(config, openLog({ level: 'silent' }), async () => secretId)
  opening.defer(server.close)
  const parts = opening.move()
  return { address: server.url, auditFile, server, [Symbol.asyncDispose]: () => parts.disposeAsync() }
}

/** A replica that looks at nothing by itself: what it knows of others it was told, or has looked at for a request. */
export async function serveUnlooking(vault: Vault): Promise<Here> {
  vi.useFakeTimers({ toFake: ['setInterval'] })
  try {
    return await serveHere(vault)
  } finally {
    vi.useRealTimers()
  }
}

/** Lets a test say that time has passed: moves the clocks of this process on, never back. Restored by `vi.restoreAllMocks`. */
export function moveClocks(): (ms: number) => void {
  let ahead = 0
  const [now, wall] = [performance.now.bind(performance), Date.now.bind(Date)]
  vi.spyOn(performance, 'now').mockImplementation(() => now() + ahead)
  vi.spyOn(Date, 'now').mockImplementation(() => wall() + ahead)
  return ms => {
    ahead += ms
  }
}
