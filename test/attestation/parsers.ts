import fc from 'fast-check'
import {
  admitAk,
  admitEk,
  appraiseEventLogs,
  appraiseImaList,
  parseEventLog,
  parsePcrTable,
  parsePublic,
  parseQuote,
  qualifiedNameOf,
  readImaEntry,
  readRevocationList,
  replayEventLog,
  type Verdict,
  verifyCertifiedKey,
  verifyCorim,
  verifyEk,
  verifyQuote,
} from '#attestation'
import { readCertificate } from '../../attestation/certs/certificate.ts'
import { readEkCertificate } from '../../attestation/certs/ek_certificate.ts'
import { verifyNitroDocument } from '../../attestation/formats/aws_nitro.ts'
import { readCbor } from '../../attestation/formats/cbor.ts'
import { parseCertification } from '../../attestation/tpm2/attest.ts'
import { verifySignature } from '../../attestation/tpm2/signature.ts'
import { answer, makeAk, NONCE, pairOf, unwrap } from './attester.ts'
import { certifyEk, makeCa, makeList, NOW, named } from './certificates.ts'
import { certification, certifier, ekPublic, keyArea } from './certified.ts'
import { comidOf, manifestOf, measurement, signedBy, triplesOf } from './corim_maker.ts'
import { ekAreaOf } from './endorsed.ts'
import { boot, encodeLog } from './eventlog_maker.ts'
import { entry } from './ima_maker.ts'
import { BINDING, nitroDocument, root as nitroRoot } from './nitro_maker.ts'

export const keys = [makeAk('P-256', 'ECDSA'), makeAk('rsa-2048', 'RSASSA'), makeAk('rsa-2048', 'RSAPSS')]
export const asked = keys.map(key => answer(key))
const ek = pairOf('rsa-2048', 'ek').publicKey
const root = makeCa(named('Root'))
const certificate = certifyEk(root, ek)
const list = makeList(root, { revoked: [{ serial: Buffer.of(7) }, { serial: Buffer.of(1, 2, 3) }] })
const log = encodeLog(boot)
const quoted = unwrap(replayEventLog(unwrap(parseEventLog(log)), 'sha256'))
const nitro = nitroDocument({ members: { user_data: Buffer.from('data') } })

const author = pairOf('P-256', 'author of a manifest')
const corim = signedBy(author.privateKey, manifestOf([comidOf(triplesOf(measurement({ 0: [[1, Buffer.alloc(32, 1)]] })))]))

const keyToBind = certification(keyArea())
const ak = unwrap(admitAk(certifier.area))
const keyRules = { ak, qualifyingData: NONCE, qualifiedSigner: qualifiedNameOf('endorsement', ak.name), ekPublic }

export type Parser = {
  readonly name: string
  readonly parse: (bytes: Uint8Array) => Verdict<unknown> | Promise<Verdict<unknown>>
  /** what it takes, the first of them for sure */
  readonly samples: readonly Uint8Array[]
}

const parser = (name: string, parse: Parser['parse'], ...samples: Uint8Array[]): Parser => ({ name, parse, samples })

/** Everything that takes bytes from the other side. */
export const parsers: readonly Parser[] = [
  parser('parsePublic', parsePublic, ...keys.map(({ area }) => area), ekAreaOf(ek)),
  parser('admitAk', bytes => admitAk(bytes), ...keys.map(({ area }) => area)),
  parser('admitEk', admitEk, ekAreaOf(ek), ekAreaOf(pairOf('P-384', 'ek').publicKey)),
  parser('parseQuote', parseQuote, ...asked.map(({ evidence }) => evidence.attest)),
  parser('parseCertification', parseCertification, keyToBind.attest),
  parser('verifyCertifiedKey', bytes => verifyCertifiedKey({ ...keyToBind, public: bytes }, keyRules), keyToBind.public),
  ...asked.map(({ evidence, expected }) =>
    parser(
      `verifySignature-${expected.ak.scheme}`,
      bytes => verifySignature(bytes, evidence.attest, expected.ak),
      evidence.signature,
    ),
  ),
  ...asked.map(({ evidence, expected }) =>
    parser(`verifyQuote-${expected.ak.scheme}`, bytes => verifyQuote({ ...evidence, attest: bytes }, expected), evidence.attest),
  ),
  parser(
    'parsePcrTable',
    bytes => parsePcrTable(Buffer.from(bytes).toString('latin1')),
    ...asked.map(({ evidence }) => Buffer.from(evidence.pcrs)),
  ),
  parser('readCertificate', readCertificate, certificate, root.certificate),
  parser('readEkCertificate', bytes => readEkCertificate(bytes), certificate),
  parser('readRevocationList', readRevocationList, list),
  parser(
    'verifyEk',
    bytes =>
      verifyEk(
        { certificate: bytes, public: ekAreaOf(ek), intermediates: [bytes] },
        { anchors: [root.certificate], at: NOW, allowTestTpms: false },
      ),
    certificate,
    root.certificate,
  ),
  parser('readCbor', bytes => readCbor(bytes, { bytes: 16_384, depth: 4 }), nitro),
  parser(
    'verifyNitroDocument',
    bytes =>
      verifyNitroDocument(bytes, {
        binding: BINDING,
        at: NOW,
        anchors: [nitroRoot.certificate],
        references: [{ name: 'any', pcrs: new Map([['sha384', new Map([[0, [Buffer.alloc(48, 1)]]])]]) }],
        maxAgeSeconds: 60,
        allowDebug: false,
      }),
    nitro,
  ),
  parser('verifyCorim', bytes => verifyCorim(bytes, [{ name: 'author', key: author.publicKey }]), corim),
]

const replay = [...quoted.keys()]
const imaLines = ['boot_aggregate', '/usr/bin/python3', '/etc/passwd'].map(path => entry(path))
const IMA_RULES = { bank: 'sha256', extends: 'bank', bootAggregate: 'unchecked' } as const

function finish(rounds: ReturnType<typeof appraiseImaList>): Verdict<unknown> {
  let round = rounds.next()
  while (!round.done) round = rounds.next()
  return round.value
}

/** Logs, which have tests of their own for what is cut and changed. */
export const logParsers: readonly Parser[] = [
  parser('parseEventLog', bytes => parseEventLog(bytes), log),
  parser(
    'readImaEntry',
    bytes => readImaEntry(Buffer.from(bytes).toString('latin1')),
    ...imaLines.map(line => Buffer.from(line)),
  ),
  parser(
    'appraiseImaList',
    bytes => finish(appraiseImaList(bytes, new Map([['sha256', new Map([[10, Buffer.alloc(32)]])]]), IMA_RULES)),
    Buffer.from(`${imaLines.join('\n')}\n`),
  ),
  parser('appraiseEventLogs', bytes => appraiseEventLogs([bytes], quoted, { bank: 'sha256', replay }), log),
]

/** Flips, inserts, repeats and cuts: at most a few of them. */
const mutation = fc.record({ at: fc.nat(2000), drop: fc.nat(4), put: fc.array(fc.nat(255), { maxLength: 4 }) })

/** A sample that was changed in a few places. */
export function changed(samples: readonly Uint8Array[]): fc.Arbitrary<Buffer> {
  return fc.tuple(fc.constantFrom(...samples), fc.array(mutation, { minLength: 1, maxLength: 3 })).map(([sample, changes]) =>
    changes.reduce((bytes, { at, drop, put }) => {
      const place = bytes.length === 0 ? 0 : at % bytes.length
      return Buffer.concat([bytes.subarray(0, place), Buffer.from(put), bytes.subarray(place + drop)])
    }, Buffer.from(sample)),
  )
}
