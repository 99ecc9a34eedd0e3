import { sign } from 'node:crypto'
import { encode, Tagged } from 'cborg'
import {
  accept,
  appraiseReferences,
  parseEventLog,
  type Reference,
  readFileList,
  readImaEntry,
  reject,
  replayEventLog,
  type Verdict,
  verifyCorim,
} from '#attestation'
import { readCertificate } from '../../attestation/certs/certificate.ts'
import { readRevocationList } from '../../attestation/certs/crl.ts'
import { validatePath } from '../../attestation/certs/path.ts'
import { successionFault } from '../../attestation/certs/succession.ts'
import { pairOf, unwrap } from './attester.ts'
import {
  basicConstraints,
  certifyEk,
  der,
  directoryName,
  distributionPoint,
  dnsName,
  EK_EXTENSIONS,
  extension,
  keyUsage,
  listedAt,
  makeCa,
  makeList,
  NOW,
  named,
  sequence,
  subjectAltName,
} from './certificates.ts'
import { comidOf, manifestOf, measurement, triplesOf, validity } from './corim_maker.ts'
import { boot, command, driverConfig, encodeLog, policy, SECURITY, SHA256, signatureList } from './eventlog_maker.ts'
import { entry, pcrOf } from './ima_maker.ts'
import type { Parser } from './parsers.ts'

// What is looked at only behind a signature or a quote: so each input gets its own.

const ek = pairOf('P-256', 'ek').publicKey
const root = makeCa(named('Root'))
const names = [
  dnsName('a.example.com'),
  der(0x81, Buffer.from('x@example.com')),
  der(0x86, Buffer.from('https://b.example.com/')),
]
const address = der(0x87, Buffer.of(10, 0, 0, 1))
const place = 'http://example.com/list'
const leafExtensions = [...EK_EXTENSIONS.slice(0, 3), subjectAltName(true, ...names, address, directoryName(named('TPM')))]

async function underCa(oid: string, value: Uint8Array): Promise<Verdict<unknown>> {
  const ca = makeCa(named('CA'), { extensions: [basicConstraints(true), keyUsage(0x06), extension(oid, true, value)] }, root)
  const leaf = certifyEk(ca, ek, { extensions: [...leafExtensions, distributionPoint(place)] })
  const lists = [makeList(root), makeList(ca)]
  const trust = { anchors: [root.certificate], at: NOW, lists, revocation: 'hard' } as const
  return validatePath(unwrap(readCertificate(leaf)), [ca.certificate], trust)
}

async function inList(value: Uint8Array): Promise<Verdict<unknown>> {
  const list = makeList(root, { extensions: [extension('2.5.29.28', true, value)] })
  const read = readRevocationList(list)
  if (!read.ok) return read
  const leaf = certifyEk(root, ek, { extensions: [...leafExtensions, distributionPoint(place)] })
  await successionFault([list], [makeList(root), list], { cas: [root.certificate] })
  const trust = { anchors: [root.certificate], at: NOW, lists: [list], revocation: 'hard' } as const
  return validatePath(unwrap(readCertificate(leaf)), [], trust)
}

const author = pairOf('P-256', 'author of a manifest')
const head = encode(
  new Map<number, unknown>([
    [1, -7],
    [3, 'application/rim+cbor'],
  ]),
)
function inManifest(payload: Uint8Array): Verdict<unknown> {
  const signed = encode(['Signature1', head, new Uint8Array(0), payload])
  const signature = sign('sha256', signed, { key: author.privateKey, dsaEncoding: 'ieee-p1363' })
  const whole = encode(new Tagged(18, [head, new Map(), payload, signature]))
  return verifyCorim(whole, [{ name: 'author', key: author.publicKey }])
}

function finish(rounds: ReturnType<typeof appraiseReferences>): Verdict<unknown> {
  let round = rounds.next()
  while (!round.done) round = rounds.next()
  return round.value.verdict
}

