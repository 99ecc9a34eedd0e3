import { confirmationOf } from '../jwt.ts'
import { Secret } from '../secret.ts'
import { type Grant, type IssuerPorts, issuer } from './issuer.ts'

/** A JWT access token (RFC 9068), signed inside transit; bound to the key of the machine by `cnf.jkt` (RFC 7800, RFC 9449). */
export const jwt = issuer({
  summary: 'A JWT access token, verified offline with the JWKS of this mount.',
  role: {},
  plan: (grant, { issuerUrl }) => claimsOf(grant, issuerUrl),
  issue: async (grant, ports) => {
    const key = await ports.key()
    const token = await ports.sign(key, 'at+jwt', claimsOf(grant, ports.issuerUrl))
    return {
      fields: { token: new Secret(token) },
      tokenType: grant.keyThumbprint ? 'DPoP' : 'Bearer',
      kid: key.latest.kid,
      expiresAt: grant.issuedAt + grant.ttlSeconds,
      granted: {},
    }
  },
})

/** For whom: the machine acts, behind those who handed the task on (RFC 8693, 4.1), within the context of its task. */
function actedFor({ task, tpmId }: Grant): object {
  if (!task) return {}
  const { org, task: name, session, user, txn, actors } = task
  const others = actors.filter(actor => actor !== tpmId)
  const act = [tpmId, ...others].reduceRight<object | undefined>(
    (inner, sub) => (inner ? { sub, act: inner } : { sub }),
    undefined,
  )
  const said = { org, task: name, session, user, txn }
  return { act, tctx: Object.fromEntries(Object.entries(said).filter(([, value]) => value !== '')) }
}

function claimsOf(grant: Grant, issuerUrl: IssuerPorts['issuerUrl']): object {
  return {
    iss: issuerUrl,
    sub: grant.plugin,
    aud: grant.audience,
    client_id: grant.tpmId,
    ...(grant.scope.length > 0 ? { scope: grant.scope.join(' ') } : {}),
    action: grant.action,
    iat: grant.issuedAt,
    exp: grant.issuedAt + grant.ttlSeconds,
    jti: grant.jti,
    txn: grant.txn,
    ...actedFor(grant),
    ...(grant.keyThumbprint ? { cnf: confirmationOf(grant.keyThumbprint, grant.x5tS256) } : {}),
  }
}
