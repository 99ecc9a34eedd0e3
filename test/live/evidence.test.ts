import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attester } from '../../agent/attester.ts'
import * as flow from '../../agent/flow.ts'
import { COMMAND_LINE, digestOf, driverConfig, encodeLog, image, policy } from '../attestation/eventlog_maker.ts'
import * as ima from '../attestation/ima_maker.ts'
import { assay } from '../harness/assay.ts'
import type { Swtpm } from '../harness/swtpm.ts'
import { booted, bootValues, eventLog, extendIma, imaListOf, logsOf, replayInto } from './measured.ts'
import {
  ask,
  configureAuth,
  configureBroker,
  done,
  enrol,
  logIn,
  machine,
  openWorld,
  refusal,
  serviceOf,
  type World,
  withheldLogin,
} from './world.ts'

// A machine whose TPM was extended along a log of a boot and a list of IMA, as firmware and Linux do.

const REPLAYED = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
const PATHS = ['/usr/bin/env', '/usr/bin/true', '/opt/agent/run']
const hexOf = (content: string) => digestOf(Buffer.from(content)).toString('hex')
const IMAGES = [hexOf('shim'), hexOf('grub')]
const FILES = PATHS.map(path => `${ima.digestOf(path).slice(7)}  ${path}\n`)
const dbx = policy.at(-1)

let world: World
let tpm: Swtpm
let attester: Attester
let tpmId: string
let list: Buffer
let logs: ReturnType<typeof logsOf>
beforeAll(async () => {
  world = await openWorld({ tpms: [{}, {}] })
  tpm = world.tpms[0] as Swtpm
  await replayInto(tpm, eventLog)
  const measured = imaListOf(await bootValues(tpm), PATHS)
  list = measured.list
  await extendIma(tpm, measured.digests)
  attester = await machine(tpm)
  await configureAuth(world, tpm, attester, { config: { latch: false, allow_software_tpms: true } })
  tpmId = (await enrol(service(), tpm, attester)).tpm_id
  logs = logsOf({ tcg: eventLog, ima: list })
})
afterAll(async () => {
  await attester?.close()
  await world?.[Symbol.asyncDispose]()
})

const service = () => serviceOf(world.door.address)
const write = (path: string, fields: object) => done(world.api('POST', `auth/tpm-quote/${path}`, fields))
const read = async (path: string) => (await done(world.api('GET', `auth/tpm-quote/${path}`))).data as Record<string, unknown>
const lastResult = async () => (await read(`tpm/${tpmId}`))['last_result'] as Record<string, unknown>
const metadataOf = async (asked: Promise<flow.LoggedIn>) => ((await asked).auth as { metadata: Record<string, string> }).metadata

/** Logs in against one set of reference values, written for the purpose. */
async function against(set: object, sent = logs): Promise<flow.LoggedIn> {
  const name = `set-${randomBytes(6).toString('hex')}`
  await write(`reference/${name}`, set)
  await write('role/measured', { references: name, token_policies: 'builder' })
  return flow.login(service(), attester, { role: 'measured', bind: true, logs: sent })
}
const refusedWith = (set: object, sent = logs) => refusal(world, against(set, sent))

const BOOT = { replay: REPLAYED, secure_boot: 'required', boot_images: IMAGES }
const IMA = { ima: 'required', ima_lists: 'base,agent' }