const booted: Reference = {
  name: 'booted',
  pcrs: new Map(),
  boot: {
    bank: 'sha256',
    replay: [0, 2, 4, 7, 8, 9, 12],
    secureBoot: 'required',
    databases: {},
    commandLine: { required: ['ro'], forbidden: ['init=*'] },
  },
}
/** A log of which the quote says that it is true. */
function ofBoot(eventLog: Uint8Array): Verdict<unknown> {
  const log = parseEventLog(eventLog)
  const values = log.ok ? replayEventLog(log.value, 'sha256') : log
  if (!values.ok) return values
  const quoted = { pcrs: new Map([['sha256', values.value] as const]), firmwareVersion: '', obfuscated: false }
  return finish(appraiseReferences({ eventLog }, quoted, [booted]))
}

/** A boot in which such things were measured, so that its log is true. */
const withDatabase = (value: Uint8Array) =>
  ofBoot(encodeLog(boot.map(one => (one.data === policy[3]?.data ? driverConfig('db', Buffer.from(value), SECURITY) : one))))
const withCommandLine = (text: Uint8Array) =>
  ofBoot(
    encodeLog([...boot, { ...command('kernel_cmdline:', Buffer.from(text).toString('latin1')), measured: Buffer.from(text) }]),
  )

const lines = ['boot_aggregate', '/usr/bin/python3', '/etc/passwd'].map(path => entry(path))
const read = readFileList(`${'0'.repeat(64)}  /usr/bin/python3\n`)
const used: Reference = {
  name: 'used',
  pcrs: new Map(),
  ima: {
    bank: 'sha256',
    extends: 'bank',
    bootAggregate: 'unchecked',
    templates: ['ima-ng', 'ima-sig', 'ima-buf'],
    lists: read.ok ? [read.files] : [],
    ignored: ['/usr/*', '/etc/passwd'],
    reported: ['/*'],
  },
}
function ofFiles(imaList: Uint8Array): Verdict<unknown> {
  const entries = Buffer.from(imaList).toString('latin1').split('\n').filter(Boolean)
  const data = entries.map(line => readImaEntry(line, used.ima)).map(one => (one.ok ? one.value.data : undefined))
  const pcrs = new Map([['sha256', new Map([[10, pcrOf(data)]])] as const])
  return finish(appraiseReferences({ imaList }, { pcrs, firmwareVersion: '', obfuscated: false }, [used], { listing: true }))
}

const listed = (bytes: Uint8Array): Verdict<unknown> => {
  const list = readFileList(Buffer.from(bytes).toString())
  return list.ok ? accept(list.files) : reject('BAD_ENCODING', `line ${list.line}`)
}

const parser = (name: string, parse: Parser['parse'], ...samples: Uint8Array[]): Parser => ({ name, parse, samples })
const subtrees = (...of: Buffer[]) => sequence(der(0xa0, ...of.map(one => sequence(one))))
const permitted = [dnsName('example.com'), der(0x81, Buffer.from('.com')), der(0x86, Buffer.from('.example.com'))]
const network = der(0x87, Buffer.of(10, 0, 0, 0, 255, 0, 0, 0))

export const signedParsers: readonly Parser[] = [
  parser(
    'constraints',
    value => underCa('2.5.29.30', value),
    subtrees(dnsName('example.com')),
    subtrees(...permitted.slice(0, 1), network),
  ),
  parser('usage', value => underCa('2.5.29.37', value), sequence(Buffer.from('0603550402', 'hex'))),
  parser('scope', inList, sequence(listedAt(place)), sequence(der(0x81, Buffer.of(0xff)))),
  parser(
    'manifest',
    inManifest,
    encode(manifestOf([comidOf(triplesOf(measurement({ 0: [[1, Buffer.alloc(32, 1)]] })))], [validity(1, 2)])),
  ),
  parser('boot', ofBoot, encodeLog(boot)),
  parser('database', withDatabase, signatureList(SHA256, [Buffer.alloc(32, 1), Buffer.alloc(32, 2)])),
  parser('commandLine', withCommandLine, Buffer.from('/vmlinuz root=/dev/sda1 ro "dm=1 vroot none" -- x')),
  parser('files', ofFiles, Buffer.from(`${lines.join('\n')}\n`)),
  parser('readFileList', listed, Buffer.from(`# all\n${'0'.repeat(64)} */usr/bin/env\nsha256:${'a'.repeat(64)}\n`)),
]
