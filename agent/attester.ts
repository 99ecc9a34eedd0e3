import { createHash } from 'node:crypto'
import { alg, curves, handle, type Public, parse, type Reader, spkiOf } from '#attestation'
import { dpopProof, type P256Jwk, type ProofClaims, thumbprintOf } from './dpop.ts'
import { readEkCertificate } from './endorsement.ts'
import { type KeyOptions, type Keys, keysOf } from './keys.ts'
import type { AkKind, EkKind } from './kinds.ts'
import {
  activateCredential,
  certify,
  nvBufferMax,
  type PcrValues,
  policySecret,
  type Quoted,
  quote,
  readPcrs,
  type Selection,
  sign,
  startPolicySession,
  startup,
} from './tpm/commands.ts'
import { fault, TpmError } from './tpm/errors.ts'
import type { KeyFile } from './tpm/key_file.ts'
import { password } from './tpm/password.ts'
import { rc } from './tpm/response_codes.ts'
import { withRoom } from './tpm/room.ts'
import { ekTemplates } from './tpm/templates.ts'
import { entity, type Tpm, tpmOver } from './tpm/tpm.ts'
import { openTransport, type Transport } from './tpm/transport.ts'

export type AttesterOptions = {
  /** `unix:/path`, `tcp:host:port`, `device:/dev/tpmrm0`, `tcti:...`, or a transport that is open */
  readonly tpm: string | Transport
  /** default `rsa-2048` */
  readonly ek?: EkKind
  /** default `ecdsa-p256` */
  readonly ak?: AkKind
  /** authorisation value of the endorsement hierarchy, when it has one */
  readonly endorsementAuth?: Uint8Array
  /** for each command; default 10 000 */
  readonly deadlineMs?: number
  /** the key to bind, in place of the one that the TPM makes of its seed */
  readonly keyFile?: KeyFile
  /** milliseconds since 1970, for DPoP proofs */
  readonly now: () => number
  /** unpredictable bytes */
  readonly random: (size: number) => Buffer
}

/** A machine's TPM, as the party that attests (RFC 9334). Its keys are made anew from the TPM's seed each time: nothing is stored. */
export type Attester = AsyncDisposable & {
  /** TPMT_PUBLIC of the endorsement key, and the maker's certificate for it (DER). @param certificate in place of the one in the TPM */
  endorsement(certificate?: Buffer): Promise<{ readonly public: Buffer; readonly certificate: Buffer }>
  /** TPMT_PUBLIC and Name of the attestation key, a restricted primary key of the endorsement hierarchy */
  attestationKey(): Promise<{ readonly public: Buffer; readonly name: Buffer }>
  /** the P-256 signing key that credentials are bound to, its SubjectPublicKeyInfo (DER) and its RFC 7638 thumbprint */
  boundKey(): Promise<{ readonly jwk: P256Jwk; readonly spki: Buffer; readonly thumbprint: string }>
  /** Has the attestation key certify that key: it is in this TPM and cannot leave it. */
  certify(qualifyingData: Uint8Array): Promise<Certification>
  /** Makes a key that can be bound in place of that key, for whoever wants to use it by other means: only this TPM can load it. */
  createKey(): Promise<KeyFile>
  /** Opens what MakeCredential closed for this TPM and this attestation key. @param blob TPM2B_ID_OBJECT @param encrypted TPM2B_ENCRYPTED_SECRET */
  activate(blob: Uint8Array, encrypted: Uint8Array): Promise<Buffer>
  /** Quotes PCRs. @returns TPMS_ATTEST, TPMT_SIGNATURE, and the values as the text `{"sha256": {"0": "<hex>"}}` */
  quote(selection: Selection, qualifyingData: Uint8Array): Promise<Evidence>
  /** ECDSA with SHA-256 by the key to bind: r || s, 64 bytes */
  sign(data: Uint8Array): Promise<Buffer>
  /** RFC 9449 proof by the key to bind */
  dpopProof(claims: ProofClaims): Promise<string>
  /** Flushes what was loaded and closes the transport. */
  close(): Promise<void>
}
export type Evidence = Quoted & { readonly pcrs: string }
/** TPMT_PUBLIC of the key and, when it is no primary key, of its parent; TPMS_ATTEST and TPMT_SIGNATURE of TPM2_Certify. */
export type Certification = Quoted & { readonly public: Buffer; readonly parent?: Buffer }

const QUOTE_TRIES = 5

/** Opens the TPM, and starts it when nothing did. @throws TpmError when it cannot be reached */
export async function openAttester(options: AttesterOptions): Promise<Attester> {
  const limits = options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs }
  const transport = typeof options.tpm === 'string' ? await openTransport(options.tpm, limits) : options.tpm
  const tpm = withRoom(tpmOver(transport))
  try {
    await ready(tpm)
    const { now, random, ek = 'rsa-2048', ak = 'ecdsa-p256', endorsementAuth = Buffer.alloc(0), keyFile } = options
    return attesterOf(tpm, { ek, ak, endorsementAuth, random, now, ...(keyFile && { keyFile }) })
  } catch (error) {
    await tpm.close()
    throw error
  }
}

async function ready(tpm: Tpm): Promise<void> {
  try {
    await nvBufferMax(tpm)
  } catch (error) {
    if (!(error instanceof TpmError && error.code === rc.INITIALIZE)) throw error
    await startup(tpm)
  }
}

type Settings = KeyOptions & { readonly now: () => number }