describe('the log of the boot', () => {
  test('explains what was quoted, and says what is in the token', async () => {
    const set = {
      ...BOOT,
      databases: { dbx: digestOf(dbx?.data ?? Buffer.alloc(0)).toString('hex') },
      boot_drivers: hexOf('a driver on a card'),
      boot_files: hexOf('a kernel'),
      command_lines: [COMMAND_LINE],
      command_line_required: 'ro',
      command_line_forbidden: 'init=*',
    }
    expect(await metadataOf(against(set))).toMatchObject({
      reference_version: '1',
      secure_boot: 'true',
      boot_log: 'true',
      ima: 'false',
    })
    await expect.poll(lastResult).toMatchObject({
      outcome: 'OK',
      role: 'measured',
      reference_version: 1,
      boot: { secure_boot: true, images: IMAGES, command_lines: [COMMAND_LINE], databases: { dbx: set.databases.dbx } },
      eat: { eat_profile: 'urn:x-assay:eat:tpm2-quote:1', ueid: expect.stringMatching(/^A[A-Za-z0-9_-]{43}$/) as string },
    })
  })

  test.each([
    ['SECURE_BOOT', { databases: { dbx: '00'.repeat(32) } }],
    ['BOOT_IMAGE', { boot_images: IMAGES.slice(1) }],
    ['BOOT_IMAGE', { boot_files: IMAGES }],
    ['BOOT_IMAGE', { boot_drivers: IMAGES }],
    ['COMMAND_LINE', { command_lines: ['/vmlinuz'] }],
    ['COMMAND_LINE', { command_line_required: 'lockdown=confidentiality' }],
    ['COMMAND_LINE', { command_line_forbidden: 'root=*' }],
    ['TPM_FIRMWARE', { firmware_versions: '0000000000000001' }],
    ['PCR_POLICY', { pcrs: { sha256: { 0: 'ab'.repeat(32) } } }],
  ])('%s %j', async (code, rule) => expect(await refusedWith({ ...BOOT, ...rule })).toBe(code))

  test('that is not sent, or empty, or cut, or of another boot, or forged', async () => {
    const other = encodeLog([...booted, image(4, 'another')])
    const event = booted.find(({ data }) => data.includes(Buffer.from('PK', 'utf16le')))
    const forged = Buffer.from(eventLog)
    forged.writeUInt8(0xee, eventLog.indexOf(event?.data ?? Buffer.alloc(1)) + 40)
    const missing = encodeLog(booted.filter(one => one !== event))
    const { body } = await withheldLogin(service(), attester, { role: 'measured', logs })
    const { event_log: _, ...without } = body
    expect((await ask(world.door.address, 'POST', 'auth/tpm-quote/login', { body: without })).status).toBe(403)
    for (const [code, tcg] of [
      ['LOG_MISSING', Buffer.alloc(0)],
      ['TRUNCATED', eventLog.subarray(0, -3)],
      ['LOG_MISMATCH', other],
      ['LOG_MISMATCH', missing],
      ['EVENT_DATA_DIGEST', forged],
    ] as const)
      expect([code, await refusedWith(BOOT, logsOf({ tcg }))]).toEqual([code, code])
  })

  test('of a machine that booted without secure boot, and says so or not', async () => {
    const lax = world.tpms[1] as Swtpm
    const off = encodeLog(booted.map(one => (one === policy[0] ? driverConfig('SecureBoot', Buffer.of(0)) : one)))
    await replayInto(lax, off)
    await using other = await machine(lax)
    await enrol(service(), lax, other)
    await write('reference/boots', BOOT)
    await write('role/measured', { references: 'boots', token_policies: 'builder' })
    const login = (tcg: Buffer) => flow.login(service(), other, { role: 'measured', bind: true, logs: logsOf({ tcg }) })
    expect(await refusal(world, login(off))).toBe('SECURE_BOOT')
    expect(await refusal(world, login(eventLog))).toBe('LOG_MISMATCH')
    await write('reference/boots', { secure_boot: 'any' })
    expect(await metadataOf(login(off))).toMatchObject({ secure_boot: 'false', boot_log: 'true' })
  })

  test('is read by the command line where it is told to', async () => {
    const path = join(String(world.vault.env['HOME']), 'event.log')
    await writeFile(path, eventLog)
    await write('reference/cli', BOOT)
    await write('role/measured', { references: 'cli', token_policies: 'builder' })
    await attester.close()
    const args = ['agent', 'login', '--role', 'measured', '--tpm', tpm.spec, '--address', world.door.address, '--field', 'token']
    const told = await assay([...args, '--event-log', path])
    expect(told).toMatchObject({ code: 0, stdout: expect.stringMatching(/^hvs\./) as string })
    const missing = await assay([...args, '--event-log', `${path}.missing`])
    expect(missing).toMatchObject({
      code: 6,
      stderr: expect.stringContaining('the service wants the event log of the boot') as string,
    })
    attester = await machine(tpm)
  })
})

