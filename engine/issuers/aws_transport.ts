import type { STSClientConfig } from '@aws-sdk/client-sts'
import type { Received, Sent } from '../http.ts'
import type { Throttled } from './outbound.ts'

/** What the SDK would otherwise look for in the environment, in files, and at a metadata address (`auto` infers the region there). */
export const explicit = {
  maxAttempts: 1,
  retryMode: 'standard',
  defaultsMode: 'standard',
  useDualstackEndpoint: false,
  useFipsEndpoint: false,
} as const

/** What AWS says, with status 400, to who asks too often. */
const THROTTLED = new Set(['Throttling', 'ThrottlingException', 'TooManyRequestsException', 'RequestLimitExceeded'])
export const isThrottled = (name: string | undefined) => THROTTLED.has(name ?? '')
/** The same of an answer of the query protocol, which nobody has read yet: STS, IAM. */
export const throttled: Throttled = ({ status, body }) =>
  status >= 400 && isThrottled(/<Code>([A-Za-z]{1,64})<\/Code>/.exec(body.toString('utf8'))?.[1])

/** What a setting for a region may be. */
export const REGION = [/^[a-z]{2}(?:-[a-z]+)+-\d$/, 'a region such as eu-central-1'] as const

/** Where a service is in a region. */
export function regional(service: string, region: string): string {
  return `https://${service}.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`
}

/** What stands for the endpoint of STS in the region of an integration. */
export const STS = 'https://sts.amazonaws.com'

/** Where an integration asks STS: the endpoint of its region is the one that takes what is signed for the region. */
export function stsUrl({ endpoint, region }: { readonly endpoint: string; readonly region: string }): string {
  return endpoint === STS ? regional('sts', region) : endpoint
}

/** What stands for the endpoint of IAM in the partition of an integration. */
export const IAM = 'https://iam.amazonaws.com'

/** IAM is there once in each partition, and takes what is signed for one region of it. By what names of regions begin with. */
const PARTITIONS = [
  ['cn-', 'https://iam.cn-north-1.amazonaws.com.cn', 'cn-north-1'],
  ['us-gov-', 'https://iam.us-gov.amazonaws.com', 'us-gov-west-1'],
  ['', IAM, 'us-east-1'],
] as const

/** Where an integration asks IAM, and the region that is signed for. */
export function iamOf({ region, iam_url }: { readonly region: string; readonly iam_url: string }): {
  url: string
  region: string
} {
  const [, url, signed] = PARTITIONS.find(([prefix]) => region.startsWith(prefix)) ?? PARTITIONS[2]
  return { url: iam_url === IAM ? url : iam_url, region: signed }
}

/** What a client of the AWS SDK hands to its HTTP handler. */
type Request = {
  readonly protocol: string
  readonly hostname: string
  readonly port?: number
  readonly path: string
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** The SDK over our own transport: its breaker, its deadline, no metadata address. */
export function smithyHandler(http: {
  readonly send: (sent: Sent, signal?: AbortSignal) => Promise<Received>
}): NonNullable<STSClientConfig['requestHandler']> {
  return {
    handle: async (request: Request, { abortSignal }: { readonly abortSignal?: AbortSignal } = {}) => {
      const { protocol, hostname, port, path, method, headers, body } = request
      const url = `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}${path}`
      const content = typeof body === 'string' || body instanceof Uint8Array ? body : undefined
      const sent = { method: method as Sent['method'], url, headers: withoutHost(headers), body: content }
      const received = await http.send(sent, abortSignal)
      return { response: { statusCode: received.status, headers: received.headers, body: new Uint8Array(received.body) } }
    },
  } as NonNullable<STSClientConfig['requestHandler']>
}

/** What STS answered, for the SDK. Its reader of XML looks at the whole answer again for each declaration of a document type, so that a megabyte of them
 *  takes minutes; AWS has none. */
export function plainXml(received: Received): Received {
  if (/<!doctype/i.test(received.body.toString('latin1'))) throw new Error('the answer declares a type of document')
  return received
}

/** The transport says these itself. */
function withoutHost(headers: Request['headers']): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !['host', 'content-length'].includes(name.toLowerCase())))
}
