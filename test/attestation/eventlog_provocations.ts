import { generateKeyPairSync } from 'node:crypto'
import {
  appraiseEventLogs,
  appraiseImaList,
  appraiseReferences,
  type BootClaims,
  type ImaRules,
  parseEventLog,
  type Reference,
  readImaEntry,
  replayEventLog,
  type Verdict,
  verifyCorim,
} from '#attestation'
import { readEfiVariable, readSignatureLists } from '../../attestation/eventlog/efi_variable.ts'
import type { PcrEvent } from '../../attestation/eventlog/event_log.ts'
import { faultOfEvents } from '../../attestation/eventlog/event_rules.ts'
import { secureBootClaims } from '../../attestation/eventlog/secure_boot.ts'
import { faultOfBoot } from '../../attestation/reference/boot_rules.ts'
import { faultOfCommandLines } from '../../attestation/reference/command_line.ts'
import { faultOfFiles } from '../../attestation/reference/ima_rules.ts'
import { unwrap } from './attester.ts'
import { comidOf, manifestOf, map, measurement, signedBy, triplesOf } from './corim_maker.ts'
import {
  boot,
  driverConfig,
  encodeHead,
  encodeLog,
  image,
  locality,
  type Made,
  SECURITY,
  SHA256,
  separator,
  signatureList,
  u32,
  variable,
} from './eventlog_maker.ts'
import { digestOf, encodeList, entry, finish } from './ima_maker.ts'
import type { Provocations } from './provocations.ts'

const log = encodeLog(boot)
const parsed = unwrap(parseEventLog(log))
const quoted = unwrap(replayEventLog(parsed, 'sha256'))
const eventsOf = (...made: Made[]): readonly PcrEvent[] => unwrap(parseEventLog(encodeLog(made))).events

const structures: Provocations['refusals'] = {
  LOG_MISSING: () => parseEventLog(Buffer.alloc(0)),
  LIMIT: () => parseEventLog(encodeLog([separator(24)])),
  TRUNCATED: () => parseEventLog(log.subarray(0, -1)),
  WEAK_BANK: () => parseEventLog(encodeHead({ signature: 'Spec ID Event02\0' })),
  BAD_ENCODING: () => parseEventLog(encodeHead({ major: 1 })),
  UNSUPPORTED_ALG: () => parseEventLog(encodeHead({ algorithms: [[0x0099, 32]] })),
  TRAILING_DATA: () => parseEventLog(Buffer.concat([log, Buffer.alloc(16, 0xff)])),
}

const replay = (...made: Made[]) => replayEventLog(unwrap(parseEventLog(encodeLog(made))), 'sha256')

const replays: Provocations['refusals'] = {
  WEAK_BANK: () => replayEventLog(parsed, 'sha512'),
  LOG_AMBIGUOUS: () => replay(locality(3), locality(3)),
  EVENT_SEMANTICS: () => replay(separator(0), locality(3)),
  BAD_ENCODING: () => replay(locality(2)),
  LOG_MISMATCH: () => replay({ ...separator(0), digests: [] }),
}

const fault = (pcr: number, ...made: Made[]) =>
  faultOfEvents(eventsOf(...made), [pcr], 'sha256') ?? { ok: true as const, value: undefined }

const rules: Provocations['refusals'] = {
  EVENT_DATA_DIGEST: () => fault(4, { ...separator(4), measured: u32(1) }),
  EVENT_SEMANTICS: () => fault(4, separator(4), separator(4)),
  BAD_ENCODING: () => fault(1, { ...driverConfig('', Buffer.alloc(0)), pcr: 1, data: Buffer.alloc(31) }, separator(1)),
}

const variables: Provocations['refusals'] = {
  BAD_ENCODING: () => readEfiVariable(variable(SECURITY, 'db', Buffer.alloc(1)).subarray(0, -1)),
}

const lists: Provocations['refusals'] = {
  BAD_ENCODING: () => readSignatureLists(signatureList(SHA256, [Buffer.alloc(32)], { each: 0 })),
}

const secureBoot: Provocations['refusals'] = {
  BAD_ENCODING: () => secureBootClaims(eventsOf(driverConfig('SecureBoot', u32(1)), separator(7)), 'sha256'),
}

const appraise = (logs: readonly Uint8Array[], replayed = [...quoted.keys()]) =>
  appraiseEventLogs(logs, quoted, { bank: 'sha256', replay: replayed })

const appraisals: Provocations['refusals'] = {
  LOG_MISSING: () => appraise([]),
  LIMIT: () => appraise(Array<Buffer>(17).fill(log)),
  PCR_NOT_QUOTED: () => appraise([log], [24]),
  LOG_MISMATCH: () => appraise([encodeLog([...boot, image(4, 'another')])]),
}

const violation = entry('/bin/sh', { templateHash: '0'.repeat(40) })

