import { formats, hierarchies, revocationPolicies } from '#attestation'
import { type Collection, openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { duration, flag, list, parseFields, required, text, type Values } from '../fields.ts'
import { openEgress } from '../lifecycle/egress.ts'
import type { Mount } from '../mount_table.ts'
import { isAmbiguous } from '../networks.ts'
import { openLargeStore } from '../vault/large.ts'
import type { Store } from '../vault/store.ts'
import { BUNDLE_LIMIT, checkAnchors, checkLists } from './bundles.ts'
import { openSigners, type Signers } from './corim.ts'
import { openFileLists } from './file_lists.ts'
import { openReferences, type References } from './references.ts'

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
    choices: hierarchies,
  }),
  crl: text(
    'Whether revocation lists of the makers count: not at all, where a current one is under `crl/`, or one is wanted of every CA.',
    { fallback: 'soft', choices: revocationPolicies },
  ),
  crl_hosts: list('Hosts that revocation lists may be fetched from, `host` or `host:port`. Nothing else is ever fetched.'),
  sha1_makers: list('Makers whose certificates may be signed over SHA-1 digests, as in the certificate (`id:53544D20`).'),
  allow_expired_ek: flag('Accept endorsement certificates whose time is over: a TPM may outlive its own.', { fallback: false }),
  denied_firmware: list(
    'Versions of TPM firmware that are refused whatever the reference values say, 16 hex digits as quotes say them. Machines that showed one fail at once.',
  ),
  challenge_ttl: duration('How long a challenge may be answered, at most 60 seconds.', { fallback: 60 }),
  reference_approval: text(
    'Whose word a set of reference values needs before it lets machines in: that of whoever may write it, or a second person’s as well, under `reference/:name/approve`.',
    { fallback: 'none', choices: ['none', 'second-person'] },
  ),
  latch: flag('A machine that failed its attestation gets nothing until it is cleared, and what it had is revoked.', {
    fallback: true,
  }),
  webhook_networks: list('Networks or addresses that webhooks may be in although they are not public, such as `10.1.0.0/16`.'),
}

export const anchorFields = {
  certificate: required(text('Trust anchors: one or more certificates in PEM.', { max: BUNDLE_LIMIT })),
  format: text('The format of evidence that they are trusted for.', { fallback: 'tpm2-quote', choices: [...formats.keys()] }),
}

export const listFields = {
  crl: text('Revocation lists: one or more in PEM, or the base64 of one in DER.', { fallback: '', max: BUNDLE_LIMIT }),
  url: text('Where the lists are fetched from, now and every hour; its host has to be in `crl_hosts` of the config.', {
    fallback: '',
  }),
  fetched_at: text('When they were fetched last. Written by the broker.', { fallback: '' }),
}
export type ListRecord = Values<typeof listFields>

export const roleFields = {
  references: required(list('Names of the reference value sets; the machine has to match one of them, whole.')),
  format: text('What machines show: a TPM quote by an enrolled key, or a document that brings its own endorsement.', {
    fallback: 'tpm2-quote',
    choices: [...formats.keys()],
  }),
  tpm_ids: list('TPM ids that may log in. Any enrolled TPM when empty.'),
  bind_key: text('Whether a login has to bind a key of the machine: any, or one that the TPM certified as its own.', {
    fallback: 'optional',
    choices: ['optional', 'required', 'certified'],
  }),
  max_attestation_age: duration(
    'How old the quote of a login may be when a credential is asked for; no token lives longer. Without limit when 0.',
    { fallback: 0 },
  ),
  revocable: flag(
    'What the role gives can be revoked when a machine reboots or fails: so it gives service tokens. Batch tokens need `false`.',
    { fallback: true },
  ),
  allow_unsafe_clock: flag(
    'Quotes count whose TPM says that its clock may have gone back: after a power cut it says so for up to 70 minutes.',
    { fallback: false },
  ),
  disabled: flag('Nobody logs in with a disabled role, and what it gave is revoked.', { fallback: false }),
}

/** Whether a role is for this TPM. */
export function isFor({ tpm_ids }: Pick<Values<typeof roleFields>, 'tpm_ids'>, tpmId: string): boolean {
  return tpm_ids.length === 0 || tpm_ids.includes(tpmId)
}

/** What the endorsement certificate says of a TPM. */
export const certificateFields = {
  maker: text('Manufacturer as in the certificate.', { fallback: '' }),
  model: text('Model as in the certificate.', { fallback: '' }),
  version: text('Firmware version as in the certificate.', { fallback: '' }),
  ek_type: text('Kind of the endorsement key.', { fallback: '' }),
  ek_certificate_sha256: text('Fingerprint of the endorsement certificate.', { fallback: '' }),
}

