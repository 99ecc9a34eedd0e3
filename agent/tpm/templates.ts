import { alg, attribute, type Curve, curves, ekProfile, type Hash, hashes, Writer } from '#attestation'
import type { AkKind, EkKind } from '../kinds.ts'

/** An endorsement key of the TCG, and where the TPM keeps key and certificate (EK Credential Profile 2.2.1.4, 2.2.1.5, B.3, B.4; registry of reserved handles). */
export type EkTemplate = {
  /** TPMT_PUBLIC without `unique`, which every such key begins with */
  readonly head: Buffer
  /** what the template holds in its place */
  readonly unique: Buffer
  /** NV index of its certificate */
  readonly certificate: number
  /** where a maker keeps it ready; it may be absent */
  readonly persistent: number
  /** low range: used under PolicySecret(endorsement); high range: the empty authorisation value does (userWithAuth is set) */
  readonly needsPolicy: boolean
}

const { fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt, sign } = attribute
const { low, high, policyA, policyB } = ekProfile
/** noDA: a key with an empty authorisation value has nothing to guess, and an unclean power-off would count as a guess. */
const SIGNING = fixedTPM | fixedParent | sensitiveDataOrigin | userWithAuth | noDA | sign

export const ekTemplates: Readonly<Record<EkKind, EkTemplate>> = {
  'rsa-2048': { head: ekRsa(), unique: sized(256), certificate: 0x01c00002, persistent: 0x81010001, needsPolicy: true },
  'p-256': {
    head: ekEcc('P-256', 'sha256', low, policyA, 128),
    unique: Buffer.concat([sized(32), sized(32)]),
    certificate: 0x01c0000a,
    persistent: 0x81010002,
    needsPolicy: true,
  },
  'p-384': {
    head: ekEcc('P-384', 'sha384', high, policyB.sha384, 256),
    unique: Buffer.concat([sized(0), sized(0)]),
    certificate: 0x01c00016,
    persistent: 0x81010016,
    needsPolicy: false,
  },
}

/** Restricted: it signs what the TPM made and nothing else, which is what a quote is worth. The label makes the primary ours. */
export const akTemplates: Readonly<Record<AkKind, Buffer>> = {
  'ecdsa-p256': eccSigner('P-256', 'sha256', SIGNING | restricted, 'assay attestation key'),
  'ecdsa-p384': eccSigner('P-384', 'sha384', SIGNING | restricted, 'assay attestation key'),
  'rsassa-2048': rsaSigner(alg.RSASSA, SIGNING | restricted, 'assay attestation key'),
  'rsapss-2048': rsaSigner(alg.RSAPSS, SIGNING | restricted, 'assay attestation key'),
}

/** The key that credentials are bound to: it signs what it is given, so it must never attest. */
export const boundKeyTemplate: Buffer = eccSigner('P-256', 'sha256', SIGNING, 'assay key to bind')

/** The storage primary key that keys in files are made under (ASN.1 Specification for TPM 2.0 Key Files, "parent"). */
export const storageTemplate: Buffer = Buffer.concat([
  ekEcc('P-256', 'sha256', (SIGNING & ~sign) | restricted | decrypt, Buffer.alloc(0), 128),
  sized(0),
  sized(0),
])

function ekRsa(): Buffer {
  const head = publicArea(alg.RSA, 'sha256', low, policyA)
  return aes(head, 128).u16(alg.NULL).u16(2048).u32(0).done()
}

function ekEcc(curve: Curve, hash: Hash, attributes: number, policy: Buffer, aesBits: number): Buffer {
  const head = publicArea(alg.ECC, hash, attributes, policy)
  return aes(head, aesBits).u16(alg.NULL).u16(curves[curve].id).u16(alg.NULL).done()
}

function eccSigner(curve: Curve, hash: Hash, attributes: number, label: string): Buffer {
  const { id, size } = curves[curve]
  const head = publicArea(alg.ECC, hash, attributes, Buffer.alloc(0)).u16(alg.NULL)
  const parameters = head.u16(alg.ECDSA).u16(hashes[hash].id).u16(id).u16(alg.NULL)
  return parameters.sized(padded(label, size)).sized(Buffer.alloc(size)).done()
}

function rsaSigner(scheme: number, attributes: number, label: string): Buffer {
  const head = publicArea(alg.RSA, 'sha256', attributes, Buffer.alloc(0)).u16(alg.NULL)
  const parameters = head.u16(scheme).u16(alg.SHA256).u16(2048).u32(0)
  return parameters.sized(padded(label, 256)).done()
}

/** The members that every TPMT_PUBLIC begins with. */
function publicArea(type: number, nameAlg: Hash, attributes: number, policy: Uint8Array): Writer {
  return new Writer().u16(type).u16(hashes[nameAlg].id).u32(attributes).sized(policy)
}

/** TPMT_SYM_DEF_OBJECT of a parent. */
function aes(writer: Writer, bits: number): Writer {
  return writer.u16(alg.AES).u16(bits).u16(alg.CFB)
}

/** A TPM2B of zeros. */
function sized(size: number): Buffer {
  return Buffer.alloc(2 + size).fill(new Writer().u16(size).done(), 0, 2)
}

/** In `unique` of a template, where it makes another key of the same seed (Part 3, TPM2_CreatePrimary). */
function padded(label: string, size: number): Buffer {
  const field = Buffer.alloc(size)
  field.write(label, 'ascii')
  return field
}
