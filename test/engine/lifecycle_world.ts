import { dataOf, evidence, refusalOf, type TestBroker } from '../fakes/broker.ts'
import type { Machine } from '../fakes/machine.ts'
import { until } from '../harness/process.ts'

const nobody = { token: '' }

/** What is done with a machine at the broker of the moment, and what is seen there of it. */
export function lifeOf(machine: Machine, now: () => TestBroker) {
  const login = (sent: object) => now().ask('update', 'auth/tpm-quote/login', sent, nobody)
  const lives = (token: string) => now().vault.state.tokens.has(token)
  const shown = async () => dataOf(await now().ask('read', `auth/tpm-quote/tpm/${machine.tpmId}`)) as Record<string, unknown>
  return {
    write: (path: string, data: object) => now().ask('update', `auth/tpm-quote/${path}`, data),
    login,
    quoted: async (changes: Parameters<Machine['quote']>[1], who = machine) => login(await evidence(now(), who, { changes })),
    creds: (token: string) => now().ask('update', 'broker/creds/deploy', { plugin: 'kubernetes', scope: 'apps:read' }, { token }),
    refusal: (asked: Promise<unknown>) => refusalOf(now(), asked),
    lives,
    gone: (...tokens: string[]) => until('the tokens to be revoked', async () => !tokens.some(lives)),
    shown,
    settled: () => until('nothing to be left to do', async () => (await shown())['pending']?.toString() === ''),
    kept: (folder: string) => [...now().vault.state.kv.keys()].filter(path => path.includes(`/${folder}/`)),
  }
}
