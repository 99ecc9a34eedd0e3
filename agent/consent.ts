import { setTimeout as delay } from 'node:timers/promises'
import { AgentError } from './exits.ts'
import { askConsent, type CredsRequest, type Issued, pollConsent, type Service } from './flow.ts'

/** Tells where a person has to consent, and waits for what they decide.
 *  @throws AgentError of `refused` when they say no, or nothing in time */
export async function consented(
  service: Service,
  request: CredsRequest,
  token: string,
  say: (message: string) => void,
): Promise<Issued> {
  const { url, userCode, handle, expiresInSeconds, intervalSeconds } = await askConsent(service, request, token)
  say(`somebody has to consent: open ${url} and see that it shows the code ${userCode}`)
  const { role, taskToken } = request
  const until = performance.now() + expiresInSeconds * 1000
  while (performance.now() < until) {
    const issued = await pollConsent(service, role, handle, token, taskToken)
    if (issued) return issued
    await delay(intervalSeconds * 1000)
  }
  throw new AgentError('refused', 'nobody consented in time: ask again')
}
