import { FlattenedEncrypt } from 'jose'
import { BrokerError } from '../errors.ts'
import { signJwt } from '../jwt.ts'
import { Secret } from '../secret.ts'
import type { OwnVault } from '../vault/own.ts'
import type { Signer } from '../vault/transit.ts'
import { authenticatedData, type Binding } from './binding.ts'
import { openDataKeys } from './data_keys.ts'
import { ruleText } from './destination.ts'
import { contextOf, SEALING_KEY, type SealingMode, SIGNING_KEY, sealingVersion, versionOf } from './keys.ts'

/** What is to be sealed. */
export type ToSeal = {
  /** the real credential by the names of its fields; a single token is `token` */
  readonly fields: Readonly<Record<string, Secret | string>>
  /** claims of the real token, or what its issuer says of an opaque one: what the agent may read */
  readonly claims: Readonly<Record<string, unknown>>
  readonly binding: Binding
  readonly jti: string
  /** RFC 7638 thumbprint of the machine's key: the certificate has to be over it too, when there is one */
  readonly keyThumbprint: string
  /** seconds since the epoch */
  readonly issuedAt: number
  readonly expiresAt: number
}

export type Sealed = { readonly token: Secret; readonly kid: string }

/** Makes a token that reads like the real one and is worth something only at the proxy: a JWT signed in transit, with the real one encrypted in it.
 *  @throws BrokerError unavailable when transit cannot encrypt or sign, bad_request when the token would be longer than what is opened */
export type Sealer = (what: ToSeal) => Promise<Sealed>

export type SealerPorts = {
  readonly vault: OwnVault
  readonly signer: Signer
  readonly transit: string
  readonly mode: SealingMode
  readonly monotonic: () => number
}

/** Characters of a token: nobody opens a longer one. */
export const LONGEST = 16 * 1024
export const SEALED_TYP = 'sealed+jwt'
export const JWE_HEADER = { alg: 'dir', enc: 'A256GCM' } as const

type Encrypt = (text: Buffer, binding: Binding, frame: { jti: string; exp: number }) => Promise<SealClaim>

/** The encrypted claim: the JWE and the wrapped key it is under, or a ciphertext of transit. */
export type SealClaim = { readonly key: string; readonly jwe: string } | { readonly transit: string }

export function openSealer(ports: SealerPorts): Sealer {
  const encrypt = ports.mode === 'transit' ? inTransit(ports) : underDataKey(ports)
  const signingKey = once(() => ports.signer.create(SIGNING_KEY))
  return async what => {
    await signingKey()
    const { binding, jti, expiresAt: exp } = what
    const seal = await encrypt(payloadOf(what), binding, { jti, exp })
    const key = await ports.signer.key(SIGNING_KEY)
    const token = await signJwt(ports.signer, key, key.latest, SEALED_TYP, claimsOf(what, seal))
    if (token.length > LONGEST)
      throw new BrokerError('bad_request', `sealed, the credential has ${token.length} characters, and ${LONGEST} are the most`)
    return { token: new Secret(token), kid: key.latest.kid }
  }
}

function payloadOf({ fields }: ToSeal): Buffer {
  const plain = Object.entries(fields).map(([name, field]) => [name, field instanceof Secret ? field.reveal() : field])
  return Buffer.from(JSON.stringify(Object.fromEntries(plain)))
}

/** Ours come last: what the real token says of its life or its holder does not count here. */
function claimsOf({ claims, binding, jti, keyThumbprint, issuedAt, expiresAt }: ToSeal, seal: SealClaim): object {
  const { tenant, agent, plugin, x5tS256, destinations, epoch } = binding
  return {
    ...claims,
    iat: issuedAt,
    exp: expiresAt,
    jti,
    cnf: { 'x5t#S256': x5tS256, ...(keyThumbprint ? { jkt: keyThumbprint } : {}) },
    assay: { tenant, agent, plugin, destinations: destinations.map(ruleText), epoch, seal },
  }
}

function underDataKey({ vault, transit, monotonic }: SealerPorts): Encrypt {
  const keyFor = openDataKeys(vault, transit, monotonic)
  return async (text, binding, frame) => {
    const { key, wrapped, version } = await keyFor(binding.tenant)
    const sealed = await new FlattenedEncrypt(text)
      .setProtectedHeader(JWE_HEADER)
      .setAdditionalAuthenticatedData(authenticatedData(binding, { ...frame, kid: `${SEALING_KEY}-v${version}` }))
      .encrypt(key)
    // the compact form, whose second part, the encrypted key, is empty with `dir`; whoever opens it makes the authenticated data anew
    return { key: wrapped, jwe: [sealed.protected, '', sealed.iv, sealed.ciphertext, sealed.tag].join('.') }
  }
}

function inTransit({ vault, transit }: SealerPorts): Encrypt {
  return async (text, binding, frame) => {
    const version = await sealingVersion(vault, transit)
    const data = authenticatedData(binding, { ...frame, kid: `${SEALING_KEY}-v${version}` })
    const body = {
      plaintext: text.toString('base64'),
      context: contextOf(binding.tenant),
      associated_data: data.toString('base64'),
      key_version: version,
    }
    const { ciphertext } = (await vault.write(`${transit}/encrypt/${SEALING_KEY}`, body))?.data ?? {}
    versionOf(ciphertext)
    return { transit: String(ciphertext) }
  }
}

/** Does it until it has worked once. */
function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => {
    done ??= work().catch((error: unknown) => {
      done = undefined
      throw error
    })
    return done
  }
}
