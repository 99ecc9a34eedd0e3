import { type Broker, BrokerError, required, sensitive, text } from '#engine'
import { type Path, path, type Request } from '../table.ts'
import { answerOf, asked, askFields, present, taskToken } from './creds.ts'

const wishFields = { ...askFields, task_token: taskToken }

const handleFields = {
  role: required(text('Role.', { max: 128 })),
  handle: required(text('What the request was answered with.', { max: 512 })),
  task_token: sensitive(text('What an orchestrator signed of the task that the person was asked in.', { max: 8192 })),
}

/** `consent/:role` and `consent/:role/poll`: for roles whose integration works in the name of people. */
export const consent = (broker: Broker): readonly Path[] => [
  path({
    pattern: 'consent/:role',
    help: {
      synopsis: 'Ask a person to consent.',
      description:
        'Decides as creds/:role would, and gives an address for a person to open in a browser, where they see who asks for what and sign in at the provider. Show them the address and the code, then ask consent/:role/poll.',
    },
    identify: true,
    audits: 'itself',
    fields: wishFields,
    operations: { update: { summary: 'Ask for the consent of a person.', run: request => begun(broker, request) } },
  }),
  path({
    pattern: 'consent/:role/poll',
    help: {
      synopsis: 'See what the person decided.',
      description:
        'Answers status=pending until somebody decided, refuses when they denied, and otherwise answers as creds/:role does, once. After that creds/:role needs no person until the consent ends.',
    },
    identify: true,
    audits: 'itself',
    fields: handleFields,
    operations: { update: { summary: 'See what was decided; get the credential.', run: request => polled(broker, request) } },
  }),
  path({
    pattern: 'consents/:integration',
    help: { synopsis: 'List consents.', description: 'Ids of the consents that people gave for an integration.' },
    fields: { integration: required(text('Integration.', { max: 128 })) },
    operations: {
      list: {
        summary: 'List the ids of consents.',
        run: async ({ mount, values }) => ({
          data: { keys: await broker.issue.consent.grants.list(mount.id, values.integration) },
        }),
      },
    },
  }),
  path({
    pattern: 'consents/:integration/:id',
    help: {
      synopsis: 'Look at a consent, or end it.',
      description: 'What was consented to, by whom; deleting it makes the machine ask again.',
    },
    fields: {
      integration: required(text('Integration.', { max: 128 })),
      id: required(text('Id, as the list has it.', { max: 64 })),
    },
    operations: {
      read: {
        summary: 'Read a consent.',
        run: async ({ mount, values }) => {
          const grant = await broker.issue.consent.grants.read(mount.id, values.integration, values.id)
          if (!grant) throw new BrokerError('not_found', '')
          const { tpmId, grantedAt, expiresAt, task, ...rest } = grant
          const at = (ms: number) => new Date(ms).toISOString()
          const within = { org: task?.org ?? '', user: task?.user ?? '' }
          return { data: { tpm_id: tpmId, ...rest, ...within, granted_at: at(grantedAt), expires_at: at(expiresAt) } }
        },
      },
      delete: {
        summary: 'End a consent.',
        run: async ({ mount, values }) => {
          await broker.issue.consent.grants.delete(mount.id, values.integration, values.id)
          return undefined
        },
      },
    },
  }),
]

const POLL_SECONDS = 2

async function begun(broker: Broker, { mount, values, identified, caller, txn }: Request<typeof wishFields>) {
  const nothing = { evidence: undefined, keyThumbprint: undefined, parameters: {} }
  const request = { ...asked(values), ...nothing, taskToken: values.task_token, token: present(caller.token) }
  const { url, handle, userCode, expiresIn } = await broker.issue.consenting.ask(mount, present(identified), request, txn)
  return { data: { url, user_code: userCode, handle, expires_in: expiresIn, interval: POLL_SECONDS } }
}

async function polled(broker: Broker, { mount, values, identified, caller, txn }: Request<typeof handleFields>) {
  const { role, handle, task_token } = values
  const handed = { handle, taskToken: task_token }
  const issued = await broker.issue.consenting.poll(mount, present(identified), role, handed, present(caller.token), txn)
  return issued ? answerOf(issued) : { data: { status: 'pending', interval: POLL_SECONDS } }
}
