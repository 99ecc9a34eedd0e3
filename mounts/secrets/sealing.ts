import { type Broker, BrokerError, flag, text } from '#engine'
import { type Path, path } from '../table.ts'

/** A misspelt id would end nothing, and nobody would say so. */
const JTI = [/^[A-Za-z0-9_-]{22}$/, 'the id of a token, 22 characters'] as const
const MACHINE = [/^(?:sha256-[0-9a-f]{64}|(?!sha256).+)$/, 'the id of a TPM: sha256- and 64 hex digits'] as const

export const revokeSealed = ({ revocations }: Broker): Path =>
  path({
    pattern: 'sealing/revoke',
    help: {
      synopsis: 'End sealed tokens before their time.',
      description:
        'Ends one sealed token by its id (jti), all that an agent has, on every mount, or all that this mount has given out. Proxies heed it within seconds.',
    },
    fields: {
      jti: text('Id of the token, as the reply and the audit log have it.', { form: JTI }),
      tpm_id: text('Id of the TPM whose tokens end.', { max: 128, form: MACHINE }),
      all: flag('Whether all tokens of the mount end.', { fallback: false }),
    },
    operations: {
      update: {
        summary: 'End them.',
        run: async ({ mount, values: { jti, tpm_id: agent, all } }) => {
          if (Number(jti !== undefined) + Number(agent !== undefined) + Number(all) !== 1)
            throw new BrokerError('bad_request', 'wanted one of jti, tpm_id and all')
          if (jti !== undefined) await revocations.deny(jti)
          else await revocations.raise(agent === undefined ? { tenant: mount.id } : { agent })
          return undefined
        },
      },
    },
  })
