import { Agent, request } from 'undici'
import { BrokerError } from '../errors.ts'
import { SUITES } from '../suites.ts'
import { listAsPem } from './bundles.ts'

const DEADLINE_MS = 10_000
const MAX_BYTES = 8 * 1024 * 1024

/**
 * Fetches revocation lists from a place whose host the operator has listed. Nothing that a certificate says is ever fetched, and
 * no redirect is followed: a list is signed, so where it comes from decides nothing but whom we speak to.
 * @param hosts `host` or `host:port`
 * @returns the lists in PEM
 * @throws BrokerError bad_request when the place may not be asked or gives no list, unavailable when it does not answer
 */
export async function fetchLists(place: string, hosts: readonly string[]): Promise<string> {
  const url = allowed(place, hosts)
  const dispatcher = new Agent({ connections: 1, allowH2: false, connect: { timeout: DEADLINE_MS, ciphers: SUITES } })
  try {
    const reply = await request(url, { dispatcher, signal: AbortSignal.timeout(DEADLINE_MS) })
    if (reply.statusCode !== 200) throw new BrokerError('unavailable', `url: ${url.host} answered with ${reply.statusCode}`)
    return listAsPem(await bounded(reply.body as AsyncIterable<Buffer>, url))
  } catch (error) {
    if (error instanceof BrokerError) throw error
    throw new BrokerError('unavailable', `url: ${url.host} did not give a revocation list`, { cause: error })
  } finally {
    await dispatcher.destroy()
  }
}

/** @throws BrokerError bad_request */
export function allowed(place: string, hosts: readonly string[]): URL {
  const url = URL.parse(place)
  if (!url || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '')
    throw new BrokerError('bad_request', 'url: wanted an http or https address without a user')
  if (!hosts.some(host => host.toLowerCase() === url.host || (url.port === '' && host.toLowerCase() === url.hostname)))
    throw new BrokerError('bad_request', 'url: its host is not in crl_hosts of the config')
  return url
}

async function bounded(body: AsyncIterable<Buffer>, { host }: URL): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.length
    if (size > MAX_BYTES) throw new BrokerError('bad_request', `url: ${host} gave more than ${MAX_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
