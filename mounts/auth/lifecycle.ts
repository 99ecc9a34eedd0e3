import { type Broker, BrokerError, flag, type Mount, required, text } from '#engine'
import { collection } from '../records.ts'
import { type Path, path } from '../table.ts'

const tpmId = required(text('Id of the TPM.', { max: 128 }))
const why = required(text('Why, for whoever looks at it later. Subscribers are told.', { max: 512 }))

export const clear = (broker: Broker): Path =>
  path({
    pattern: 'tpm/:id/clear',
    help: {
      synopsis: 'Let a machine that failed back in.',
      description:
        'A machine that failed its attestation gets nothing until this is written, however good its next quotes are. Find out why it failed first: `tpm/:id` says with which code, and when.',
    },
    fields: { id: tpmId, reason: why },
    operations: {
      update: {
        summary: 'Clear the failure.',
        run: async ({ mount, values }) => {
          await known(broker, mount, values.id)
          await broker.attest.lifecycle.clear(mount, values.id, values.reason)
          return undefined
        },
      },
    },
  })

export const reattest = (broker: Broker): Path =>
  path({
    pattern: 'tpm/:id/reattest',
    help: {
      synopsis: 'Have a machine attest itself anew.',
      description:
        'What the machine proved so far counts no longer: it gets credentials again after a new login, or with a quote in the request. With `revoke` its tokens and leases are revoked at once.',
    },
    fields: { id: tpmId, reason: why, revoke: flag('Revoke what the machine has, at once.', { fallback: false }) },
    operations: {
      update: {
        summary: 'Ask for a new attestation.',
        run: async ({ mount, values }) => {
          await known(broker, mount, values.id)
          await broker.attest.lifecycle.reattest(mount, values.id, values.reason, values.revoke)
          return undefined
        },
      },
    },
  })

async function known(broker: Broker, mount: Mount, id: string): Promise<void> {
  if (!(await broker.attest.settings.tpm.get(mount.id, id)))
    throw new BrokerError('bad_request', 'id: no TPM of this id is known at this mount')
}

export const webhook = ({ attest: { lifecycle } }: Broker): readonly Path[] =>
  collection(
    'webhook',
    lifecycle.webhooks,
    {
      one: 'webhook',
      many: 'webhooks',
      description:
        'Who is told what happens to machines: security event tokens (RFC 8417, CAEP) are pushed (RFC 8935) to each, at least once and in order for each machine, for a day. They are verified with .well-known/jwks.json of this mount.',
    },
    { changed: mount => lifecycle.courier.open(mount) },
  )

export const jwks = ({ attest: { lifecycle } }: Broker): Path =>
  path({
    pattern: '.well-known/jwks.json',
    help: { synopsis: 'JSON Web Key Set.', description: 'Public keys that verify the security events of this mount (RFC 7517).' },
    unauthenticated: true,
    audits: 'itself',
    fields: {},
    operations: {
      read: { summary: 'Read the key set.', run: async ({ mount }) => ({ bare: await lifecycle.courier.jwks(mount) }) },
    },
  })

/** What an operator reads of a machine beside its record. */
export async function standingOf({ attest: { lifecycle } }: Broker, mount: Mount, id: string): Promise<object> {
  const { latch, epoch, boots, incidents } = await lifecycle.standing(mount, id)
  return {
    state: latch ? 'failed' : 'ok',
    failure: latch ?? null,
    epoch,
    boots: Object.values(boots).map(({ resetCount, restartCount }) => ({ reset_count: resetCount, restart_count: restartCount })),
    pending: incidents.map(({ reason, ended }) => ({ reason, revoked: ended })),
  }
}

/** A machine that was disabled or whose record was deleted loses what it has. */
export async function tpmChanged({ attest: { lifecycle, settings } }: Broker, mount: Mount, id: string): Promise<void> {
  const record = await settings.tpm.fresh(mount.id, id)
  if (!record) await lifecycle.end(mount, id, 'deleted')
  else if (record.disabled) await lifecycle.end(mount, id, 'disabled')
}
