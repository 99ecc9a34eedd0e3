import { accept } from '#attestation'
import { BrokerError } from '../errors.ts'
import type { Credential, Grant } from '../issuers/issuer.ts'
import type { Verdict } from '../refusals.ts'
import { Secret } from '../secret.ts'
import { LONGEST_RULE, MOST_RULES, parseRule, ruleText } from './destination.ts'
import type { Revocations } from './revocations.ts'
import type { Sealer } from './seal.ts'

/** Turns what an issuer gave into what an agent may hold. */
export type Deliver = {
  /** @param tenant id of the mount @param destinations of the role */
  readonly seal: (
    tenant: string,
    destinations: readonly string[],
    grant: Grant,
    make: (grant: Grant) => Promise<Verdict<Credential>>,
  ) => Promise<Verdict<Credential>>
}

export function openDeliver(sealer: Sealer, revocations: Revocations): Deliver {
  return {
    seal: async (tenant, destinations, grant, make) => {
      // read before the credential is made: one that cannot be delivered would be nobody's
      const rules = rulesOf(destinations)
      // taken before it too: what is revoked meanwhile was revoked for this one
      const epoch = await revocations.epoch(tenant, grant.tpmId)
      // the real one is bound to nobody: the agent cannot prove a key to a server that it does not reach
      const made = await make({ ...grant, keyThumbprint: '', x5tS256: '' })
      if (!made.ok) return made
      const credential = made.value
      const { jti, issuedAt, tpmId: agent, plugin, x5tS256, keyThumbprint } = grant
      const expiresAt = Math.min(credential.expiresAt, issuedAt + grant.ttlSeconds)
      const binding = { tenant, agent, plugin, x5tS256, destinations: rules, epoch }
      const fields = Object.fromEntries(Object.entries(credential.fields).map(([name, value]) => [name, textOf(value)]))
      const what = { fields, claims: claimsOf(credential, grant), binding, jti, keyThumbprint, issuedAt, expiresAt }
      const { token, kid } = await sealer(what)
      return accept({ ...credential, fields: { token }, tokenType: 'Bearer', kid, expiresAt })
    },
  }
}

/** A list of rules as an operator writes them. @throws BrokerError bad_request that names the place of the first that is none, or says that they are too many */
export function rulesOf(destinations: readonly string[]) {
  if (destinations.length > MOST_RULES)
    throw new BrokerError('bad_request', `destinations: ${destinations.length} are there, and ${MOST_RULES} are the most`)
  return destinations.map((text, at) => {
    const rule = parseRule(text)
    if (!rule || ruleText(rule).length > LONGEST_RULE)
      throw new BrokerError(
        'bad_request',
        `destinations: the one at place ${at + 1} is none, wanted methods and a URL: GET,POST https://api.example.com/items/{id}/**`,
      )
    return rule
  })
}

function textOf(value: Secret | string | number): Secret | string {
  return typeof value === 'number' ? String(value) : value
}

/** What the agent may read: the claims of a real token that is a JWT, else what its issuer says of it. */
function claimsOf({ fields, granted }: Credential, { txn, plugin, audience, scope }: Grant): Readonly<Record<string, unknown>> {
  const token = fields['token']
  const claims = token instanceof Secret ? jwtClaims(token.reveal()) : undefined
  const plain = Object.entries(fields).filter(([, value]) => !(value instanceof Secret))
  const facts = {
    sub: plugin,
    aud: audience,
    ...(scope.length > 0 ? { scope: scope.join(' ') } : {}),
    ...Object.fromEntries(plain),
  }
  return { ...(claims ?? { ...facts, ...(Object.keys(granted).length > 0 ? { granted } : {}) }), txn }
}

function jwtClaims(token: string): Readonly<Record<string, unknown>> | undefined {
  const [, payload, ...rest] = token.split('.')
  if (payload === undefined || rest.length !== 1) return undefined
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'))
    return typeof claims === 'object' && claims !== null && !Array.isArray(claims)
      ? (claims as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}
