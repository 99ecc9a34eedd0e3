import { type Broker, required, text } from '#engine'
import { type Path, path } from '../table.ts'

export const auditHash = ({ audit }: Broker): Path =>
  path({
    pattern: 'audit-hash',
    help: {
      synopsis: 'Hash a value as the audit log has it.',
      description:
        'The audit logs of the front doors hold accessors, and what agents sent, as a keyed hash. With that of an accessor what its token did is found there.',
    },
    fields: { input: required(text('The value, such as the accessor of a token.', { max: 8192 })) },
    operations: {
      update: { summary: 'Hash it.', run: async ({ values: { input } }) => ({ data: { hash: audit.hash(input) } }) },
    },
  })
