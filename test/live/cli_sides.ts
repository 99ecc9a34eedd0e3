import { describe, expect, test } from 'vitest'
import type { Said, Step } from './differential_cli_script.ts'
import { lines, type Side, type Sides, shapeOf } from './sides.ts'

/** Types what a script says on both sides: what the stock CLI prints, and how it ends, is the same. What ended well is put into `succeeded`. */
export function typedAlike(script: Readonly<Record<string, readonly Step[]>>, opened: () => Sides, succeeded: Step[]): void {
  const kept: Record<Side['name'], Said> = { straight: {}, through: {} }

  describe.each(Object.entries(script))('%s', (_, steps) => {
    test('is the same', async () => {
      for (const step of steps) {
        const { straight, through } = await opened().both(side => typed(side, step, kept[side.name]))
        expect({ step: String(step), ...through }).toEqual({ step: String(step), ...straight })
        if (through.code === 0) succeeded.push(step)
      }
    })
  })
}

type Typed = { readonly code: number | null; readonly stdout: unknown; readonly stderr: readonly string[] }

async function typed(side: Side, step: Step, said: Said): Promise<Typed> {
  Object.assign(said, { key: side.vault.unsealKey, side: side.name })
  const words = typeof step === 'function' ? step(said) : step
  if (words.at(-1)?.startsWith('=')) return keptBy(side, words, said)
  const { code, stdout, stderr } = await side.cli(words)
  return { code, stdout: lines(stdout), stderr: lines(stderr) }
}

async function keptBy(side: Side, words: readonly string[], said: Said): Promise<Typed> {
  const { code, stdout, stderr } = await side.cli(words.slice(0, -1), { env: { VAULT_FORMAT: 'json' } })
  const reply = JSON.parse(stdout) as Reply
  const found = named(reply)
  expect(found, String(words)).toHaveProperty(words.at(-1)?.slice(1) ?? '', expect.stringMatching(/./))
  Object.assign(said, found)
  return { code, stdout: shapeOf(reply), stderr: lines(stderr) }
}

type Reply =
  | readonly string[]
  | { auth?: { client_token: string; accessor: string }; wrap_info?: { token: string }; lease_id?: string }

/** What a later step may want of a reply: a token and its accessor, what is wrapped, a lease, or the first of a list. */
function named(reply: Reply): Partial<Said> {
  if (!('length' in reply)) {
    const { auth, wrap_info, lease_id } = reply
    return {
      ...(auth && { token: auth.client_token, accessor: auth.accessor }),
      ...(wrap_info && { wrapped: wrap_info.token }),
      ...(lease_id && { lease: lease_id }),
    }
  }
  return { listed: reply[0] ?? '' }
}
