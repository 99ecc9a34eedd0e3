import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { configure, dataOf, openTestBroker, outcomeOf, type TestBroker } from '../fakes/broker.ts'
import { warningsOf } from './integration_world.ts'

let broker: TestBroker
beforeEach(async () => {
  broker = await openTestBroker()
  await configure(broker)
})
afterEach(() => broker[Symbol.asyncDispose]())

const digest = 'ab'.repeat(32)
const at = (name: string) => `auth/tpm-quote/reference/${name}`
const write = (name: string, fields: object) => broker.ask('update', at(name), fields)
const read = async (name: string): Promise<Record<string, unknown>> => dataOf(await broker.ask('read', at(name)))
const list = (name: string, files: string) => broker.ask('update', `auth/tpm-quote/ima/${name}`, { files })

describe('the version of a set', () => {
  const pcrs = { sha256: { 0: digest } }
  test('counts every write, and goes on after the set was deleted', async () => {
    await write('x', { pcrs, owner: 'boot team', reason: 'change 17' })
    expect(await read('x')).toMatchObject({
      version: 1,
      owner: 'boot team',
      reason: 'change 17',
      secure_boot: 'any',
      observe: false,
    })
    await write('x', { reason: 'change 18' })
    expect(await read('x')).toMatchObject({ version: 2, owner: 'boot team', reason: 'change 18' })
    await broker.ask('delete', at('x'))
    await write('x', { pcrs })
    expect(await read('x')).toMatchObject({ version: 3, owner: '' })
  })

  test('is not for whoever writes to say', async () => {
    await write('x', { pcrs, version: 40 })
    expect(await read('x')).toMatchObject({ version: 1 })
  })

  test('is refused to a write that goes by what was there before another', async () => {
    await write('x', { pcrs })
    const record = broker.vault.asked.findLast(({ path }) => path.endsWith('/reference/x'))?.path
    const before = await fetch(`${broker.vault.address}/v1/${record}`, { headers: { 'X-Vault-Token': broker.vault.rootToken } })
    const seen = { status: before.status, body: await before.json() }
    await write('x', { reason: 'a' })
    broker.vault.fault = ({ method, path }) => (method === 'GET' && path === record ? seen : undefined)
    expect(await outcomeOf(write('x', { reason: 'b' }))).toBe('conflict')
    broker.vault.fault = () => undefined
    expect(await read('x')).toMatchObject({ version: 2, reason: 'a' })
  })
})

describe('a value that a reset leaves', () => {
  const zeros = '00'.repeat(32)
  const warned = async (fields: object) => warningsOf(await write('x', fields))

  test('is told to who writes it: a machine that shows it fails', async () => {
    await broker.ask('update', 'auth/tpm-quote/config', { allow_software_tpms: false })
    expect(await warned({ pcrs: { sha256: { 0: digest, 7: [digest, zeros] } } })).toEqual([
      expect.stringMatching(/^PCR 7 of sha256: a value that a reset leaves, .* unless the mount has allow_software_tpms$/),
    ])
    expect(await warned({ pcrs: { sha256: { 8: zeros } } })).toEqual([])
    expect(await warned({ pcrs: { sha256: { 7: zeros } }, observe: true })).toEqual([])
  })

  test('is as good as any where software TPMs are accepted', async () => {
    await broker.ask('update', 'auth/tpm-quote/config', { allow_software_tpms: true })
    expect(await warned({ pcrs: { sha256: { 7: zeros } } })).toEqual([])
  })
})

