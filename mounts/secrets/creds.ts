import {
  type Broker,
  BrokerError,
  duration,
  type Evidence,
  type Issued,
  list,
  map,
  required,
  Secret,
  sensitive,
  text,
  type Values,
} from '#engine'
import { keyFields, keyOf } from '../auth/key_fields.ts'
import { EVIDENCE_BODY, evidenceFields, thumbprintForm } from '../auth/login.ts'
import { type Path, path, type ReplyLease, type Request } from '../table.ts'

export const taskToken = sensitive(text('What an orchestrator signed of the task, for this agent.', { max: 8192 }))

export const askFields = {
  role: required(text('Role.', { max: 128 })),
  plugin: text('Plugin to act through; may be left out when the role serves one.', { max: 256 }),
  action: text('What to do; may be left out when the role serves one.', { max: 256 }),
  scope: list('Scope: no more than the task needs, within the ceiling of the role.', { max: 256 }),
  audience: text('Who will rely on it; the first of the role when left out.', { max: 2048 }),
  ttl: duration('Wanted life; the role, the token and an hour are its bounds.'),
}

const credsFields = {
  ...askFields,
  ...evidenceFields,
  ...keyFields,
  task_token: taskToken,
  parameters: map('What the provider has to know of the request, such as a public key to sign; the role says what counts.'),
  key_thumbprint: text('Key that the quote of this request binds, instead of the one bound at login.', { form: thumbprintForm }),
}

export const creds = (broker: Broker): Path => {
  const issue = {
    summary: 'Decide; issue a credential.',
    run: (request: Request<typeof credsFields>) => issued(broker, request),
  }
  return path({
    pattern: 'creds/:role',
    help: {
      synopsis: 'Ask for a credential.',
      description:
        'Issues a credential that is scoped to the task, lives for minutes and, where a key is bound, works only with it. The role is the ceiling, the policy decides within it. A role with attestation=request wants a quote over a challenge for this very request.',
    },
    identify: true,
    audits: 'itself',
    bodyBytes: EVIDENCE_BODY,
    fields: credsFields,
    operations: { read: issue, update: issue },
  })
}

type Answer = { readonly data: object; readonly warnings: readonly string[]; readonly lease: ReplyLease | undefined }

async function issued(broker: Broker, { mount, values, identified, caller, txn }: Request<typeof credsFields>): Promise<Answer> {
  const { key_thumbprint: keyThumbprint, task_token: taskToken, parameters } = values
  const token = present(caller.token)
  const request = { ...asked(values), evidence: evidenceOf(values), keyThumbprint, taskToken, parameters, token }
  return answerOf(await broker.issue.issue(mount, present(identified), request, txn))
}

/** For agents whose role wants signs of life between their requests. */
export const heartbeat = (broker: Broker): Path =>
  path({
    pattern: 'creds/:role/heartbeat',
    help: {
      synopsis: 'Show that the work goes on.',
      description:
        'A role with `heartbeat` ends the work of an agent that is silent for longer: it gets nothing more, and its leases end.',
    },
    identify: true,
    fields: { role: askFields.role, task_token: taskToken },
    operations: {
      update: {
        summary: 'Give a sign of life.',
        run: async ({ mount, values: { role, task_token: taskToken }, identified, caller, txn }) => {
          const nothing = { plugin: undefined, action: undefined, scope: [], audience: undefined, ttlSeconds: undefined }
          const request = {
            ...nothing,
            role,
            evidence: undefined,
            keyThumbprint: undefined,
            parameters: {},
            taskToken,
            token: present(caller.token),
          }
          const { leftSeconds, beatWithinSeconds } = await broker.issue.beat(mount, present(identified), request, txn)
          return { data: { left: finite(leftSeconds), beat_within: finite(beatWithinSeconds) } }
        },
      },
    },
  })

/** Seconds; null for without limit. */
const finite = (seconds: number) => (Number.isFinite(seconds) ? seconds : null)

/** What the agent hears of a credential. */
export function answerOf({ credential, grant, warnings, renewableUntil, beatWithinSeconds }: Issued): Answer {
  const livesSeconds = credential.expiresAt - grant.issuedAt
  const data = {
    ...Object.fromEntries(Object.entries(credential.fields).map(([name, value]) => [name, shown(value)])),
    ...(credential.tokenType === undefined ? {} : { token_type: credential.tokenType }),
    expires_in: credential.selfContained ? livesSeconds : (credential.lease?.durationSeconds ?? livesSeconds),
    expires_at: new Date(credential.expiresAt * 1000).toISOString(),
    renew_at: new Date((grant.issuedAt + (livesSeconds * 2) / 3) * 1000).toISOString(),
    ...(renewableUntil === undefined ? {} : { renewable_until: new Date(renewableUntil * 1000).toISOString() }),
    ...(Number.isFinite(beatWithinSeconds) ? { beat_within: beatWithinSeconds } : {}),
    scope: grant.scope.join(' '),
    plugin: grant.plugin,
    action: grant.action,
    audience: grant.audience,
    ...(credential.kid === undefined ? {} : { kid: credential.kid }),
    jti: grant.jti,
    txn: grant.txn,
  }
  return { data, warnings, lease: credential.lease }
}

/** The one place where a secret leaves towards the agent. */
function shown(value: Secret | string | number): string | number {
  return value instanceof Secret ? value.reveal() : value
}

export function asked({ role, plugin, action, scope, audience, ttl }: Values<typeof askFields>) {
  return { role, plugin, action, scope, audience, ttlSeconds: ttl }
}

/** All of the quote or none of it; logs and keys come with a quote only. */
function evidenceOf({
  challenge,
  attest,
  signature,
  pcrs,
  event_log: eventLog,
  ima_log: imaList,
  boot_id: bootId,
  ...rest
}: Values<typeof evidenceFields & typeof keyFields>): Evidence | undefined {
  const key = keyOf(rest)
  if (challenge && attest && signature && pcrs !== undefined)
    return { challenge, attest, signature, pcrs, eventLog, imaList, bootId, key }
  if (challenge || attest || signature || pcrs !== undefined || eventLog || imaList || key.certified || key.certificate) {
    throw new BrokerError('bad_request', 'a quote is challenge, attest, signature and pcrs: wanted all of them or none')
  }
  return undefined
}

/** What is there because the row asks who the token belongs to. */
export function present<T>(asker: T | undefined): T {
  if (asker === undefined) throw new Error('the row asks who the token belongs to')
  return asker
}
