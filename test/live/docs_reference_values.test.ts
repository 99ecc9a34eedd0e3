import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import * as corim from '../attestation/corim_maker.ts'
import { PATIENCE_MS } from '../harness/patience.ts'
import { run } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { vaultBinary } from '../harness/vault.ts'
import { bootValues, eventLog, extendIma, imaListOf, replayInto } from './measured.ts'
import { openWorld, type World } from './world.ts'

// The examples of the page on reference values, as they stand, on a machine that has measured its boot and two programs.

const root = join(import.meta.dirname, '../..')
const BLOCK = /^```sh run\n(.*?)^```$/gms
const PROGRAMS = ['/usr/bin/env', '/usr/bin/true']

let world: World
let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'assay-docs-'))
  await symlink(await vaultBinary(), join(home, 'vault'))
  world = await openWorld({ tpms: [{}] })
  const [tpm] = world.tpms as [Swtpm]
  await replayInto(tpm, eventLog)
  const values = await bootValues(tpm)
  const { list, digests } = imaListOf(values, PROGRAMS, path => readFileSync(path))
  await extendIma(tpm, digests)
  for (const [name, content] of Object.entries({
    'makers.pem': tpm.rootCaPem,
    'issuer.pem': tpm.issuerPem,
    boot: eventLog,
    ima: list,
    ...imageOf(values),
  }))
    await writeFile(join(home, name), content)
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

/** What a builder of images signs, and the key that its signature verifies under. */
function imageOf(values: readonly Buffer[]): Record<string, string | Buffer> {
  const SHA256 = 1
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' })
  const registers = Object.fromEntries([0, 4, 7].map(pcr => [pcr, [[SHA256, values[pcr] ?? Buffer.alloc(0)] as const]]))
  const manifest = corim.manifestOf([corim.comidOf(corim.triplesOf(corim.measurement(registers)))])
  return {
    'signer.pem': publicKey.export({ type: 'spki', format: 'pem' }),
    'image.corim': corim.signedBy(privateKey, manifest),
  }
}

test('what the page says can be typed', async () => {
  const blocks = [...(await readFile(join(root, 'docs/reference-values.md'), 'utf8')).matchAll(BLOCK)].map(
    ([, block = '']) => block,
  )
  expect(blocks.length).toBeGreaterThan(5)
  expect(blocks.filter(block => block.includes('/corim'))).toHaveLength(1)
  const env = {
    PATH: `${home}:${process.env['PATH']}`,
    HOME: home,
    TPM_MAKERS_PEM: join(home, 'makers.pem'),
    TPM_ISSUER_PEM: join(home, 'issuer.pem'),
    EVENT_LOG: join(home, 'boot'),
    IMA_LOG: join(home, 'ima'),
    SIGNER_PEM: join(home, 'signer.pem'),
    IMAGE_CORIM: join(home, 'image.corim'),
    VAULT_ADDR: world.door.address,
    VAULT_TOKEN: world.vault.rootToken,
    ASSAY_TPM: (world.tpms as [Swtpm])[0].spec,
  }
  for (const block of blocks) {
    const { code, stdout, stderr } = await run('bash', ['-euo', 'pipefail', '-c', block], {
      cwd: root,
      env,
      withinMs: 5 * PATIENCE_MS,
    })
    expect({ block, code, stdout, stderr }).toEqual({ block, code: 0, stdout, stderr })
  }
})