describe('the list of IMA', () => {
  beforeAll(async () => {
    await write('ima/base', { files: FILES.slice(0, 2).join('') })
    await write('ima/agent', { files: FILES[2] })
  })

  test('explains PCR 10, whatever was measured after the quote', async () => {
    const longer = Buffer.concat([list, Buffer.from(`${ima.entry('/later')}\n`)])
    const set = { ...IMA, ima_reported: '/opt/*' }
    expect(await metadataOf(against(set, logsOf({ ima: longer })))).toMatchObject({ ima: 'true', boot_log: 'false' })
    await expect.poll(lastResult).toMatchObject({
      outcome: 'OK',
      ima: { entries: 4, violations: 0, files: [{ path: '/opt/agent/run', digest: ima.digestOf('/opt/agent/run') }] },
      eat: { ima: { entries: 4, unlisted: 0 } },
    })
  })

  test('of 50,000 entries and more arrives whole, while others are answered', async () => {
    const tail = Array.from({ length: 50_000 }, (_, at) => ima.entry(`/usr/lib/later/${at}`, { digest: ima.digestOf('later') }))
    const large = Buffer.concat([list, ima.encodeList(tail)])
    const login = against(IMA, logsOf({ ima: large }))
    const health = await fetch(`${world.door.address}/healthz`)
    expect(health.status).toBe(200)
    expect(await metadataOf(login)).toMatchObject({ ima: 'true' })
  })

  test('and the log of the boot, both', async () => {
    expect(await metadataOf(against({ ...BOOT, ...IMA }))).toMatchObject({ ima: 'true', boot_log: 'true' })
    expect(await refusedWith({ ...BOOT, ...IMA }, logsOf({ tcg: eventLog }))).toBe('LOG_MISSING')
  })

  test.each([
    ['IMA_FILE', { ima_lists: 'base' }],
    ['LOG_MISMATCH', { ima_boot_aggregate: '0-7' }],
    ['LOG_MISMATCH', { ima_extends: 'padded-sha1' }],
  ])('%s %j', async (code, rule) => expect(await refusedWith({ ...IMA, ...rule })).toBe(code))

  test('with a file that is in no list, but is not looked at', async () => {
    expect(await metadataOf(against({ ...IMA, ima_lists: 'base', ima_ignored: '/opt/*' }))).toMatchObject({ ima: 'true' })
  })

  test('that is cut, or in which a file has another name', async () => {
    const lines = list.toString().split('\n').slice(0, -1)
    const cut = Buffer.from(`${lines.slice(0, -1).join('\n')}\n`)
    expect(await refusedWith(IMA, logsOf({ ima: cut }))).toBe('LOG_MISMATCH')
    const renamed = Buffer.from(list.toString().replace('/opt/agent/run', '/opt/agent/ran'))
    expect(await refusedWith(IMA, logsOf({ ima: renamed }))).toBe('EVENT_DATA_DIGEST')
  })
})

describe('sets in their time', () => {
  const hour = (from: number) => new Date(Date.now() + from * 3_600_000).toISOString()

  test('one or the other while both count, then the other alone', async () => {
    await write('reference/old', { ...BOOT, not_after: hour(1) })
    await write('reference/new', { ...BOOT, boot_images: hexOf('next'), not_before: hour(-1) })
    await write('role/measured', { references: 'old,new', token_policies: 'builder' })
    const login = () => flow.login(service(), attester, { role: 'measured', bind: true, logs })
    expect(await metadataOf(login())).toMatchObject({ reference: 'old', reference_version: '1' })
    await write('reference/old', { not_after: hour(-0.1) })
    expect(await refusal(world, login())).toBe('BOOT_IMAGE')
    await write('reference/new', { not_before: hour(1) })
    expect(await refusal(world, login())).toBe('REFERENCE_WINDOW')
    await write('reference/old', { not_after: '', reason: 'the next one is late' })
    expect(await metadataOf(login())).toMatchObject({ reference: 'old', reference_version: '3' })
  })
})

