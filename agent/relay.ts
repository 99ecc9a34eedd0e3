import type { EventEmitter } from 'node:events'

/** Keeps signals from ending this process, and hands them on; those that come before there is anyone to hand them to are kept. Disposing of it stops it. */
export type Relay = Disposable & { to(send: (signal: NodeJS.Signals) => void): void }

const KEYBOARD = ['SIGINT', 'SIGQUIT'] as const
const OTHERS = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const

/**
 * @param signals what signals arrive at: `process`
 * @param terminal whether the keyboard's signals reach a command by themselves: they go to all of a terminal's foreground group
 */
export function relaySignals(signals: EventEmitter, terminal: boolean): Relay {
  const kept: NodeJS.Signals[] = []
  let send: (signal: NodeJS.Signals) => void = signal => kept.push(signal)
  const pass = (signal: NodeJS.Signals) => send(signal)
  const leave = () => {}
  const listeners = [
    ...OTHERS.map(name => [name, pass] as const),
    ...KEYBOARD.map(name => [name, terminal ? leave : pass] as const),
  ]
  for (const [name, listener] of listeners) signals.on(name, listener)
  return {
    to: next => {
      send = next
      for (const signal of kept.splice(0)) next(signal)
    },
    [Symbol.dispose]: () => {
      for (const [name, listener] of listeners) signals.off(name, listener)
    },
  }
}
