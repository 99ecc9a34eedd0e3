import { type Broker, duration, flag, integer, list, required, text } from '#engine'
import { type Path, path } from '../table.ts'
import { asked, askFields } from './creds.ts'

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
