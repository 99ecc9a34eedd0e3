import type { INetworkModule, NetworkRequestOptions, NetworkResponse } from '@azure/msal-node'
import { objectIn } from './common.ts'
import type { Outbound } from './outbound.ts'

/** What the token endpoint answered last; an empty body when it was no JSON object. */
export type Answered = { readonly status: number; readonly body: Readonly<Record<string, unknown>> }

/** MSAL over our own transport: its breaker, its deadline, no metadata address. */
export function msalTransport(http: Outbound): { transport: INetworkModule; answered: () => Answered } {
  let last: Answered = { status: 0, body: {} }
  const send = async <T>(method: 'GET' | 'POST', url: string, options?: NetworkRequestOptions): Promise<NetworkResponse<T>> => {
    const { headers = {}, body } = options ?? {}
    const received = await http.send({ method, url, headers, body })
    last = { status: received.status, body: objectIn(received) }
    return { headers: { ...received.headers }, body: { ...last.body } as T, status: received.status }
  }
  return {
    transport: {
      sendGetRequestAsync: (url, options) => send('GET', url, options),
      sendPostRequestAsync: (url, options) => send('POST', url, options),
    },
    answered: () => last,
  }
}
