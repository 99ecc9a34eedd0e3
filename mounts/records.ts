import {
  BrokerError,
  type Caller,
  type Collection,
  type Field,
  type Fields,
  type Mount,
  optional,
  required,
  text,
  type Values,
} from '#engine'
import { type Path, path, type Reply } from './table.ts'

type Words = { readonly one: string; readonly many: string; readonly description: string }
type Hooks<F extends Fields> = {
  /** what a read shows, when it is not the record itself */
  readonly show?: (record: Values<F>, mount: Mount, name: string) => Promise<object> | object
  /** in place of storing what is given */
  readonly write?: (asked: Written<F>) => Promise<Reply>
  /** after a write or delete */
  readonly changed?: (mount: Mount, name: string) => Promise<void> | void
  /** what is worth a warning of what was written */
  readonly remarks?: (mount: Mount, name: string) => Promise<readonly string[]>
  /** how large the body of a write may be that is larger than others */
  readonly bodyBytes?: number
}
type Written<F extends Fields> = {
  readonly mount: Mount
  readonly name: string
  readonly given: Partial<Values<F>>
  readonly caller: Caller
}

/** The two rows of a collection of named records, `role` and `role/:name`: list, read, write, delete. */
export function collection<F extends Fields>(
  segment: string,
  records: Collection<F>,
  words: Words,
  hooks: Hooks<F> = {},
): readonly Path[] {
  const named: { name: Field<string> } = { name: required(text(`Name of the ${words.one}.`, { max: 128 })) }
  // a write may give some only: what has to be there is checked on the whole record
  const fields = { ...optional(records.fields), ...named }
  return [
    path({
      pattern: segment,
      help: { synopsis: `List the ${words.many}.`, description: words.description },
      fields: {},
      operations: {
        list: {
          summary: `List the names of the ${words.many}.`,
          run: async ({ mount }) => ({ data: { keys: await records.list(mount.id) } }),
        },
      },
    }),
    path({
      pattern: `${segment}/:name`,
      help: { synopsis: `Manage one ${words.one}.`, description: words.description },
      fields,
      ...(hooks.bodyBytes && { bodyBytes: hooks.bodyBytes }),
      exists: async ({ mount, values }) => (await records.fresh(mount.id, nameIn(values))) !== undefined,
      operations: {
        read: { summary: `Read the ${words.one}.`, run: ({ mount, values }) => show(records, hooks, mount, nameIn(values)) },
        update: {
          summary: `Write the ${words.one}: what is given replaces what is there.`,
          run: ({ mount, values, given, caller }) => {
            const { name: _, ...fields } = given
            return write(records, hooks, { mount, name: nameIn(values), given: fields as Partial<Values<F>>, caller })
          },
        },
        delete: {
          summary: `Delete the ${words.one}.`,
          run: async ({ mount, values }) => {
            await records.delete(mount.id, nameIn(values))
            await hooks.changed?.(mount, nameIn(values))
            return undefined
          },
        },
      },
    }),
  ]
}

/** The row of a collection that has one record, such as `config`. */
export function single<F extends Fields>(
  segment: string,
  records: Collection<F>,
  words: Omit<Words, 'many'>,
  read: (mount: Mount) => Promise<object>,
  hooks: Hooks<F>,
): Path {
  return path({
    pattern: segment,
    help: { synopsis: `Manage the ${words.one}.`, description: words.description },
    fields: optional(records.fields),
    operations: {
      read: { summary: `Read the ${words.one}.`, run: async ({ mount }) => ({ data: await read(mount) }) },
      update: {
        summary: `Write the ${words.one}: what is given replaces what is there.`,
        run: ({ mount, given, caller }) =>
          write(records, hooks, { mount, name: segment, given: given as Partial<Values<F>>, caller }),
      },
    },
  })
}

function nameIn(values: object): string {
  return (values as { name: string }).name
}

async function write<F extends Fields>(records: Collection<F>, hooks: Hooks<F>, asked: Written<F>): Promise<Reply> {
  const { mount, name, given } = asked
  let reply: Reply
  if (hooks.write) reply = await hooks.write(asked)
  else await records.write(mount.id, name, given)
  await hooks.changed?.(mount, name)
  const warnings = (await hooks.remarks?.(mount, name)) ?? []
  return warnings.length > 0 ? { data: {}, warnings } : reply
}

async function show<F extends Fields>(records: Collection<F>, hooks: Hooks<F>, mount: Mount, name: string): Promise<Reply> {
  const record = await records.get(mount.id, name)
  if (!record) throw new BrokerError('not_found', '')
  return { data: (await hooks.show?.(record, mount, name)) ?? record }
}