export const tpmFields = {
  disabled: flag('A disabled TPM is refused everywhere.', { fallback: false }),
  disabled_aks: list(
    'Names of attestation keys of this TPM that are refused, hex. What the machine has is revoked; its other keys go on.',
  ),
  ended_aks: list('Those of them that were disabled when what the machine had was revoked. Written by the broker.'),
  labels: list('Labels, for people and for policies.'),
  ...certificateFields,
  revocation: text(
    'Whether its makers had current revocation lists when it enrolled: `checked`, `unknown` or `unchecked`. `revoked` when one of them has revoked it since.',
    { fallback: '' },
  ),
  approved_at: text('When an operator approved of it.', { fallback: '' }),
  approval_reason: text('Why, in the words of the operator.', { fallback: '' }),
  ak_names: list('Names of the enrolled attestation keys, hex.'),
  enrolled_at: text('When a key of this TPM was enrolled first.', { fallback: '' }),
}

export type AttestSettings = {
  readonly config: Collection<typeof configFields>
  readonly ca: Collection<typeof anchorFields>
  readonly crl: Collection<typeof listFields>
  readonly reference: References
  /** lists of files, which sets of reference values name */
  readonly ima: FileLists
  /** keys of those whose signed reference values are taken */
  readonly signer: Signers
  readonly role: Collection<typeof roleFields>
  readonly tpm: Collection<typeof tpmFields>
}

type Files = ReturnType<typeof openFileLists>
type FileLists = Omit<Files, 'write'> & {
  /** @param by entity of who writes */
  readonly write: (...given: [...Parameters<Files['write']>, by?: string]) => ReturnType<Files['write']>
}

/** `config` is a collection of one record with this name. */
const CONFIG = 'config'
export type AttestConfig = Values<typeof configFields>

/** A mount that was never configured is as the fields say. */
export async function configOf(settings: AttestSettings, mount: Mount): Promise<AttestConfig> {
  return (await settings.config.get(mount.id, CONFIG)) ?? parseFields(configFields, {}).values
}

export function openAttestSettings(store: Store): AttestSettings {
  const files = openFileLists(store)
  const reference = openReferences(store, async (mountId, name) => (await files.get(mountId, name)) !== undefined)
  // before, so that nothing is approved of that is not known; and after, as somebody may have approved of what was read meanwhile
  const changing = async <T>(mountId: string, name: string, by: string, change: () => Promise<T>): Promise<T> => {
    await reference.listChanges(mountId, name, by)
    const changed = await change()
    await reference.listChanges(mountId, name, by)
    return changed
  }
  const ima: FileLists = {
    ...files,
    write: (mountId, name, given, by = '') => changing(mountId, name, by, () => files.write(mountId, name, given)),
    delete: (mountId, name) => changing(mountId, name, '', () => files.delete(mountId, name)),
  }
  return {
    config: openCollection(store, CONFIG, configFields, { check: checkConfig }),
    ca: openCollection(openLargeStore(store), 'ca', anchorFields, { check: record => checkAnchors(record.certificate) }),
    crl: openCollection(openLargeStore(store), 'crl', listFields, { check: record => checkLists(record.crl) }),
    reference,
    ima,
    signer: openSigners(store),
    role: openCollection(store, 'role', roleFields, {
      check: (record, mountId) => checkReferences(reference, mountId, record.references),
    }),
    tpm: openCollection(store, 'tpm', tpmFields, { check: checkTpm }),
  }
}

function checkConfig(record: AttestConfig): void {
  if (record.challenge_ttl < 1 || record.challenge_ttl > 60)
    throw new BrokerError('bad_request', 'challenge_ttl: wanted 1 to 60 seconds')
  openEgress(record.webhook_networks)
  if (record.webhook_networks.some(isAmbiguous))
    throw new BrokerError('bad_request', 'webhook_networks: wanted addresses, and networks by their first address: 10.0.0.0/8')
  if (!record.denied_firmware.every(version => /^[0-9a-f]{16}$/i.test(version)))
    throw new BrokerError('bad_request', 'denied_firmware: wanted 16 hex digits each, as quotes say them')
  if (record.ek_types.length === 0) throw new BrokerError('bad_request', 'ek_types: wanted at least one kind')
  if (record.hierarchies.length === 0) throw new BrokerError('bad_request', 'hierarchies: wanted at least one')
}

/** Names are compared as they are written everywhere. */
function checkTpm({ disabled_aks }: Values<typeof tpmFields>): void {
  if (!disabled_aks.every(name => /^(?:[0-9a-f]{2}){34,66}$/.test(name)))
    throw new BrokerError('bad_request', 'disabled_aks: wanted names of attestation keys, in hex as `ak_names` has them')
}

async function checkReferences(reference: References, mountId: string, names: readonly string[]): Promise<void> {
  if (names.length === 0) throw new BrokerError('bad_request', 'references: wanted at least one set of reference values')
  for (const [index, name] of names.entries()) {
    if (!(await reference.get(mountId, name)))
      throw new BrokerError('bad_request', `references: there is no set of the name at place ${index + 1}: write it first`)
  }
}
