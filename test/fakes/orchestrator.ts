import { type CryptoKey, exportJWK, generateKeyPair, type JWTHeaderParameters, type JWTPayload, SignJWT } from 'jose'

export const TASK = {
  issuer: 'https://orchestrator.example',
  audience: 'https://broker.example',
  org: 'acme',
  task: 'release-42',
  session: 'session-7',
  user: 'ada@acme.example',
} as const

/** Signs task tokens, as an orchestrator does, or as somebody who would like to be one. */
export type Orchestrator = {
  /** what an operator writes into `orchestrator/:name` */
  readonly record: Readonly<Record<string, unknown>>
  readonly jwks: { readonly keys: readonly object[] }
  /** a token for the agent; `claims` replace, undefined takes away */
  readonly sign: (agent: string, claims?: Readonly<Record<string, unknown>>, header?: object) => Promise<string>
}

export type OrchestratorOptions = {
  readonly now: () => number
  readonly algorithm?: string
  readonly issuer?: string
  readonly kid?: string
}

export async function fakeOrchestrator({
  now,
  algorithm = 'ES256',
  issuer = TASK.issuer,
  kid = 'key-1',
}: OrchestratorOptions): Promise<Orchestrator> {
  const { publicKey, privateKey } = await generateKeyPair(algorithm, { extractable: true })
  const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid, alg: algorithm, use: 'sig' }] }
  return {
    jwks,
    record: { issuer, audience: TASK.audience, jwks, orgs: TASK.org },
    sign: (agent, claims = {}, header = {}) => {
      const start = Math.floor(now() / 1000)
      const { org, task, session, user } = TASK
      const said = {
        iss: issuer,
        aud: TASK.audience,
        iat: start,
        exp: start + 300,
        jti: crypto.randomUUID(),
        txn: 'txn-of-the-orchestrator',
        sub: user,
        act: { sub: agent, act: { sub: 'planner' } },
        tctx: { org, task, session },
        ...claims,
      }
      return signed(said, { alg: algorithm, typ: 'txntoken+jwt', kid, ...header }, privateKey)
    },
  }
}

function signed(claims: JWTPayload, header: JWTHeaderParameters, key: CryptoKey): Promise<string> {
  return new SignJWT(claims).setProtectedHeader(header).sign(key)
}
