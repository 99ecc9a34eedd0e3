import { constants, createHash, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import { type Kind, pairOf } from './attester.ts'

// Writes X.509 certificates field by field, so that every one can be wrong in a test.

/** DER of one element. */
export function der(tag: number, ...content: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(content)
  if (body.length < 0x80) return Buffer.concat([Buffer.of(tag, body.length), body])
  const bytes = [16, 8, 0].map(shift => (body.length >> shift) & 0xff)
  const length = bytes.slice(bytes.findIndex(byte => byte !== 0))
  return Buffer.concat([Buffer.of(tag, 0x80 + length.length, ...length), body])
}

export const sequence = (...content: readonly Uint8Array[]): Buffer => der(0x30, ...content)
const set = (...content: readonly Uint8Array[]) => der(0x31, ...content)
export const utf8 = (text: string): Buffer => der(0x0c, Buffer.from(text))
const integer = (value: number) =>
  der(0x02, Buffer.from(value.toString(16).padStart(4, '0'), 'hex').subarray(value < 0x80 ? 1 : 0))
const TRUE = Buffer.of(0x01, 0x01, 0xff)

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  return der(0x06, Buffer.from([40 * first + second, ...rest].flatMap(base128)))
}

function base128(arc: number): number[] {
  const digits = [arc & 0x7f]
  for (let rest = arc >> 7; rest > 0; rest >>= 7) digits.unshift((rest & 0x7f) | 0x80)
  return digits
}

/** UTCTime until 2049, GeneralizedTime from then on (RFC 5280 4.1.2.5). */
function time(date: Date): Buffer {
  const digits = date.toISOString().replace(/[-:T]|\.\d+/g, '')
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(digits.slice(2))) : der(0x18, Buffer.from(digits))
}

/** A Name: one RDN per entry, each with one attribute or several. */
export type Rdns = readonly (readonly (readonly [type: string, value: string])[])[]
export const CN = '2.5.4.3'
export const O = '2.5.4.10'
export const name = (...rdns: Rdns): Buffer =>
  sequence(...rdns.map(rdn => set(...rdn.map(([type, value]) => sequence(oid(type), utf8(value))))))
export const named = (cn: string, organization = 'Makers'): Buffer => name([[O, organization]], [[CN, cn]])
const stringTypes = { utf8: 0x0c, printable: 0x13, teletex: 0x14, ia5: 0x16, visible: 0x1a, bmp: 0x1e } as const
export type StringType = keyof typeof stringTypes
/** A text in one of the string types of a Name (RFC 5280 4.1.2.4). */
export function textIn(type: StringType, text: string): Buffer {
  const units = { utf8: Buffer.from(text), bmp: Buffer.from(text, 'utf16le').swap16() }
  return der(stringTypes[type], type === 'utf8' || type === 'bmp' ? units[type] : Buffer.from(text, 'latin1'))
}
/** `named`, in another string type. */
export const namedIn = (type: StringType, cn: string, organization = 'Makers'): Buffer =>
  sequence(
    ...(
      [
        [O, organization],
        [CN, cn],
      ] as const
    ).map(([of, text]) => set(sequence(oid(of), textIn(type, text)))),
  )
export const EMPTY = sequence()

export function extension(id: string, critical: boolean, value: Uint8Array): Buffer {
  return sequence(oid(id), ...(critical ? [TRUE] : []), der(0x04, value))
}

export const basicConstraints = (ca: boolean, pathLength?: number): Buffer =>
  extension('2.5.29.19', true, sequence(...(ca ? [TRUE] : []), ...(pathLength === undefined ? [] : [integer(pathLength)])))
/** the first octet of KeyUsage */
export const keyUsage = (bits: number): Buffer => extension('2.5.29.15', true, der(0x03, Buffer.of(0, bits)))
export const extKeyUsage = (...purposes: readonly string[]): Buffer =>
  extension('2.5.29.37', false, sequence(...purposes.map(oid)))
export const subjectAltName = (critical: boolean, ...names: readonly Uint8Array[]): Buffer =>
  extension('2.5.29.17', critical, sequence(...names))
export const directoryName = (of: Uint8Array): Buffer => der(0xa4, of)
export const dnsName = (host: string): Buffer => der(0x82, Buffer.from(host))
export const subjectKey = (id: Uint8Array): Buffer => extension('2.5.29.14', false, der(0x04, id))
export const authorityKey = (id: Uint8Array): Buffer => extension('2.5.29.35', false, sequence(der(0x80, id)))

