import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { appraiseEventLogs, type BootClaims, banks, type EventLog, type Hash, parseEventLog, replayEventLog } from '#attestation'
import { eventType } from '../../attestation/eventlog/event_types.ts'
import { outcome, unwrap } from './attester.ts'
import { counted, present, readBytes, readJson, unhex } from './vectors.ts'

type Values = Readonly<Record<string, string>>
type Case = { readonly id: string; readonly file: string; readonly pcrs: { sha256: Values }; readonly expected_code: string }
type Entry = {
  readonly id: string
  readonly file: string
  readonly expected_pcrs?: Partial<Record<Hash, Values>>
  readonly check: { replayed?: Partial<Record<Hash, Values>> }
}

const { cases } = readJson<{ cases: Case[] }>('attack-eventlogs/cases.json', { cases: [] })
const { event_logs: entries } = readJson<{ event_logs: Entry[] }>('index.json', { event_logs: [] })

const bytesOf = (file: string) => (file.endsWith('.b64') ? Buffer.from(readBytes(file).toString(), 'base64') : readBytes(file))
const tableOf = (values: Values) => new Map(Object.entries(values).map(([pcr, hex]) => [Number(pcr), unhex(hex)]))
/** The log of a confidential machine begins at its first register, and lies in memory that is filled up. */
const formOf = (log: Buffer) => ({ padding: log.readUInt32LE(0) === 1 })

describe.skipIf(!present)('attacks on event logs', () => {
  const count = counted('attack-eventlogs')
  test.each(cases)('$id: $expected_code', ({ file, pcrs, expected_code }) => {
    const quoted = tableOf(pcrs.sha256)
    const rules = { bank: 'sha256', replay: [...quoted.keys()] } as const
    expect(outcome(appraiseEventLogs([readBytes(`attack-eventlogs/${file}`)], quoted, rules))).toBe(expected_code)
    if (file.includes('ff-padding'))
      expect(outcome(appraiseEventLogs([readBytes(`attack-eventlogs/${file}`)], quoted, { ...rules, padding: true }))).toBe('OK')
    count()
  })
})

/** What is refused of the real logs: five are in SHA-1 form, one runs past its end, one ends a register twice. */
const refused: Readonly<Record<string, string>> = {
  'evlog-gotpmtools-Debian10GCE': 'WEAK_BANK',
  'evlog-goatt-ebs_event_missing_eventlog': 'WEAK_BANK',
  'evlog-goatt-option_rom_eventlog': 'WEAK_BANK',
  'evlog-goatt-short_no_action_eventlog': 'WEAK_BANK',
  'evlog-tpm2tools-event-uefi-sha1-log.bin': 'WEAK_BANK',
  'evlog-tpm2tools-specid-vendordata.bin': 'BAD_ENCODING',
  'evlog-go-eventlog-cos-113-intel-tdx-dupe-separator.bin': 'EVENT_SEMANTICS',
}

describe.skipIf(!present)('event logs of real machines', () => {
  const count = counted('event logs')
  test.each(entries)('$id', entry => {
    expect(outcome(judge(entry))).toBe(refused[entry.id] ?? 'OK')
    count()
  })

  test.each(entries.filter(({ id }) => !['WEAK_BANK', 'BAD_ENCODING'].includes(refused[id] ?? '')))(
    '$id leads to the values that others found',
    ({ file, expected_pcrs: expected = {}, check: { replayed = {} } }) => {
      const log = unwrap(parseEventLog(bytesOf(file), formOf(bytesOf(file))))
      for (const [bank, values] of Object.entries({ ...replayed, ...expected })) {
        if (Object.keys(values).length === 0) continue // a bank that the events left out
        const own = unwrap(replayEventLog(log, bank as Hash))
        for (const [pcr, hex] of Object.entries(values)) expect(own.get(Number(pcr))?.toString('hex')).toBe(hex)
      }
    },
  )
})

/** With the values upstream gives, or else its own: then of the PCRs that are whole, as some logs are parts of one. */
function judge({ file, expected_pcrs: expected }: Entry) {
  const bytes = bytesOf(file)
  const form = formOf(bytes)
  const log = parseEventLog(bytes, form)
  if (!log.ok) return log
  const bank = banks.find(one => log.value.banks.includes(one)) ?? 'sha256'
  const own = replayEventLog(log.value, bank)
  if (!own.ok) return own
  const ended = [...own.value.keys()].filter(
    pcr => pcr > 7 || log.value.events.some(one => one.pcr === pcr && one.type === eventType.SEPARATOR),
  )
  const quoted = expected?.[bank] ? tableOf(expected[bank]) : own.value
  return appraiseEventLogs([bytes], quoted, { ...form, bank, replay: expected?.[bank] ? [...quoted.keys()] : ended })
}

