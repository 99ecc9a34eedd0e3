import { readFile } from 'node:fs/promises'
import { type BoundRequest, type Hash, hashes, PCRS, parseQuote, qualifyingData } from '#attestation'
import type { Attester } from './attester.ts'
import { AgentError } from './exits.ts'
import { type LogKind, type Logs, logKinds, logsFrom } from './logs.ts'
import { bytes, dataOf, member, objectOf, text, unexpected } from './replies.ts'
import { authPath, base64, type Service } from './service.ts'
import type { Selection } from './tpm/commands.ts'

/** A key that this program holds itself, and its certificate in DER. */
export type HeldKey = { readonly thumbprint: string; readonly certificate: Buffer }

type Question = {
  /** what the quote will be bound to */
  readonly context: Omit<BoundRequest, 'akName' | 'keyThumbprint'>
  /** the same in the words of the challenge endpoint */
  readonly asked: object
  readonly bound: { readonly key_thumbprint?: string }
  readonly certificate: Buffer | undefined
  readonly held: HeldKey | undefined
  readonly logs: Logs | undefined
}

/** Takes a challenge for exactly this request and quotes it. */
export async function answer(
  { client, mounts }: Service,
  attester: Attester,
  { context, asked, bound, certificate, held, logs }: Question,
) {
  const ak = await attester.attestationKey()
  const ak_name = ak.name.toString('hex')
  const question = { ...asked, ...bound, operation: context.operation, ak_name }
  const challenge = dataOf(await client.post(`${authPath(mounts)}/challenge`, question))
  const data = qualifyingData(bytes(challenge, 'nonce'), {
    ...context,
    akName: ak.name,
    keyThumbprint: bound.key_thumbprint ?? '',
  })
  const { attest, signature, pcrs } = await attester.quote(selectionOf(challenge), data)
  const key = held ? { key_certificate: base64(held.certificate) } : await keyProof(attester, data, bound, certificate)
  const wanted = await wantedLogs(challenge, logs)
  return {
    ak_name,
    challenge: text(challenge, 'challenge'),
    attest: base64(attest),
    signature: base64(signature),
    pcrs,
    ...key,
    ...wanted,
    ...(await bootOfSystem()),
  }
}

/** A refused login tells no reason, but one is known here: a TPM that lost its power without being shut down says so of its clock for a while.
 *  @param attest TPMS_ATTEST, base64 */
export function withClock(error: unknown, attest: string): unknown {
  const quoted = parseQuote(Buffer.from(attest, 'base64'))
  if (!(error instanceof AgentError && error.exit === 'refused' && quoted.ok) || quoted.value.safe) return error
  return new AgentError('refused', `${error.message}; ${UNSAFE}`, { cause: error })
}

const UNSAFE =
  'it may be that the TPM was not shut down before this start, and so does not trust its clock yet: then try again later'

/** What Linux calls this start of the system: beside a TPM that was reset it tells whether the machine was restarted with it. */
async function bootOfSystem(): Promise<{ boot_id?: string }> {
  const text = await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')
  return text === '' ? {} : { boot_id: text.trim() }
}

/** What the TPM says of the key to bind, when one is. */
async function keyProof(
  attester: Attester,
  qualifyingData: Buffer,
  bound: Question['bound'],
  certificate: Buffer | undefined,
): Promise<object> {
  if (bound.key_thumbprint === undefined) return {}
  const { public: area, attest, signature, parent } = await attester.certify(qualifyingData)
  return {
    key_public: base64(area),
    key_attest: base64(attest),
    key_signature: base64(signature),
    ...(parent && { key_parent: base64(parent) }),
    ...(certificate && { key_certificate: base64(certificate) }),
  }
}

/** What explains the quoted values, when the service asks for it; a service that does not say so wants none. */
async function wantedLogs(challenge: object, logs: Logs = logsFrom({})): Promise<Record<string, string>> {
  const kinds: unknown = member(challenge, 'logs') ?? []
  if (!Array.isArray(kinds) || !kinds.every(isLogKind)) return unexpected('logs')
  const read = await Promise.all(kinds.map(async kind => [logKinds[kind].field, base64(await logs(kind))] as const))
  return Object.fromEntries(read)
}

function isLogKind(kind: unknown): kind is LogKind {
  return typeof kind === 'string' && Object.hasOwn(logKinds, kind)
}

/** The key that a request asks to bind: the program's own, or the TPM's, or none. */
export async function boundTo(
  attester: Attester,
  { bind, held }: { readonly bind: boolean; readonly held?: HeldKey },
): Promise<Question['bound']> {
  if (held) return { key_thumbprint: held.thumbprint }
  return bind ? { key_thumbprint: (await attester.boundKey()).thumbprint } : {}
}

/** The PCRs that the challenge names: `{"sha256": [0, 1, 7]}`. */
function selectionOf(challenge: object): Selection {
  const banks = Object.entries(objectOf(member(challenge, 'pcrs'), 'pcrs'))
  const fine = banks.length > 0 && banks.every(([bank, pcrs]) => Object.hasOwn(hashes, bank) && isPcrList(pcrs))
  return fine ? (Object.fromEntries(banks) as Partial<Record<Hash, number[]>>) : unexpected('pcrs')
}

function isPcrList(value: unknown): boolean {
  return Array.isArray(value) && value.length > 0 && value.every(pcr => Number.isInteger(pcr) && pcr >= 0 && pcr < PCRS)
}