/** Subtrees that are permitted and excluded, as GeneralNames. */
export function nameConstraints(permitted: readonly Uint8Array[], excluded: readonly Uint8Array[]): Buffer {
  const trees = (tag: number, names: readonly Uint8Array[]) =>
    names.length > 0 ? [der(tag, ...names.map(one => sequence(one)))] : []
  return extension('2.5.29.30', true, sequence(...trees(0xa0, permitted), ...trees(0xa1, excluded)))
}

/** The name of a TPM: maker, model and version in three RDNs, or in one as one maker writes it. */
export function tpmName([manufacturer, model, version]: readonly [string, string, string], inOne = false): Buffer {
  const attributes = [
    ['2.23.133.2.1', manufacturer],
    ['2.23.133.2.2', model],
    ['2.23.133.2.3', version],
  ] as const
  return inOne ? name(attributes) : name(...attributes.map(one => [one]))
}

/** SHA-256, SHA-384, SHA-512 and SHA-1 with RSA and with ECDSA. */
const algorithms: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  rsa: {
    sha1: '1.2.840.113549.1.1.5',
    md5: '1.2.840.113549.1.1.4',
    sha256: '1.2.840.113549.1.1.11',
    sha384: '1.2.840.113549.1.1.12',
  },
  ec: { sha1: '1.2.840.10045.4.1', sha224: '1.2.840.10045.4.3.1', sha256: '1.2.840.10045.4.3.2', sha384: '1.2.840.10045.4.3.3' },
}

export type Fields = {
  readonly version: number
  readonly serial: Uint8Array
  readonly issuer: Uint8Array
  readonly notBefore: Date
  readonly notAfter: Date
  readonly subject: Uint8Array
  /** SubjectPublicKeyInfo */
  readonly spki: Uint8Array
  readonly extensions: readonly Uint8Array[]
  readonly hash: string
  /** in place of the one that fits key and hash, in the outer field */
  readonly signatureAlgorithm?: Uint8Array
  /** signs with RSASSA-PSS */
  readonly pss?: boolean
}

export const NOW = new Date('2026-06-01T00:00:00Z')
const ordinary = {
  version: 2,
  serial: Buffer.of(1),
  notBefore: new Date('2020-01-01T00:00:00Z'),
  notAfter: new Date('2040-01-01T00:00:00Z'),
  hash: 'sha256',
}

/** RSASSA-PSS with this hash for everything (RFC 4055 3.1). */
function pssAlgorithm(hash: 'sha1' | 'sha256'): Buffer {
  const digest = sequence(oid(hash === 'sha1' ? '1.3.14.3.2.26' : '2.16.840.1.101.3.4.2.1'), Buffer.of(5, 0))
  const mask = sequence(oid('1.2.840.113549.1.1.8'), digest)
  const salt = integer(hash === 'sha1' ? 20 : 32)
  return sequence(oid('1.2.840.113549.1.1.10'), sequence(der(0xa0, digest), der(0xa1, mask), der(0xa2, salt)))
}

/** A certificate over these fields, signed by this key. */
function certify(
  signer: KeyObject,
  fields: Partial<Fields> & Pick<Fields, 'issuer' | 'subject' | 'spki' | 'extensions'>,
): Buffer {
  const { version, serial, issuer, notBefore, notAfter, subject, spki, extensions, hash } = {
    ...ordinary,
    ...fields,
  }
  const kind = signer.asymmetricKeyType === 'rsa' ? 'rsa' : 'ec'
  const plain = sequence(oid(algorithms[kind]?.[hash] ?? ''), ...(kind === 'rsa' ? [Buffer.of(5, 0)] : []))
  const algorithm = fields.pss ? pssAlgorithm(hash as 'sha256') : plain
  const validity = sequence(time(notBefore), time(notAfter))
  const tail = extensions.length > 0 ? [der(0xa3, sequence(...extensions))] : []
  const head = version > 0 ? [der(0xa0, integer(version))] : []
  const tbs = sequence(...head, der(0x02, serial), algorithm, issuer, validity, subject, spki, ...tail)
  const signature = sign(
    hash,
    tbs,
    fields.pss ? { key: signer, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: -1 } : signer,
  )
  return sequence(tbs, fields.signatureAlgorithm ?? algorithm, der(0x03, Buffer.of(0), signature))
}

/** One entry of a revocation list: a serial number, and what is said of it beside. */
export type Revoked = { readonly serial: Uint8Array; readonly extensions?: readonly Uint8Array[] }
export type ListFields = {
  readonly issuer: Uint8Array
  readonly thisUpdate: Date
  readonly nextUpdate: Date | undefined
  readonly revoked: readonly Revoked[]
  readonly extensions: readonly Uint8Array[]
  readonly hash: string
  readonly signatureAlgorithm: Uint8Array
}