function attesterOf(tpm: Tpm, settings: Settings): Attester {
  const keys = keysOf(tpm, settings)
  const boundKey = async () => {
    const { public: area } = await keys.bound()
    const jwk = jwkOf(area)
    return { jwk, spki: spkiOf(area), thumbprint: thumbprintOf(jwk) }
  }
  const signData = (data: Uint8Array) => signWith(tpm, keys, data)
  return {
    endorsement: given => endorsement(tpm, keys, settings.ek, given),
    attestationKey: async () => {
      const ak = await keys.ak()
      return { public: ak.public.bytes, name: ak.name }
    },
    boundKey,
    certify: qualifyingData => certifyBound(tpm, keys, qualifyingData),
    createKey: () => keys.create(),
    activate: (blob, encrypted) => activate(tpm, keys, { blob, encrypted }, settings),
    quote: (selection, qualifyingData) => steadyQuote(tpm, keys, selection, qualifyingData),
    sign: signData,
    dpopProof: async claims => dpopProof({ jwk: (await boundKey()).jwk, sign: signData }, claims, settings),
    close: () => keys.close(),
    [Symbol.asyncDispose]: () => keys.close(),
  }
}

async function endorsement(tpm: Tpm, keys: Keys, kind: EkKind, given: Buffer | undefined) {
  const session = await keys.session()
  const certificate = given ?? (await readEkCertificate(tpm, kind, () => session.use({ hideResponse: true })))
  await using ek = await keys.ek()
  return { public: ek.public.bytes, certificate }
}

type Credential = { readonly blob: Uint8Array; readonly encrypted: Uint8Array }

/** The secret comes back under the session's encryption: whoever reads the bus does not learn it. */
async function activate(tpm: Tpm, keys: Keys, { blob, encrypted }: Credential, settings: Settings): Promise<Buffer> {
  const ak = await keys.ak()
  const session = await keys.session()
  await using ek = await keys.ek()
  const hidden = () => session.use({ hideResponse: true })
  if (!ekTemplates[settings.ek].needsPolicy)
    return await activateCredential(tpm, { ak, ek }, blob, encrypted, [hidden(), password()])
  await using policy = await startPolicySession(tpm, settings.random)
  await policySecret(tpm, policy, entity(handle.ENDORSEMENT), session.use({ auth: settings.endorsementAuth }))
  return await activateCredential(tpm, { ak, ek }, blob, encrypted, [hidden(), policy.authorization])
}

async function certifyBound(tpm: Tpm, keys: Keys, qualifyingData: Uint8Array): Promise<Certification> {
  const [ak, key] = [await keys.ak(), await keys.bound()]
  const session = (await keys.session()).use({ hideCommand: true, hideResponse: true })
  const certified = await certify(tpm, key, ak, qualifyingData, [session, password()])
  return { ...certified, public: key.public.bytes, ...(key.parent && { parent: key.parent }) }
}

/** PCRs that something extends between reading and quoting would not hash to the quoted digest: then both are done again. */
async function steadyQuote(tpm: Tpm, keys: Keys, selection: Selection, qualifyingData: Uint8Array): Promise<Evidence> {
  const ak = await keys.ak()
  const session = await keys.session()
  for (let tries = 0; tries < QUOTE_TRIES; tries++) {
    const before = textOf(await readPcrs(tpm, selection))
    const quoted = await quote(tpm, ak, selection, qualifyingData, session.use({ hideCommand: true, hideResponse: true }))
    if (textOf(await readPcrs(tpm, selection)) === before) return { ...quoted, pcrs: before }
  }
  throw fault('PCR_UNSTABLE', 'the PCRs change faster than they can be quoted; try when the machine has started')
}

/** Values as the verifier wants them: hex, by bank and index. */
function textOf(values: PcrValues): string {
  const inHex = (bank: Record<string, Buffer>) => Object.entries(bank).map(([pcr, digest]) => [pcr, digest.toString('hex')])
  return JSON.stringify(Object.fromEntries(Object.entries(values).map(([name, bank]) => [name, Object.fromEntries(inHex(bank))])))
}

async function signWith(tpm: Tpm, keys: Keys, data: Uint8Array): Promise<Buffer> {
  const key = await keys.bound()
  const session = await keys.session()
  const digest = createHash('sha256').update(data).digest()
  const signature = await sign(tpm, key, digest, session.use({ hideCommand: true }))
  const read = parse(signature, 256, ecdsaSignature)
  if (!read.ok) throw fault('MALFORMED', `TPM2_Sign: ${read.detail}`)
  return read.value
}

/** TPMT_SIGNATURE of ECDSA: sigAlg, hash, r, s. */
function ecdsaSignature(reader: Reader): Buffer {
  if (reader.u16() !== alg.ECDSA || reader.u16() !== alg.SHA256) reader.fail('SCHEME_MISMATCH', 'no ECDSA signature with SHA-256')
  return Buffer.concat([scalar(reader), scalar(reader)])
}

/** Padded, since some TPMs leave out leading zeros. */
function scalar(reader: Reader): Buffer {
  const given = reader.sized()
  const { size } = curves['P-256']
  if (given.length > size) reader.fail('BAD_ENCODING', `a number of ${given.length} bytes in a P-256 signature`)
  return Buffer.concat([Buffer.alloc(size - given.length), given])
}

function jwkOf(area: Public): P256Jwk {
  if (area.kind !== 'ecc' || area.curve !== 'P-256') throw fault('MALFORMED', 'the key to bind is not on P-256')
  return { kty: 'EC', crv: 'P-256', x: area.x.toString('base64url'), y: area.y.toString('base64url') }
}