describe('a set that observes', () => {
  const observing = { observe: true, replay: REPLAYED, ima: 'required', pcrs: { sha256: { 0: [], 10: [] } } }

  test('lets nobody in, and what the machine shows becomes a set that does', async () => {
    await write('reference/seen', observing)
    await write('role/measured', { references: 'seen', token_policies: 'builder' })
    const login = () => flow.login(service(), attester, { role: 'measured', bind: true, logs })
    expect(await refusal(world, login())).toBe('OBSERVED')
    await expect.poll(lastResult).toMatchObject({
      outcome: 'OBSERVED',
      reference: 'seen',
      boot: { images: IMAGES },
      ima: { entries: 4 },
    })
    const made = (await write(`reference/good/from-tpm/${tpmId}`, { owner: 'boot team', reason: 'first of its kind' })).data
    expect(made).toMatchObject({
      observe: false,
      owner: 'boot team',
      secure_boot: 'required',
      boot_images: IMAGES,
      command_lines: [COMMAND_LINE],
      ima: 'required',
      ima_lists: ['good'],
      pcrs: {},
    })
    await write('role/measured', { references: 'good', token_policies: 'builder' })
    expect(await metadataOf(login())).toMatchObject({
      reference: 'good',
      reference_version: String((made as { version: number }).version),
    })
    expect(String((await read('ima/good'))['files']).split('\n')).toContain(`${ima.digestOf(PATHS[0] ?? '')} ${PATHS[0]}`)
  })

  test('beside one that decides: who fits that is let in, who does not is on record', async () => {
    await write('reference/seen', observing)
    await write('reference/strict', { ...BOOT, boot_images: hexOf('next') })
    await write('reference/pinned', { pcrs: { sha256: { 0: 'ab'.repeat(32) } } })
    await write('role/measured', { references: 'pinned,seen', token_policies: 'builder' })
    const login = () => flow.login(service(), attester, { role: 'measured', bind: true, logs })
    expect(await refusal(world, login())).toBe('PCR_POLICY')
    await expect.poll(lastResult).toMatchObject({ outcome: 'PCR_POLICY', reference: 'seen', ima: { entries: 4 } })
    await write('role/measured', { references: 'strict,seen', token_policies: 'builder' })
    expect(await refusal(world, login())).toBe('BOOT_IMAGE')
    await expect.poll(lastResult).toMatchObject({ outcome: 'BOOT_IMAGE', reference: 'strict' })
  })

  test('there is no set to make of a TPM that nobody knows, or of PCRs that were not quoted', async () => {
    expect((await world.api('POST', 'auth/tpm-quote/reference/x/from-tpm/sha256-00', {})).status).toBe(404)
    const refused = await world.api('POST', `auth/tpm-quote/reference/x/from-tpm/${tpmId}`, { pin: '14' })
    expect(refused).toMatchObject({ status: 400, body: { errors: [expect.stringContaining('pin: PCR 14 was not quoted')] } })
  })
})

test('a credential whose role wants a quote with the request wants the logs with it', async () => {
  await configureBroker(world, { role: { attestation: 'request' } })
  const permit = 'permit (principal, action, resource) when { principal.secure_boot && principal.boot_log };'
  await done(world.api('POST', 'broker/policy/builders', { policy: permit }))
  await write('reference/boots', BOOT)
  await write('role/measured', { references: 'boots', token_policies: 'builder' })
  const token = await logIn(service(), attester, { role: 'measured', logs })
  const request = { role: 'deploy', plugin: 'kubernetes', action: 'deploy', scope: ['apps:read'] }
  const creds = (sent: typeof logs) =>
    flow.creds(service(), request, token, { attester, role: 'measured', bind: true, logs: sent })
  expect((await creds(logs)).token).toMatch(/^eyJ/)
  await expect(creds(logsOf({ tcg: encodeLog(booted.slice(1)) }))).rejects.toThrow(/LOG_MISMATCH/)
})

test('a body may be large where logs are sent, when it says how large it is, and nowhere else', async () => {
  const large = { role: 'x', ima_log: 'A'.repeat(2 ** 21) }
  const post = (path: string) => ask(world.door.address, 'POST', path, { body: large })
  expect((await post('auth/tpm-quote/challenge')).status).toBe(413)
  expect((await post('auth/tpm-quote/login')).status).toBe(400)
  const huge = await ask(world.door.address, 'POST', 'auth/tpm-quote/login', { body: { ima_log: 'A'.repeat(18 * 2 ** 20) } })
  expect(huge.status).toBe(413)
})
