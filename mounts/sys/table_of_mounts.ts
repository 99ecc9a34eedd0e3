import type { VaultReply } from '#engine'
import type { HttpReply } from '../hosts/envelope.ts'

/** `sys/mounts` and `sys/auth` have their rows twice: in `data`, and at the top level for old clients. */
export function merged(reply: VaultReply | undefined, rows: Readonly<Record<string, unknown>>): HttpReply {
  return { status: 200, body: { ...reply, ...rows, data: { ...reply?.data, ...rows } } }
}

export async function undoing<T>(make: () => Promise<T>, undo: () => Promise<unknown>): Promise<T> {
  try {
    return await make()
  } catch (error) {
    await undo()
    throw error
  }
}
