import type { VaultReply } from '#engine'

/** `sys/mounts` and `sys/auth` have their rows twice: in `data`, and at the top level for old clients. */
export function merged(reply: VaultReply, rows: Readonly<Record<string, unknown>>): object {
  return { ...reply, ...rows, data: { ...reply.data, ...rows } }
}

/** What failed is told, whether it could be undone or not. */
export async function undoing<T>(make: () => Promise<T>, undo: () => Promise<unknown>): Promise<T> {
  try {
    return await make()
  } catch (error) {
    await undo().catch(() => undefined)
    throw error
  }
}
