import {
  type Broker,
  BrokerError,
  duration,
  type Evidence,
  flag,
  type Issued,
  integer,
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

export function present<T>(asker: T | undefined): T {
  if (asker === undefined) throw new Error('the row asks who the token belongs to')
  return asker
}

export const simulate = (broker: Broker): Path =>
  path({
    pattern: 'simulate',
    help: {
      synopsis: 'See what would be decided, and why.',
      description:
        'Decides as creds/:role would for the agent that is described. Nothing is issued, and no token of the agent is needed.',
    },
    fields: {
      ...askFields,
      tpm_id: required(text('Id of the TPM.', { max: 128 })),
      login_mount: text('Auth mount that the agent logged in at.', { fallback: 'auth/tpm-quote/', max: 512 }),
      login_role: required(text('Role that the agent logged in with.', { max: 128 })),
      entity_id: text('Identity entity in Vault of its tokens: bindings, integrations of agents and policies go by it.', {
        fallback: '',
        max: 128,
      }),
      fresh: text('Whether the request brings a quote of its own.', { fallback: 'false', choices: ['true', 'false'] }),
      key_bound: text('Whether a key is bound.', { fallback: 'true', choices: ['true', 'false'] }),
      reference: text('Set of reference values that the machine met, as its token and policies name it.', {
        fallback: '',
        max: 128,
      }),
      reference_version: integer('Version of that set.', { fallback: 0 }),
      secure_boot: flag('Whether its log of the boot said that secure boot was on.', { fallback: false }),
      boot_log: flag('Whether it brought a log of the boot.', { fallback: false }),
      ima: flag('Whether it brought a list of IMA.', { fallback: false }),
      firmware_version: text('Version of the firmware of the TPM, as policies have it.', { fallback: '', max: 128 }),
      attestation_age: duration('How long ago its quote was made.', { fallback: 0 }),
      org: text('Organisation of the task.', { fallback: '', max: 256 }),
      task: text('The task.', { fallback: '', max: 256 }),
      session: text('Its session.', { fallback: '', max: 256 }),
      user: text('The user for whom.', { fallback: '', max: 256 }),
      integrations: list('Integrations that the task token narrows it to; none in particular when empty.', { max: 128 }),
    },
    operations: {
      update: {
        summary: 'Decide for the agent that is described.',
        run: async ({ mount, values }) => {
          const integrations = values.integrations.length > 0 ? values.integrations : undefined
          const agent = {
            tpmId: values.tpm_id,
            mount: values.login_mount,
            role: values.login_role,
            entityId: values.entity_id,
            fresh: values.fresh === 'true',
            keyBound: values.key_bound === 'true',
            firmwareVersion: values.firmware_version,
            state: {
              reference: values.reference,
              referenceVersion: values.reference_version,
              secureBoot: values.secure_boot,
              bootLog: values.boot_log,
              ima: values.ima,
            },
            attestationAgeSeconds: values.attestation_age,
            task: { org: values.org, task: values.task, session: values.session, user: values.user, integrations },
          }
          return { data: await broker.issue.simulate(mount, values.role, agent, asked(values)) }
        },
      },
    },
  })
