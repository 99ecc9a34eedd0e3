import {
  Boolean as Asn1Boolean,
  Set as Asn1Set,
  type BaseBlock,
  BitString,
  Constructed,
  fromBER,
  GeneralizedTime,
  Integer,
  ObjectIdentifier,
  OctetString,
  Primitive,
  Sequence,
  UTCTime,
  Utf8String,
} from 'asn1js'

/** The key that is certified: its SubjectPublicKeyInfo in DER; and one that signs: ECDSA with P-256 and SHA-256 as r || s. */
export type Signer = { readonly spki: Uint8Array; sign(data: Uint8Array): Promise<Buffer> }

export type Subject = {
  readonly commonName: string
  /** milliseconds since 1970 */
  readonly notBefore: number
  readonly days: number
  readonly random: (size: number) => Buffer
}

/** ecdsa-with-SHA256 (RFC 5758 3.2) */
const ALGORITHM = () => sequence(oid('1.2.840.10045.4.3.2'))
export const DAY_MS = 86_400_000
/** the class of tags such as `[0]` */
const CONTEXT = 3

/** A certificate that the key issues for itself: what it is worth is its fingerprint (RFC 8705 2.2). DER. */
export function selfSigned(signer: Signer, { commonName, ...about }: Subject): Promise<Buffer> {
  return certified(signer, nameOf(commonName), about)
}

/** A certificate that looks like the issuer of another one, and names a URI beside that. What it is worth is what the URI says. DER. */
export function namedLikeIssuer(
  signer: Signer,
  { of, uri, ...about }: Omit<Subject, 'commonName'> & { readonly of: Uint8Array; readonly uri: string },
): Promise<Buffer> {
  return certified(signer, issuerOf(of), about, uri)
}

async function certified(
  signer: Signer,
  name: BaseBlock,
  { notBefore, days, random }: Omit<Subject, 'commonName'>,
  uri?: string,
): Promise<Buffer> {
  const serial = random(16)
  serial.writeUInt8((serial.readUInt8() & 0x7f) | 0x40)
  const validity = sequence(time(notBefore), time(notBefore + days * DAY_MS))
  const head = [explicit(0, new Integer({ value: 2 })), new Integer({ valueHex: serial }), ALGORITHM()]
  const body = [name, validity, name, parsed(signer.spki), explicit(3, sequence(...(uri === undefined ? client() : named(uri))))]
  return signed(sequence(...head, ...body), signer)
}

/** A request for a certificate (RFC 2986), for a CA that knows this machine. DER. */
export function certificateRequest(signer: Signer, commonName: string): Promise<Buffer> {
  const noAttributes = new Constructed({ idBlock: { tagClass: CONTEXT, tagNumber: 0 }, value: [] })
  return signed(sequence(new Integer({ value: 0 }), nameOf(commonName), parsed(signer.spki), noAttributes), signer)
}

/** No CA, signs, and shows itself as a client (RFC 5280 4.2.1.3, 4.2.1.9, 4.2.1.12). */
function client(): Sequence[] {
  const digitalSignature = new BitString({ valueHex: Buffer.of(0x80), unusedBits: 7 })
  const clientAuth = sequence(oid('1.3.6.1.5.5.7.3.2'))
  return [
    extension('2.5.29.19', sequence(), true),
    extension('2.5.29.15', digitalSignature, true),
    extension('2.5.29.37', clientAuth),
  ]
}

/** RFC 5280 4.2.1.6: a uniformResourceIdentifier. Nothing says what the key may be used for: an issuer of anything would have to say more. */
function named(uri: string): Sequence[] {
  const name = new Primitive({ idBlock: { tagClass: CONTEXT, tagNumber: 6 }, valueHex: Buffer.from(uri, 'latin1') })
  return [extension('2.5.29.17', sequence(name))]
}

function extension(id: string, value: BaseBlock, critical = false): Sequence {
  const content = new OctetString({ valueHex: value.toBER() })
  return critical ? sequence(oid(id), new Asn1Boolean({ value: true }), content) : sequence(oid(id), content)
}

async function signed(body: Sequence, signer: Signer): Promise<Buffer> {
  const signature = await signer.sign(Buffer.from(body.toBER()))
  const [r, s] = [signature.subarray(0, signature.length / 2), signature.subarray(signature.length / 2)]
  const value = sequence(Integer.fromBigInt(`0x${r.toString('hex')}`), Integer.fromBigInt(`0x${s.toString('hex')}`))
  return Buffer.from(sequence(body, ALGORITHM(), new BitString({ valueHex: value.toBER() })).toBER())
}

/** TBSCertificate: version, serial number, algorithm, issuer (RFC 5280 4.1). */
function issuerOf(certificate: Uint8Array): BaseBlock {
  const body = (parsed(certificate) as Sequence).valueBlock.value[0] as Sequence
  const issuer = body.valueBlock.value.filter(({ idBlock }) => idBlock.tagClass !== CONTEXT)[2]
  if (!issuer) throw new Error('no certificate')
  return issuer
}

function nameOf(commonName: string): Sequence {
  return sequence(new Asn1Set({ value: [sequence(oid('2.5.4.3'), new Utf8String({ value: commonName }))] }))
}

const sequence = (...value: BaseBlock[]): Sequence => new Sequence({ value })
const oid = (value: string): ObjectIdentifier => new ObjectIdentifier({ value })
const parsed = (der: Uint8Array): BaseBlock => fromBER(Buffer.from(der)).result as BaseBlock
const explicit = (tagNumber: number, block: BaseBlock): Constructed =>
  new Constructed({ idBlock: { tagClass: CONTEXT, tagNumber }, value: [block] })

/** Whole seconds, as DER wants them. */
function time(ms: number): BaseBlock {
  const valueDate = new Date(Math.floor(ms / 1000) * 1000)
  return valueDate.getUTCFullYear() < 2050 ? new UTCTime({ valueDate }) : new GeneralizedTime({ valueDate })
}