/** A revocation list of a CA (RFC 5280 5.1). */
export function makeList(ca: Pick<Ca, 'subject' | 'private'>, changes: Partial<ListFields> = {}): Buffer {
  const { issuer, thisUpdate, nextUpdate, revoked, extensions, hash } = {
    issuer: ca.subject,
    thisUpdate: new Date('2026-05-01T00:00:00Z'),
    nextUpdate: new Date('2026-07-01T00:00:00Z'),
    revoked: [],
    extensions: [],
    hash: 'sha256',
    ...changes,
  }
  const kind = ca.private.asymmetricKeyType === 'rsa' ? 'rsa' : 'ec'
  const algorithm = sequence(oid(algorithms[kind]?.[hash] ?? ''), ...(kind === 'rsa' ? [Buffer.of(5, 0)] : []))
  const entries = revoked.map(({ serial, extensions: own = [] }) =>
    sequence(der(0x02, serial), time(thisUpdate), ...(own.length > 0 ? [sequence(...own)] : [])),
  )
  const tbs = sequence(
    integer(1),
    algorithm,
    issuer,
    time(thisUpdate),
    ...(nextUpdate ? [time(nextUpdate)] : []),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    ...(extensions.length > 0 ? [der(0xa0, sequence(...extensions))] : []),
  )
  return sequence(tbs, changes.signatureAlgorithm ?? algorithm, der(0x03, Buffer.of(0), sign(hash, tbs, ca.private)))
}

const uri = (place: string) => der(0x86, Buffer.from(place))
/** Where a certificate says that it would be listed. */
export const distributionPoint = (place: string): Buffer =>
  extension('2.5.29.31', false, sequence(sequence(der(0xa0, der(0xa0, uri(place))))))
/** What a list says that it is of: members of IssuingDistributionPoint. */
export const issuingPoint = (...members: readonly Uint8Array[]): Buffer => extension('2.5.29.28', true, sequence(...members))
export const listedAt = (place: string): Buffer => der(0xa0, der(0xa0, uri(place)))

export type Ca = { readonly subject: Buffer; readonly private: KeyObject; readonly spki: Buffer; readonly certificate: Buffer }
export type CaOptions = Partial<Fields> & { readonly kind?: Kind; readonly label?: string; readonly issuer?: Uint8Array }

const CA_EXTENSIONS = [basicConstraints(true), keyUsage(0x06)]

/** A CA with this subject, under another one or under itself. */
export function makeCa(
  subject: Buffer,
  { kind = 'P-256', label = subject.toString('hex'), ...changes }: CaOptions = {},
  above?: Ca,
): Ca {
  const pair = pairOf(kind, label)
  const spki = pair.publicKey.export({ type: 'spki', format: 'der' })
  const fields = { issuer: above?.subject ?? subject, subject, spki, extensions: CA_EXTENSIONS, ...changes }
  return { subject, private: pair.privateKey, spki, certificate: certify(above?.private ?? pair.privateKey, fields) }
}

export const EK_PURPOSE = '2.23.133.8.1'
export const INFINEON = ['id:49465800', 'SLB9672', 'id:0F0A'] as const
export const san = (tpm: readonly [string, string, string] = INFINEON, critical = true): Buffer =>
  subjectAltName(critical, directoryName(tpmName(tpm)))
export const EK_EXTENSIONS: readonly Buffer[] = [basicConstraints(false), keyUsage(0x20), extKeyUsage(EK_PURPOSE), san()]

/** The certificate of an endorsement key with that public half. */
export function certifyEk(ca: Ca, key: KeyObject, changes: Partial<Fields> = {}): Buffer {
  const spki = key.export({ type: 'spki', format: 'der' })
  return certify(ca.private, { issuer: ca.subject, subject: EMPTY, spki, extensions: EK_EXTENSIONS, ...changes })
}

export const keyIdOf = ({ spki }: Ca): Buffer => createHash('sha1').update(spki).digest()

/** A key on a curve that OpenSSL knows and JWK does not. */
export function brainpool(): Buffer {
  return generateKeyPairSync('ec', { namedCurve: 'brainpoolP256r1' }).publicKey.export({ type: 'spki', format: 'der' })
}

export function pem(bytes: Uint8Array, what = 'CERTIFICATE'): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return [`-----BEGIN ${what}-----`, ...lines, `-----END ${what}-----`, ''].join('\n')
}