const images = { replay: '4,7,8,9', boot_images: digest }
const refused: readonly (readonly [object, string])[] = [
  [{}, 'pcrs: wanted values under one of the banks sha256, sha384, sha512, or PCRs in replay, or ima'],
  [{ replay: '4,7' }, 'pcrs: wanted values to pin, or rules on what the logs say: as it is, every boot would match'],
  [{ ima: 'required' }, 'pcrs: wanted values to pin, or rules'],
  [{ ima: 'required', ima_ignored: '/tmp/*' }, 'pcrs: wanted values to pin, or rules'],
  [{ replay: '4,16' }, 'replay: wanted PCRs 0 to 22, not 16: software can reset 16 and 23'],
  [{ replay: '4,x' }, 'replay: wanted PCRs 0 to 22'],
  [{ replay: '4', bank: 'sha1' }, 'bank: wanted one of sha256, sha384, sha512'],
  [{ replay: '4', secure_boot: 'required' }, 'secure_boot: wanted PCR 7 in replay'],
  [{ replay: '4', databases: { dbx: digest } }, 'databases: wanted PCR 7 in replay'],
  [{ replay: '7', databases: { dbt: digest } }, 'databases: wanted PK, KEK, db, dbx'],
  [{ replay: '7', databases: { dbx: [] } }, 'databases: wanted at least one digest of dbx'],
  [{ replay: '7', databases: { dbx: 'ab' } }, 'databases: wanted digests of 32 bytes in hex'],
  [{ replay: '7', boot_images: digest }, 'boot_images: wanted PCR 4 in replay'],
  [{ replay: '4', boot_images: 'ab' }, 'boot_images: wanted digests of 32 bytes in hex'],
  [{ replay: '4', bank: 'sha384', boot_images: digest }, 'boot_images: wanted digests of 48 bytes in hex'],
  [{ replay: '4', boot_drivers: digest }, 'boot_drivers: wanted PCR 2 in replay'],
  [{ replay: '4', boot_files: digest }, 'boot_files: wanted PCR 9 in replay'],
  [{ ...images, replay: '4', command_lines: 'ro' }, 'command_lines: wanted PCR 8 or 12 in replay'],
  [{ ...images, replay: '4', command_line_required: 'ro' }, 'command_line_required: wanted PCR 8 or 12 in replay'],
  [{ ...images, replay: '4', command_line_forbidden: 'rw' }, 'command_line_forbidden: wanted PCR 8 or 12 in replay'],
  [{ replay: '8', command_lines: 'ro' }, 'boot_images: wanted the boot loaders that measure files and command lines'],
  [{ replay: '9', boot_files: digest }, 'boot_images: wanted the boot loaders that measure files and command lines'],
  [{ replay: '4', firmware_versions: '1.2' }, 'firmware_versions: wanted 16 hex digits each, as quotes say them'],
  [
    { replay: '4', boot_images: digest, not_after: 'soon' },
    'not_after: wanted a date such as 2026-12-01 or 2026-12-01T12:00:00Z',
  ],
  [{ replay: '4', boot_images: digest, not_after: '2026-02-31T00:00:00Z2' }, 'not_after: wanted a date'],
  [
    { replay: '4', boot_images: digest, not_before: '2026-12-02', not_after: '2026-12-01' },
    'not_after: wanted a date after not_before',
  ],
  [{ replay: '4', boot_images: digest, ima_lists: 'base' }, 'ima: wanted `required` with rules on files'],
  [{ replay: '4', boot_images: digest, ima_ignored: '/tmp/*' }, 'ima: wanted `required` with rules on files'],
  [{ ima: 'required', ima_lists: 'nowhere' }, 'ima_lists: there is no list of the name at place 1: write it first'],
  [{ ima: 'required', ima_lists: Array.from({ length: 17 }, (_, at) => `l${at}`) }, 'ima_lists: wanted at most 16'],
  [{ pcrs: { sha256: { 0: digest } }, ima: 'required', ima_templates: [] }, 'ima_templates: wanted at least one'],
  [{ ima: 'required', ima_templates: 'ima' }, 'ima_templates: wanted one of ima-ng, ima-sig, ima-buf'],
  [{ pcrs: { sha256: { 0: [] } } }, 'pcrs: wanted digests of 32 bytes in hex for PCR 0'],
]
test.each(refused)('%j is refused: %s', async (fields, sentence) => {
  await expect(write('x', fields)).rejects.toMatchObject({
    code: 'bad_request',
    message: expect.stringContaining(sentence) as string,
  })
  expect(await outcomeOf(broker.ask('read', at('x')))).toBe('not_found')
})

const taken: readonly object[] = [
  { replay: '4', boot_images: [digest, digest.toUpperCase()] },
  { ...images, boot_files: digest, command_lines: ['/vmlinuz ro console=ttyS0,115200'] },
  { replay: '7,8', secure_boot: 'required', databases: { dbx: [digest, 'cd'.repeat(32)] }, command_line_forbidden: 'init=*' },
  { pcrs: { sha256: { 4: digest } }, replay: '8', command_line_required: 'ro' },
  { firmware_versions: '20240125001200AA', replay: '0' },
  { observe: true, replay: '4,7', ima: 'required' },
  { observe: true, pcrs: { sha256: { 0: [], 7: [] } } },
  { replay: '4', boot_images: digest, not_before: '2026-01-01', not_after: '2026-12-01T12:00:00+02:00' },
]
test.each(taken)('%j is taken', async fields => expect(await outcomeOf(write('x', fields))).toBe('OK'))

describe('a list of files', () => {
  test.each([
    ['x', 'files: line 1 is not a digest of SHA-256 or better, a space and a path'],
    [`${digest}  /a\n${'ab'.repeat(20)}  /b`, 'files: line 2 is not'],
    ['# nothing', 'files: wanted at least one'],
  ])('%j is refused: %s', async (files, sentence) => {
    await expect(list('x', files)).rejects.toMatchObject({
      code: 'bad_request',
      message: expect.stringContaining(sentence) as string,
    })
  })

  test('is what a set names, and comes back as it was written', async () => {
    const files = `${digest}  /usr/bin/env\n`
    await list('base', files)
    await write('x', { ima: 'required', ima_lists: 'base', ima_boot_aggregate: 'unchecked' })
    expect(dataOf(await broker.ask('read', 'auth/tpm-quote/ima/base'))).toMatchObject({ files })
  })
})