describe.skipIf(!present)('what the logs of real machines show', () => {
  const claimsOf = (id: string): BootClaims => {
    const entry = entries.find(one => one.id === id)
    if (!entry) throw new Error(`no log ${id}`)
    return unwrap(judge(entry))
  }

  test('RHEL 8 with secure boot: shim, GRUB and the kernel, and its command line', () => {
    const claims = claimsOf('evlog-gotpmtools-Rhel8GCE')
    expect(claims.secureBoot).toBe(true)
    expect(claims.images?.map(digest => digest.slice(0, 8))).toEqual(['40d6cae0', 'e8a268c4', 'e4c0382f'])
    expect(claims.commandLines).toEqual([
      expect.stringMatching(/^\(hd0,gpt2\)\/boot\/vmlinuz-4\.18\.0-240.*console=ttyS0,38400n8$/),
    ])
    expect(claims.databases?.dbx?.entries).toHaveLength(186)
    expect(claims.databases?.db?.entries.map(({ type }) => type)).toEqual(['x509', 'x509'])
    expect(claims.authorities).toHaveLength(2)
  })

  test('without secure boot', () => {
    expect(claimsOf('evlog-gotpmtools-GdcHost')).toMatchObject({ secureBoot: false, actions: ['DMA Protection Disabled'] })
    expect(claimsOf('evlog-goatt-coreos_36_shielded_vm_no_secure_boot_eventlog').secureBoot).toBe(false)
    expect(claimsOf('evlog-tpm2tools-event-sd-boot-fedora37.bin')).toMatchObject({
      secureBoot: false,
      databases: { PK: { entries: [] } },
    })
  })

  test('what systemd measures of a unified kernel', () => {
    const line = ' console=ttyS0 console=tty0 efi=debug '
    expect(claimsOf('evlog-tpm2tools-event-sd-boot-fedora37.bin').commandLines).toEqual([line, line])
  })

  test('a command line that is known by its digest alone is not told', () => {
    expect(claimsOf('evlog-gotpmtools-ArchLinuxWorkstation')).toHaveProperty('images')
    expect(claimsOf('evlog-gotpmtools-ArchLinuxWorkstation')).not.toHaveProperty('commandLines')
  })
})

const TOOL = 'tpm2_eventlog'
const tool = spawnSync(TOOL, ['--version'])
if (tool.error) console.error('no tpm2_eventlog on the path: nothing to compare replays with')

describe.skipIf(!present || tool.error)('tpm2_eventlog replays the same', () => {
  const count = counted('event logs by tpm2_eventlog')
  /** It does not read the logs of confidential machines, which are not of a TPM. */
  const parsed = (file: string) => parseEventLog(bytesOf(file))

  test.each(entries.filter(({ file }) => parsed(file).ok))('$id', ({ file }) => {
    const log = unwrap(parsed(file))
    const theirs = Object.entries(replayOfTool(bytesOf(file)))
    expect(theirs.length).toBeGreaterThan(0)
    for (const [bank, values] of theirs) {
      const own = [log, asToolReads(log)].map(one => unwrap(replayEventLog(one, bank as Hash)))
      for (const [pcr, hex] of Object.entries(values))
        expect(own.map(one => one.get(Number(pcr))?.toString('hex'))).toContain(hex)
    }
    count()
  })
})

/** The tool, up to 5.4, extends the zeros of EV_NO_ACTION and does not know the startup locality: that is in PCR 0 alone. */
function asToolReads(log: EventLog): EventLog {
  return { ...log, events: log.events.map(event => (event.type === eventType.NO_ACTION ? { ...event, type: IPL } : event)) }
}
const IPL = 0xd

/** The section `pcrs:` of its YAML: a line for each bank, and for each PCR its value. */
function replayOfTool(log: Buffer): Record<string, Values> {
  const folder = mkdtempSync(join(tmpdir(), 'eventlog-'))
  writeFileSync(join(folder, 'log'), log)
  const { stdout } = spawnSync(TOOL, [join(folder, 'log')], { encoding: 'utf8', maxBuffer: 2 ** 26 })
  rmSync(folder, { recursive: true })
  const values: Record<string, Record<string, string>> = {}
  let bank = ''
  for (const line of stdout.slice(stdout.indexOf('\npcrs:\n')).split('\n')) {
    const [, name, pcr, hex] = /^ {2}(\w+):$|^ {4}(\d+) *: 0x([0-9a-f]+)$/.exec(line) ?? []
    if (name) bank = name
    else if (pcr && hex) values[bank] = { ...values[bank], [pcr]: hex }
  }
  return values
}
