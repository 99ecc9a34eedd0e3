import { randomBytes } from 'node:crypto'
import { openLog } from '../../engine/log.ts'
import type { Time } from '../../engine/time.ts'
import type { World } from '../../engine/world.ts'

/** A world whose clocks stand still until a test moves them, and whose log is kept. */
export type TestWorld = World & {
  /** Moves both clocks. */
  readonly pass: (ms: number) => void
  /** Moves the wall clock alone, as an operator or NTP does. */
  readonly step: (ms: number) => void
  readonly lines: readonly string[]
}

export function testWorld({ start = Date.parse('2026-06-01T00:00:00Z') } = {}): TestWorld {
  let wall = start
  let monotonic = 1000
  const lines: string[] = []
  return {
    now: () => wall,
    monotonic: () => monotonic,
    random: randomBytes,
    log: openLog({ level: 'debug', write: line => void lines.push(line) }),
    pass: ms => {
      wall += ms
      monotonic += ms
    },
    step: ms => {
      wall += ms
    },
    lines,
  }
}

/** Beside a Vault that tells the same time. */
export const agreeing = ({ now }: Pick<World, 'now'>): Time => ({
  told: () => {},
  earlier: now,
  later: now,
  agreed: () => true,
  assertAgreed: () => {},
})

/** The same where a test moves the clocks of a whole process, which does not move Vault's: the monotonic one tells the hour. */
export function openAgreeing({ now, monotonic }: Pick<World, 'now' | 'monotonic'>): Time {
  const start = now() - monotonic()
  return agreeing({ now: () => Math.max(now(), start + monotonic()) })
}
