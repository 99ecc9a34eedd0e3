import { type Collection, openCollection } from '../collection.ts'
import { BrokerError } from '../errors.ts'
import { duration, flag, list, map, required, text, type Values } from '../fields.ts'
import { optionalEndpoint } from '../issuers/common.ts'
import type { Store } from '../vault/store.ts'

/** Signatures that are taken at all: none that a shared secret or a weak key could make. */
const ALGORITHMS = ['ES256', 'ES384', 'ES512', 'EdDSA', 'PS256', 'PS384', 'PS512', 'RS256'] as const
const LONGEST_SECONDS = 3600

/** Who may say what a task is about. */
export const orchestratorFields = {
  issuer: required(text('`iss` of its task tokens, compared as it is.', { max: 2048 })),
  audience: required(text('`aud` that its task tokens have to be for: this broker, in its words.', { max: 2048 })),
  jwks_url: optionalEndpoint('Where its keys are. Either this or jwks.'),
  jwks: map('Its keys, pinned: a JSON Web Key Set.'),
  algorithms: list('Signatures that are taken.', { fallback: ['ES256', 'EdDSA'], choices: ALGORITHMS }),
  orgs: required(list('Organisations that it may speak for.', { max: 128 })),
  max_life: duration('Longest life of a task token, at most an hour.', { fallback: 900 }),
  single_use: flag('A task token is good for one credential. Otherwise the agent that it is bound to may use it until it ends.', {
    fallback: false,
  }),
}
export type Orchestrator = Values<typeof orchestratorFields>

export function openOrchestrators(state: Store): Collection<typeof orchestratorFields> {
  const all: Collection<typeof orchestratorFields> = openCollection(state, 'orchestrator', orchestratorFields, {
    check: async (record, mountId, name) => {
      check(record)
      const others = (await all.list(mountId)).filter(one => one !== name)
      const records = await Promise.all(others.map(other => all.fresh(mountId, other)))
      const twin = others[records.findIndex(one => one?.issuer === record.issuer)]
      // a token is judged by the one whose issuer it names
      if (twin !== undefined)
        throw new BrokerError('bad_request', `issuer: the orchestrator ${twin} has it: write its orgs, audience and keys there`)
    },
  })
  return all
}

function check(record: Orchestrator): void {
  const pinned = Object.keys(record.jwks).length > 0
  if (pinned === (record.jwks_url !== '')) throw new BrokerError('bad_request', 'wanted jwks_url or jwks, and not both')
  if (pinned) checkKeys(record.jwks['keys'])
  if (record.orgs.length === 0) throw new BrokerError('bad_request', 'orgs: wanted at least one')
  if (record.algorithms.length === 0) throw new BrokerError('bad_request', 'algorithms: wanted at least one')
  if (record.max_life < 1 || record.max_life > LONGEST_SECONDS)
    throw new BrokerError('bad_request', `max_life: wanted 1 to ${LONGEST_SECONDS} seconds`)
}

const MAX_KEYS = 32

function checkKeys(keys: unknown): void {
  if (!Array.isArray(keys) || keys.length === 0 || keys.length > MAX_KEYS)
    throw new BrokerError('bad_request', `jwks: wanted a JSON Web Key Set with 1 to ${MAX_KEYS} keys`)
  const bad = keys.some(
    key => typeof key !== 'object' || key === null || !['EC', 'OKP', 'RSA'].includes(key.kty) || 'd' in key || 'k' in key,
  )
  if (bad) throw new BrokerError('bad_request', 'jwks: wanted public keys of type EC, OKP or RSA, and no private one')
}
