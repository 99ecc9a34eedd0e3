import { setTimeout as delay } from 'node:timers/promises'
import { AgentError, laterIfUnavailable } from './exits.ts'
import type { CredsRequest } from './flow.ts'
import { type Issued, issuedOf } from './issued.ts'
import { LONGEST_TIMER_MS } from './refresh.ts'
import { dataOf, member, positive, text } from './replies.ts'
import { encoded, type Mounts, present, type Service } from './service.ts'

/** Tells where a person has to consent, and waits for what they decide. A service that cannot answer for a while is asked again (RFC 8628 3.5).
 *  @param signal nobody wants the credential any more
 *  @throws AgentError of `refused` when they say no, or nothing in time */
export async function consented(
  service: Service,
  request: CredsRequest,
  token: string,
  say: (message: string) => void,
  signal?: AbortSignal,
): Promise<Issued> {
  const { url, userCode, handle, expiresInSeconds, intervalSeconds } = await askConsent(service, request, token)
  say(`somebody has to consent: open ${url} and see that it shows the code ${userCode}`)
  const { role, taskToken } = request
  const until = performance.now() + expiresInSeconds * 1000
  while (performance.now() < until) {
    const issued = await pollConsent(service, role, handle, token, taskToken).catch(laterIfUnavailable)
    if (issued) return issued
    await delay(Math.min(intervalSeconds * 1000, LONGEST_TIMER_MS), undefined, { signal }).catch(() => undefined)
    if (signal?.aborted) throw new AgentError('refused', 'nobody waits for the consent any more')
  }
  throw new AgentError('refused', 'nobody consented in time: ask again')
}

/** Where a person has to go before there is a credential, and the code that they will see there. */
type Invitation = {
  readonly url: string
  readonly userCode: string
  readonly handle: string
  readonly expiresInSeconds: number
  readonly intervalSeconds: number
}

/** Asks for the consent of a person, where the role works in people's names. */
async function askConsent({ client, mounts }: Service, request: CredsRequest, token: string): Promise<Invitation> {
  const { role, taskToken, ...asked } = request
  const asking = { ...asked, ...present({ task_token: taskToken }) }
  const data = dataOf(await client.post(consentPath(mounts, role), asking, { token }))
  return {
    url: text(data, 'url'),
    userCode: text(data, 'user_code'),
    handle: text(data, 'handle'),
    expiresInSeconds: positive(data, 'expires_in'),
    intervalSeconds: positive(data, 'interval'),
  }
}

/** What the person let us have; undefined while nobody decided. @throws AgentError of `refused` when they said no */
async function pollConsent(
  { client, mounts }: Service,
  role: string,
  handle: string,
  token: string,
  taskToken?: string,
): Promise<Issued | undefined> {
  const reply = await client.post(
    `${consentPath(mounts, role)}/poll`,
    { handle, ...present({ task_token: taskToken }) },
    { token },
  )
  const data = dataOf(reply)
  return member(data, 'status') === 'pending' ? undefined : issuedOf(reply)
}

const consentPath = ({ broker }: Mounts, role: string) => `${encoded(broker)}/consent/${encodeURIComponent(role)}`
