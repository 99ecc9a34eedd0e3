import { vi } from 'vitest'

/** How long is waited for what has to come: it ends a hang, and a machine that is merely slow never meets it. */
export const PATIENCE_MS = 120_000

/** Asks again and again until the expectations hold. Throws what the last one says when they do not in `PATIENCE_MS`. */
export const eventually = <T>(check: () => T | Promise<T>) => vi.waitFor(check, { timeout: PATIENCE_MS })
