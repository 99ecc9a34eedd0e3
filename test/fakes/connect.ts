import { type Arrived, type JsonServer, type Said, startJsonServer } from './json_server.ts'

type Field = { id: string; label: string; type: string; value?: string; purpose?: string }
type Item = { version: number; state?: string; fields: Field[] }

/** A 1Password Connect server, written by hand after what its published OpenAPI document says of how an item is read and patched. */
export type Connect = JsonServer & { readonly token: string; readonly vault: string; readonly items: Map<string, Item> }

export async function startConnect(token = 'canary-connect-token'): Promise<Connect> {
  const server = await startJsonServer(arrived => answer(connect, arrived))
  const parts = { token, vault: 'v'.repeat(26), items: new Map<string, Item>() }
  const connect: Connect = Object.assign(server, parts)
  return connect
}

function answer(connect: Connect, { method, path, headers, body }: Arrived): Said {
  if (headers.authorization !== `Bearer ${connect.token}`)
    return { status: 401, body: { status: 401, message: 'Invalid token signature' } }
  const [, vault, id = ''] = /^\/v1\/vaults\/([0-9a-z]{26})\/items\/([0-9a-z]{26})$/.exec(path) ?? []
  const item = vault === connect.vault ? connect.items.get(id) : undefined
  if (!item) return { status: 404, body: { status: 404, message: 'item not found' } }
  if (method === 'PATCH') patch(item, JSON.parse(body) as Change[])
  return { status: 200, body: shown(connect, id, item) }
}

type Change = { op: string; path: string; value: unknown }

function patch(item: Item, changes: readonly Change[]): void {
  for (const { op, path, value } of changes) {
    const [, , id] = path.split('/')
    const field = item.fields.find(one => one.id === id)
    if (op === 'replace' && field) field.value = String(value)
    else if (op === 'add' && path === '/fields')
      item.fields.push({ id: `new-${item.fields.length}`, ...(value as Omit<Field, 'id'>) })
    else throw new Error(`a change that Connect does not take: ${op} ${path}`)
  }
  item.version += 1
}

function shown({ vault }: Connect, id: string, { version, state, fields }: Item): object {
  return {
    id,
    title: 'an item',
    category: 'API_CREDENTIAL',
    vault: { id: vault },
    version,
    ...(state === undefined ? {} : { state }),
    fields,
    createdAt: '2026-06-01T00:00:00Z',
  }
}
