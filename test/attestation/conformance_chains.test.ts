import { pairOf } from './attester.ts'
import {
  basicConstraints,
  certifyEk,
  directoryName,
  EK_EXTENSIONS,
  extension,
  extKeyUsage,
  type Fields,
  keyUsage,
  makeCa,
  nameConstraints,
  named,
  san,
  tpmName,
} from './certificates.ts'
import { type Row, runRows } from './conformance_rows.ts'

const key = (id: string, expected: string, modulus: bigint, e = 65537, more: object = {}): Row => {
  const hex = modulus.toString(16)
  return { id, expected, record: { modulus_hex: hex.padStart(hex.length + (hex.length % 2), '0'), e, ...more } }
}
const modulusOf = (label: string) => numberIn(pairOf('rsa-2048', label).privateKey.export({ format: 'jwk' }).n)
const primeOf = (label: string) => numberIn(pairOf('rsa-2048', label).privateKey.export({ format: 'jwk' }).p)
const numberIn = (text = '') => BigInt(`0x${Buffer.from(text, 'base64url').toString('hex')}`)
const small = numberIn(pairOf('rsa-1024').privateKey.export({ format: 'jwk' }).n)

runRows('weak keys', [
  key('W06-rsa1024', 'WEAK_KEY', small),
  key('W08-e-1', 'WEAK_KEY', modulusOf('one'), 1),
  key('W10-small-factor', 'WEAK_KEY', (modulusOf('one') / 7n) * 7n),
  key('W04-shared-prime', 'refuse-when-both-enrolled', primeOf('two') * primeOf('three')),
  key('W05-shared-prime', 'refuse-when-both-enrolled', primeOf('two') * primeOf('four')),
  key('W12-ok', 'OK', modulusOf('five')),
])

const root = makeCa(named('Root', 'Vectors'))
const ek = pairOf('P-256', 'ek').publicKey
const below = (changes: Partial<Fields> = {}) => makeCa(named('Inter', 'Vectors'), changes, root)

function chain(id: string, expected: string, leaf: Partial<Fields>, inter: Partial<Fields> = {}): Row {
  const between = below(inter)
  return chainOf(id, expected, [certifyEk(between, ek, leaf), between.certificate])
}
function chainOf(id: string, expected: string, certificates: readonly Buffer[]): Row {
  const names = certificates.map((_, place) => `${id}.${place}.der`)
  const record = { chain: names, trustAnchor: 'root.der', verifyAt: '2026-06-01T00:00:00Z' }
  return {
    id,
    expected,
    record,
    files: {
      'root.der': root.certificate,
      ...Object.fromEntries(names.map((name, place) => [name, certificates[place] ?? Buffer.alloc(0)])),
    },
  }
}
const [noCa = Buffer.alloc(0), usage = Buffer.alloc(0)] = EK_EXTENSIONS
const unknown = extension('1.2.3.4', true, Buffer.of(5, 0))
const caWith = (...extensions: Buffer[]) => ({ extensions })
const infineon = directoryName(tpmName(['id:49465800', 'SLB9672', 'id:0F0A']))

runRows('chains', [
  chain('X-ok', 'OK', {}),
  chain('X-ok-99991231', 'OK', { notAfter: new Date('9999-12-31T23:59:59Z') }),
  chain('X-leaf-notyet', 'CERT_EXPIRED', { notBefore: new Date('2030-01-01T00:00:00Z') }),
  chain('X-inter-ca-false', 'NOT_A_CA', {}, caWith(basicConstraints(false), keyUsage(0x06))),
  chain('X-inter-no-keycertsign', 'NOT_A_CA', {}, caWith(basicConstraints(true), keyUsage(0x80))),
  chain('X-unknown-critical-in-leaf', 'UNKNOWN_CRITICAL_EXT', { extensions: [...EK_EXTENSIONS, unknown] }),
  chain('X-eku-not-tpm', 'EKU', { extensions: [noCa, usage, extKeyUsage('1.3.6.1.5.5.7.3.1'), san()] }),
  chain(
    'X-nameconstraints',
    'NAME_CONSTRAINTS',
    {},
    caWith(basicConstraints(true), keyUsage(0x06), nameConstraints([], [infineon])),
  ),
  chainOf('X-wrong-issuer-name', 'BAD_CHAIN', [certifyEk(below(), ek, { issuer: named('Another') }), below().certificate]),
  chainOf('X-no-intermediate', 'BAD_CHAIN', [certifyEk(below(), ek)]),
  chain('X-sha1', 'WEAK_HASH', { hash: 'sha1' }),
])
