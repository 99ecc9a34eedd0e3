import {
  type Bank,
  banks,
  type Hash,
  hashes,
  type ReferenceSet,
  type ReferenceValues,
  revocationPolicies,
  type Selection,
} from '#attestation'
import { type Collection, openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { duration, flag, list, map, parseFields, required, text, type Values } from '../fields.ts'
import type { Mount } from '../mount_table.ts'
import { openLargeStore } from '../vault/large.ts'
import type { Store } from '../vault/store.ts'
import { BUNDLE_LIMIT, checkAnchors, checkLists } from './bundles.ts'

/** What an operator configures on a `tpm-quote` mount. */
export const configFields = {
  enrollment: text(
    'Who may enrol: any TPM whose certificate leads to a trust anchor, only registered TPMs, only with an operator token that may write `enroll`, or what an operator approves of under `pending`.',
    {
      fallback: 'listed',
      choices: ['any', 'listed', 'token', 'approved'],
    },
  ),
  ek_types: list(
    'Kinds of endorsement keys that are accepted. One kind, so that a disabled TPM cannot come back under its other key.',
    {
      fallback: ['rsa-2048'],
      choices: ['rsa-2048', 'p-256', 'p-384'],
    },
  ),
  allowed_makers: list(
    'TPM makers that are accepted, as in the certificate (`id:49465800`). Any maker under a trust anchor when empty.',
  ),
  allow_software_tpms: flag('Accept TPMs made in software. For development and tests only.', { fallback: false }),
  hierarchies: list('Hierarchies in which attestation keys may live.', {
    fallback: ['endorsement', 'ek'],
    choices: ['endorsement', 'ek', 'owner'],
  }),
  crl: text(
    'Whether revocation lists of the makers count: not at all, where a current one is under `crl/`, or one is wanted of every CA.',
    { fallback: 'soft', choices: revocationPolicies },
  ),
  crl_hosts: list('Hosts that revocation lists may be fetched from, `host` or `host:port`. Nothing else is ever fetched.'),
  sha1_makers: list('Makers whose certificates may be signed over SHA-1 digests, as in the certificate (`id:53544D20`).'),
  allow_expired_ek: flag('Accept endorsement certificates whose time is over: a TPM may outlive its own.', { fallback: false }),
  challenge_ttl: duration('How long a challenge may be answered, at most 60 seconds.', { fallback: 60 }),
}

export const anchorFields = {
  certificate: required(text('Trust anchors: one or more certificates in PEM.', { max: BUNDLE_LIMIT })),
}

export const listFields = {
  crl: text('Revocation lists: one or more in PEM, or the base64 of one in DER.', { fallback: '', max: BUNDLE_LIMIT }),
  url: text('Where the lists are fetched from, now and every hour; its host has to be in `crl_hosts` of the config.', {
    fallback: '',
  }),
  fetched_at: text('When they were fetched last. Written by the broker.', { fallback: '' }),
}
export type ListRecord = Values<typeof listFields>

export const referenceFields = {
  pcrs: map('Allowed values: {"sha256": {"0": "<hex>" or ["<hex>", ...]}}. PCRs that are not named are not looked at.'),
  description: text('What this set describes and who answers for it.', { fallback: '' }),
}

export const roleFields = {
  references: required(list('Names of the reference value sets; the machine has to match one of them, whole.')),
  tpm_ids: list('TPM ids that may log in. Any enrolled TPM when empty.'),
  bind_key: text('Whether a login has to bind a key of the machine.', {
    fallback: 'optional',
    choices: ['optional', 'required'],
  }),
}

export const tpmFields = {
  disabled: flag('A disabled TPM is refused everywhere.', { fallback: false }),
  labels: list('Labels, for people and for policies.'),
  maker: text('Manufacturer as in the certificate.', { fallback: '' }),
  model: text('Model as in the certificate.', { fallback: '' }),
  version: text('Firmware version as in the certificate.', { fallback: '' }),
  ek_type: text('Kind of the endorsement key.', { fallback: '' }),
  ek_certificate_sha256: text('Fingerprint of the endorsement certificate.', { fallback: '' }),
  revocation: text('Whether its makers had current revocation lists when it enrolled: `checked`, `unknown` or `unchecked`.', {
    fallback: '',
  }),
  approved_at: text('When an operator approved of it.', { fallback: '' }),
  approval_reason: text('Why, in the words of the operator.', { fallback: '' }),
  ak_names: list('Names of the enrolled attestation keys, hex.'),
  enrolled_at: text('When a key of this TPM was enrolled first.', { fallback: '' }),
}

export type AttestSettings = {
  readonly config: Collection<typeof configFields>
  readonly ca: Collection<typeof anchorFields>
  readonly crl: Collection<typeof listFields>
  readonly reference: Collection<typeof referenceFields>
  readonly role: Collection<typeof roleFields>
  readonly tpm: Collection<typeof tpmFields>
}

/** `config` is a collection of one record with this name. */
const CONFIG = 'config'
export type AttestConfig = Values<typeof configFields>

/** A mount that was never configured is as the fields say. */
export async function configOf(settings: AttestSettings, mount: Mount): Promise<AttestConfig> {
  return (await settings.config.get(mount.id, CONFIG)) ?? parseFields(configFields, {}).values
}

export function openAttestSettings(store: Store): AttestSettings {
  const reference = openCollection(store, 'reference', referenceFields, { check: record => void referenceValues(record.pcrs) })
  return {
    config: openCollection(store, CONFIG, configFields, { check: checkConfig }),
    ca: openCollection(openLargeStore(store), 'ca', anchorFields, { check: record => checkAnchors(record.certificate) }),
    crl: openCollection(openLargeStore(store), 'crl', listFields, { check: record => checkLists(record.crl) }),
    reference,
    role: openCollection(store, 'role', roleFields, {
      check: (record, mountId) => checkReferences(reference, mountId, record.references),
    }),
    tpm: openCollection(store, 'tpm', tpmFields),
  }
}

function checkConfig(record: { challenge_ttl: number; ek_types: readonly string[]; hierarchies: readonly string[] }): void {
  if (record.challenge_ttl < 1 || record.challenge_ttl > 60)
    throw new BrokerError('bad_request', 'challenge_ttl: wanted 1 to 60 seconds')
  if (record.ek_types.length === 0) throw new BrokerError('bad_request', 'ek_types: wanted at least one kind')
  if (record.hierarchies.length === 0) throw new BrokerError('bad_request', 'hierarchies: wanted at least one')
}

async function checkReferences(
  reference: Collection<typeof referenceFields>,
  mountId: string,
  names: readonly string[],
): Promise<void> {
  if (names.length === 0) throw new BrokerError('bad_request', 'references: wanted at least one set of reference values')
  for (const [index, name] of names.entries()) {
    if (!(await reference.get(mountId, name)))
      throw new BrokerError('bad_request', `references: there is no set of the name at place ${index + 1}: write it first`)
  }
}

// 16 and 23 can be reset by software, so they decide nothing
const DECIDING = /^(1[0-57-9]|2[0-2]|[0-9])$/

/** @throws BrokerError bad_request, naming the bank and the PCR that makes no sense */
export function referenceValues(pcrs: Readonly<Record<string, unknown>>): ReferenceValues {
  const entries = Object.entries(pcrs).map(([bank, values]): [Bank, ReadonlyMap<number, readonly Buffer[]>] => [
    bankOf(bank),
    valuesOf(bank, values),
  ])
  if (entries.length === 0) throw new BrokerError('bad_request', `pcrs: wanted values under one of the banks ${banks.join(', ')}`)
  return new Map(entries)
}

function bankOf(bank: string): Bank {
  const known = banks.find(one => one === bank)
  if (!known) throw new BrokerError('bad_request', `pcrs: wanted one of the banks ${banks.join(', ')}`)
  return known
}

function valuesOf(bank: string, values: unknown): ReadonlyMap<number, readonly Buffer[]> {
  if (typeof values !== 'object' || values === null)
    throw new BrokerError('bad_request', `pcrs: wanted an object of PCRs under ${bank}`)
  const entries = Object.entries(values).map(([pcr, digests]): [number, readonly Buffer[]] => [
    pcrOf(pcr),
    digestsOf(bank, pcr, digests),
  ])
  if (entries.length === 0) throw new BrokerError('bad_request', `pcrs: wanted at least one PCR under ${bank}`)
  return new Map(entries.toSorted(([one], [other]) => one - other))
}

function pcrOf(pcr: string): number {
  if (!DECIDING.test(pcr)) throw new BrokerError('bad_request', 'pcrs: wanted PCRs 0 to 22, not 16: software can reset 16 and 23')
  return Number(pcr)
}

function digestsOf(bank: string, pcr: string, digests: unknown): readonly Buffer[] {
  const items: readonly unknown[] = Array.isArray(digests) ? digests : [digests]
  const size = hashes[bank as Hash].size
  const good =
    items.length > 0 && items.every(item => typeof item === 'string' && item.length === size * 2 && /^[0-9a-f]+$/i.test(item))
  if (!good) throw new BrokerError('bad_request', `pcrs: wanted digests of ${size} bytes in hex for PCR ${pcr}`)
  return items.map(item => Buffer.from(item as string, 'hex'))
}

/** What a challenge asks for: every PCR that one of the sets looks at. */
export function selectionOf(sets: readonly ReferenceSet[]): Selection {
  const selection: { [bank in Bank]?: number[] } = {}
  for (const { pcrs } of sets) {
    for (const [bank, values] of pcrs)
      selection[bank] = [...new Set([...(selection[bank] ?? []), ...values.keys()])].sort((one, other) => one - other)
  }
  return selection
}
