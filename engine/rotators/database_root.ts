import { required, text } from '../fields.ts'
import { rotator } from './rotator.ts'

/** The root password of a database behind Vault's database engine. Vault makes it, sets it, proves it with a connection and keeps it: it is never
 *  here, and a rotation that fails in between is rolled back by Vault (its write-ahead log). Roles of type `vault` go on without noticing. */
export const databaseRoot = rotator({
  summary: "The root password of a database behind Vault's database engine; Vault makes, proves and keeps it.",
  type: 'vault_database',
  integration: {
    settings: {
      path: required(
        text('What is written at Vault: `MOUNT/rotate-root/CONNECTION`.', {
          max: 256,
          form: [
            /^(?!.*\/\.\.?(?:\/|$))[A-Za-z0-9][A-Za-z0-9._/-]*\/rotate-root\/[A-Za-z0-9._-]+$/,
            'MOUNT/rotate-root/CONNECTION',
          ],
        }),
      ),
    },
    secrets: {},
  },
  settings: {},
  serves: () => true,
  make: async (_root, ports) => {
    await ports.vaultWrite(String(ports.settings['path']))
    return { secrets: {}, handle: {} }
  },
})
