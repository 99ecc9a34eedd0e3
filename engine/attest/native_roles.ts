import type { Mount } from '../mount_table.ts'
import type { Caller } from '../vault/authority.ts'
import { absent, type Vault } from '../vault/client.ts'
import { nativeRole } from './login.ts'

/** The `jwt` role behind one of ours, with the operator's own token. */
export type NativeRoles = {
  readonly readNativeRole: (mount: Mount, name: string, caller: Caller) => Promise<object>
  readonly writeNativeRole: (mount: Mount, name: string, token: object, caller: Caller) => Promise<void>
  readonly deleteNativeRole: (mount: Mount, name: string, caller: Caller) => Promise<void>
}

export function openNativeRoles(vault: Vault): NativeRoles {
  return {
    readNativeRole: async (mount, name, { token }) =>
      (await absent(vault.read(rolePath(mount, name), { as: token })))?.data ?? {},
    writeNativeRole: async (mount, name, token, caller) =>
      void (await vault.write(rolePath(mount, name), { ...token, ...nativeRole(mount, name) }, { as: caller.token })),
    deleteNativeRole: (mount, name, { token }) => vault.delete(rolePath(mount, name), { as: token }),
  }
}

const rolePath = (mount: Mount, name: string) => `${mount.path}role/${name}`