const entries: Provocations['refusals'] = {
  BAD_ENCODING: () => readImaEntry('nonsense'),
  UNSUPPORTED_ALG: () => readImaEntry(entry('/bin/sh').replace('ima-ng', 'ima-new')),
  EVENT_SEMANTICS: () => readImaEntry(entry('/bin/sh').replace('10', '11')),
  EVENT_DATA_DIGEST: () => readImaEntry(entry('/bin/sh').replace('/bin/sh', '/bin/su')),
}

const ima = { bank: 'sha256', extends: 'bank', bootAggregate: 'unchecked' } as const satisfies ImaRules
const judge = (list: Buffer, pcr10 = Buffer.alloc(32, 1)) =>
  finish(appraiseImaList(list, new Map([['sha256', new Map([[10, pcr10]])]]), ima))

const imaLists: Provocations['refusals'] = {
  PCR_NOT_QUOTED: () => finish(appraiseImaList(encodeList([entry('boot_aggregate')]), new Map(), ima)),
  LIMIT: () => judge(Buffer.alloc(33_554_433)),
  LOG_MISSING: () => judge(Buffer.alloc(0)),
  LOG_MISMATCH: () => judge(encodeList([entry('boot_aggregate')])),
  EVENT_SEMANTICS: () => judge(encodeList([entry('boot_aggregate'), violation])),
}

const claims: BootClaims = { bank: 'sha256', replayed: [4], secureBoot: false, images: ['aa'], commandLines: [] }
const judged = (fault: ReturnType<typeof faultOfBoot>): Verdict<unknown> => fault ?? { ok: true, value: undefined }
const rule = { bank: 'sha256', replay: [4] } as const

const boots: Provocations['refusals'] = {
  SECURE_BOOT: () => judged(faultOfBoot(claims, { ...rule, secureBoot: 'required' })),
  BOOT_IMAGE: () => judged(faultOfBoot(claims, { ...rule, images: ['bb'] })),
  COMMAND_LINE: () => judged(faultOfBoot(claims, { ...rule, commandLine: { required: ['ro'] } })),
}

const commandLines: Provocations['refusals'] = {
  COMMAND_LINE: () => judged(faultOfCommandLines(['/vmlinuz'], { required: ['ro'] })),
}

const files: Provocations['refusals'] = {
  IMA_FILE: () => judged(faultOfFiles({ unlisted: { count: 1, files: [{ path: '/bin/sh', digest: digestOf('x') }] } })),
}

const wanted: Reference = { name: 'wanted', pcrs: new Map(), boot: { bank: 'sha256', replay: [4] } }
const measured = { pcrs: new Map(), firmwareVersion: '0'.repeat(16), obfuscated: false }
const references: Provocations['refusals'] = {
  LOG_MISSING: () => finish(appraiseReferences({}, measured, [wanted])).verdict,
  TPM_FIRMWARE: () => finish(appraiseReferences({}, measured, [{ ...wanted, firmwareVersions: [] }])).verdict,
}

const signer = generateKeyPairSync('ed25519')
const corim = (payload: unknown) => verifyCorim(signedBy(signer.privateKey, payload), [{ name: 'acme', key: signer.publicKey }])
const registers = (...digests: readonly (readonly [number, Buffer])[]) =>
  manifestOf([comidOf(triplesOf(measurement({ 0: digests })))])

const corims: Provocations['refusals'] = {
  LIMIT: () => verifyCorim(Buffer.alloc(65_537), []),
  BAD_ENCODING: () => verifyCorim(Buffer.of(0), []),
  TRAILING_DATA: () => verifyCorim(Buffer.of(0, 0), []),
  UNSUPPORTED_ALG: () => verifyCorim(signedBy(signer.privateKey, 0, { head: map([1, 0], [3, 'application/rim+cbor']) }), []),
  SIGNATURE: () => verifyCorim(signedBy(signer.privateKey, 0), []),
  WEAK_BANK: () => corim(registers([0, Buffer.alloc(4)])),
}

export const ofLogs: Readonly<Record<string, Provocations>> = {
  parseEventLog: { file: 'eventlog/event_log.ts', refusals: structures },
  replayEventLog: { file: 'eventlog/replay.ts', refusals: replays },
  faultOfEvents: { file: 'eventlog/event_rules.ts', refusals: rules },
  readEfiVariable: { file: 'eventlog/efi_variable.ts', refusals: variables },
  readSignatureLists: { file: 'eventlog/efi_variable.ts', refusals: lists },
  secureBootClaims: { file: 'eventlog/secure_boot.ts', refusals: secureBoot },
  appraiseEventLogs: { file: 'eventlog/appraisal.ts', refusals: appraisals },
  readImaEntry: { file: 'eventlog/ima_entry.ts', refusals: entries },
  appraiseImaList: { file: 'eventlog/ima_list.ts', refusals: imaLists },
  faultOfBoot: { file: 'reference/boot_rules.ts', refusals: boots },
  faultOfCommandLines: { file: 'reference/command_line.ts', refusals: commandLines },
  faultOfFiles: { file: 'reference/ima_rules.ts', refusals: files },
  verifyCorim: { file: 'reference/corim.ts', refusals: corims },
  appraiseReferences: { file: 'reference/appraisal.ts', refusals: references },
}
