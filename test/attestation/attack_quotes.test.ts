import { describe, expect, test } from 'vitest'
import { admitAk, type Bank, type Clock, type Expected, type Hash, verifyQuote } from '#attestation'
import { counted, present, readJson, unhex } from './vectors.ts'

type Hexes = { readonly [bank: string]: Readonly<Record<string, string>> }
type Case = {
  readonly id: string
  readonly why: string
  readonly stage?: 'enrolment'
  readonly attest_hex: string
  readonly tpmt_signature_hex: string
  readonly ak_tpmt_public_hex: string
  /** text where an object could not hold what is in it */
  readonly pcrs: Hexes | string
  readonly policy: { requiredBank: Bank; requiredPcrs: number[]; expected: Hexes; nonceHex: string }
  readonly previous_quote_state?: {
    clock: number
    resetCount: number
    restartCount: number
    firmwareVersion: string
    obfuscated?: boolean
  }
  readonly expected_code: string
  /** the other of two signatures that verify */
  readonly companion_signature_hex?: string
}

/** What the caller has to add: that a challenge is answered once. */
const sameAsOk = new Map([['OK_BUT_SAME_CHALLENGE', 'OK']])
/** Two cases quote more than the policy requires, as asked. */
const alsoAsked: Readonly<Record<string, Hash>> = { 'A05-ok-two-banks': 'sha384', 'A06-ok-banks-reversed': 'sha384' }

const { cases } = readJson<{ cases: Case[] }>('attack-quotes/cases.json', { cases: [] })

describe.skipIf(!present)('attacks on quotes', () => {
  const count = counted('attack-quotes')
  test.each(cases)('$id: $expected_code $why', one => {
    expect(judge(one)).toBe(sameAsOk.get(one.expected_code) ?? one.expected_code)
    const twin = one.companion_signature_hex
    if (twin) expect(judge({ ...one, tpmt_signature_hex: twin })).toBe('OK')
    count()
  })
})

/** OK, a new session, or the code of the refusal. */
function judge(one: Case): string {
  const ak = admitAk(unhex(one.ak_tpmt_public_hex))
  if (!ak.ok) return ak.code
  if (one.stage === 'enrolment') return 'OK'
  const pcrs = typeof one.pcrs === 'string' ? one.pcrs : JSON.stringify(one.pcrs)
  const evidence = { attest: unhex(one.attest_hex), signature: unhex(one.tpmt_signature_hex), pcrs }
  const verdict = verifyQuote(evidence, { ak: ak.value, ...expectedOf(one) })
  if (!verdict.ok) return verdict.code
  const { session } = verdict.value
  return session === 'REBOOTED' || session === 'RESUMED' ? session : 'OK'
}

function expectedOf({ id, policy, previous_quote_state: state }: Case): Omit<Expected, 'ak'> {
  const other = alsoAsked[id]
  const previous: Clock | undefined = state && { ...state, clock: BigInt(state.clock) }
  return {
    qualifyingData: unhex(policy.nonceHex),
    selection: { [policy.requiredBank]: policy.requiredPcrs, ...(other && { [other]: policy.requiredPcrs }) },
    references: [
      { name: 'policy', pcrs: new Map(Object.entries(policy.expected).map(([bank, values]) => [bank as Bank, bytesOf(values)])) },
    ],
    allowReset: false,
    obfuscated: state?.obfuscated ?? false,
    ...(previous && { previous }),
  }
}

function bytesOf(values: Readonly<Record<string, string>>): Map<number, Buffer[]> {
  return new Map(Object.entries(values).map(([index, hex]) => [Number(index), [unhex(hex)]]))
}
