import { glob, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PATIENCE_MS } from '../harness/patience.ts'
import { run } from '../harness/process.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { vaultBinary } from '../harness/vault.ts'
import { openWorld, type World } from './world.ts'

// Blocks of the documentation marked `sh run` are run as they stand, page by page in order, on parts of their own.

const root = join(import.meta.dirname, '../..')
const BLOCK = /^```sh run\n(.*?)^```$/gms

async function pages(): Promise<{ page: string; blocks: string[] }[]> {
  const found: { page: string; blocks: string[] }[] = []
  for await (const page of glob('{*.md,*/README.md,docs/*.md}', {
    cwd: root,
    exclude: ['node_modules/**', 'docs/reference-values.md'],
  })) {
    const text = await readFile(join(root, page), 'utf8')
    const blocks = [...text.matchAll(BLOCK)].map(([, block = '']) => block)
    if (blocks.length > 0) found.push({ page, blocks })
  }
  // the README sets up what the other pages speak of; then by name
  const place = ({ page }: { page: string }) => (page === 'README.md' ? '' : page)
  return found.toSorted((one, other) => (place(one) < place(other) ? -1 : 1))
}

let world: World
let home: string
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'assay-docs-'))
  await symlink(await vaultBinary(), join(home, 'vault'))
  world = await openWorld({ tpms: [{}] })
})
afterAll(async () => {
  await world?.[Symbol.asyncDispose]()
  await rm(home, { recursive: true, force: true })
})

async function environment(): Promise<NodeJS.ProcessEnv> {
  const [tpm] = world.tpms as [Swtpm]
  const files = { TPM_MAKERS_PEM: join(home, 'makers.pem'), TPM_ISSUER_PEM: join(home, 'issuer.pem') }
  await writeFile(files.TPM_MAKERS_PEM, tpm.rootCaPem)
  await writeFile(files.TPM_ISSUER_PEM, tpm.issuerPem)
  return {
    ...files,
    PATH: `${home}:${process.env['PATH']}`,
    HOME: home,
    VAULT_ADDR: world.door.address,
    VAULT_TOKEN: world.vault.rootToken,
    ASSAY_TPM: tpm.spec,
    ASSAY_AUDIT_FILE: world.door.auditFile,
  }
}

const found = await pages()

test('there are such pages, and the README is the first', () => {
  expect(found.map(({ page }) => page).slice(0, 1)).toEqual(['README.md'])
  const operators = ['integrations', 'leases', 'machines', 'operations', 'policies', 'stores', 'trust'].map(
    name => `docs/${name}.md`,
  )
  expect(found.map(({ page }) => page)).toEqual(expect.arrayContaining(operators))
})

describe.each(found)('$page can be typed as it stands', ({ blocks }) => {
  test.each(blocks.map(block => [block.split('\n')[0], block] as const))('%s', async (_, block) => {
    const { code, stderr } = await run('bash', ['-euo', 'pipefail', '-c', `umask 022\n${block}`], {
      cwd: root,
      env: await environment(),
      withinMs: 5 * PATIENCE_MS,
    })
    expect({ block, code, stderr }).toEqual({ block, code: 0, stderr })
  })
})

test('what is typed leaves no secret that others may read', async () => {
  for (const name of ['agent-token', 'agent-key', 'evidence', 'secret_id'])
    expect(((await stat(join(home, name))).mode & 0o077).toString(8), name).toBe('0')
})
