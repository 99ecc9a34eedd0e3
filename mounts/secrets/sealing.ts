import { type Broker, BrokerError, flag, text } from '#engine'
import { type Path, path } from '../table.ts'

export const revokeSealed = ({ revocations }: Broker): Path =>
  path({
    pattern: 'sealing/revoke',
    help: {
      synopsis: 'End sealed tokens before their time.',
      description:
        'Ends one sealed token by its id (jti), all that an agent has, on every mount, or all that this mount has given out. Proxies heed it within seconds.',
    },
    fields: {
      jti: text('Id of the token, as the reply and the audit log have it.', { max: 128 }),
      tpm_id: text('Id of the TPM whose tokens end.', { max: 128 }),
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
