import { proofOf, taskTokenOf, tokenAtHand } from './at_hand.ts'
import { consented } from './consent.ts'
import { AgentError } from './exits.ts'
import { creds, type HeldKey, heartbeat, type Issued, login, present } from './flow.ts'
import { lazyTpm, openService } from './open.ts'
import type { AskOptions } from './options.ts'
import { sayTo } from './say.ts'
import type { World } from './world.ts'

/** `signal`: nobody wants the credential any more */
export type Asking = { readonly held?: HeldKey | undefined; readonly signal?: AbortSignal | undefined }

/** `beat`: shows that the work goes on, with the token that asked. */
export type IssuedAs = Issued & { readonly beat: (signal: AbortSignal) => Promise<void> }

/** Asks for a credential with the token at hand or one of a fresh login; answers with a quote when that is wanted. */
export async function issue(world: World, role: string, options: AskOptions, { held, signal }: Asking = {}): Promise<IssuedAs> {
  const service = await openService(world, options, signal)
  await using tpm = lazyTpm(world, options)
  const { plugin, action, scope, audience, ttl, parameter } = options
  const taskToken = await taskTokenOf(options)
  const parameters = Object.keys(parameter).length > 0 ? { parameters: parameter } : {}
  const request = { role, scope, ...present({ plugin, action, audience, ttl, taskToken }), ...parameters }
  // a token of an earlier login is bound to another key than the one that is held now
  const atHand = held ? undefined : await tokenAtHand(world, options)
  const proof = async () => ({ role: authRole(options), ...(await proofOf(options)), ...(held && { held }) })
  const token = atHand ?? (await login(service, await tpm.attester(), await proof())).token
  const attesting = async () => ({ attester: await tpm.attester(), ...(await proof()) })
  const beat = async (until: AbortSignal) =>
    heartbeat(await openService(world, options, until), role, token, await taskTokenOf(options))
  const asked = async (quoted: boolean): Promise<Issued> => {
    try {
      return await creds(service, request, token, quoted ? await attesting() : undefined)
    } catch (error) {
      if (!(error instanceof AgentError && error.exit === 'refused')) throw error
      if (CONSENT_HELPS.test(error.message)) return await consented(service, request, token, sayTo(world), signal)
      if (quoted || !QUOTE_HELPS.test(error.message)) throw error
      return await asked(true)
    }
  }
  return { ...(await asked(options.attest === true)), beat }
}

/** Reason codes of the broker that a quote with the request answers. */
const QUOTE_HELPS = /\b(QUOTE_REQUIRED|REATTEST|ATTESTATION_STALE|KEY_NOT_CERTIFIED)\b/

/** and the one that a person answers */
const CONSENT_HELPS = /\bCONSENT_REQUIRED\b/

function authRole({ role }: AskOptions): string {
  if (role === undefined) throw new AgentError('usage', 'wanted --role, the role of the auth mount to log in or be attested with')
  return role
}
