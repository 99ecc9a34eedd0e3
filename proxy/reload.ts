import type { Log } from '#engine'

export type ReloadPorts<Services> = {
  readonly read: () => Promise<Services>
  readonly takeOver: (services: Services) => Promise<void>
  readonly log: Pick<Log, 'info' | 'error'>
}

/** Reads and takes over, one time after the other: a signal and a change of the file may come together, and what was read first must not be what is served last. */
export function openReload<Services>({ read, takeOver, log }: ReloadPorts<Services>): () => Promise<void> {
  let turn: Promise<void> = Promise.resolve()
  const anew = () =>
    read()
      .then(takeOver)
      .then(() => log.info('the services were taken over anew'))
      .catch((error: unknown) => log.error({ error }, 'the configuration was not taken over: what was served is still served'))
  return () => {
    turn = turn.then(anew)
    return turn
  }
}
