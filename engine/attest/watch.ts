import type { Mount } from '../mount_table.ts'
import type { World } from '../world.ts'

/** Looks at machines that enrolled long ago, when something that speaks against them may have changed: one mount after the other, in the background. */
export type Watch = { readonly begin: (mount: Mount) => void; readonly stop: () => Promise<void> }

type WatchPorts = {
  readonly looks: readonly ((mount: Mount) => Promise<void>)[]
  readonly mounts: () => readonly Mount[]
  readonly world: Pick<World, 'log'>
}

/** What another replica was told, or did not finish, is found after this time. */
const EVERY_MS = 600_000

export function openWatch({ looks, mounts, world }: WatchPorts): Watch {
  let last = Promise.resolve()
  const begin = (mount: Mount) => {
    for (const look of looks)
      last = last
        .then(() => look(mount))
        .catch((error: unknown) => {
          world.log.warn({ error, mount: mount.path }, 'the enrolled machines of a mount could not be looked at: trying again')
        })
  }
  const timer = setInterval(() => mounts().forEach(begin), EVERY_MS).unref()
  return {
    begin,
    stop: async () => {
      clearInterval(timer)
      await last
    },
  }
}
