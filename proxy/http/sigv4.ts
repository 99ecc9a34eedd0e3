import { createHash } from 'node:crypto'
import { AwsV4Signer } from 'aws4fetch'
import { accept, refuse, type Verdict } from '../refusals.ts'
import type { Asked, Injection, Outgoing } from './injection.ts'

/** `AWS4-HMAC-SHA256 Credential=KEY/20261121/eu-west-1/s3/aws4_request, SignedHeaders=..., Signature=...` */
const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=[^/,\s]{1,128}\/\d{8}\/([a-z0-9-]{1,64})\/([a-z0-9-]{1,64})\/aws4_request, ?SignedHeaders=[a-z0-9;_-]+, ?Signature=[0-9a-f]{64}$/
/** What the signature says of a body that it does not cover. */
const UNCOVERED = ['UNSIGNED-PAYLOAD', 'STREAMING-UNSIGNED-PAYLOAD-TRAILER']
/** Services whose paths are encoded once; all others encode what is encoded. (aws4fetch knows `s3`: there it decodes first, and encodes once by itself.) */
const ONCE = ['s3-object-lambda', 's3express']

/** AWS signature version 4, made anew: the agent signs with throw-away keys, and what it signed for is kept (region, service, hash of the body). */
export function aws({ regions, services }: { regions: readonly string[]; services: readonly string[] }): Injection {
  return {
    slots: ['authorization', 'x-amz-date', 'x-amz-security-token', 'x-amz-content-sha256', 'date'],
    apply: async (outgoing, asked) => {
      const signed = AUTHORIZATION.exec(asked.head.values.get('authorization') ?? '')
      const [, region = '', service = ''] = signed ?? []
      if (!signed) return refuse('SIGNATURE_SHAPE', 'no AWS4-HMAC-SHA256 signature in a header')
      if (!regions.includes(region) || !services.includes(service)) return refuse('SIGNATURE_SHAPE', 'another region or service')
      const hash = await payloadHash(asked, outgoing)
      return hash.ok ? sign(outgoing, asked, region, service, hash.value) : hash
    },
  }
}

/** A body that came with its hash flows on: the server compares. One without is held and hashed here. */
async function payloadHash({ head, body }: Asked, outgoing: Outgoing): Promise<Verdict<string>> {
  const given = head.values.get('x-amz-content-sha256')
  if (given !== undefined && (/^[0-9a-f]{64}$/.test(given) || UNCOVERED.includes(given))) return accept(given)
  if (given !== undefined) return refuse('SIGNATURE_SHAPE', 'the chunks of the body are signed')
  const held = await body()
  if (!held.ok) return held
  outgoing.body = held.value
  return accept(createHash('sha256').update(held.value).digest('hex'))
}

async function sign(
  outgoing: Outgoing,
  { head: { destination }, fields, now }: Asked,
  region: string,
  service: string,
  hash: string,
): Promise<Verdict<void>> {
  const { access_key_id: id, secret_access_key: secret, session_token: session } = fields
  if (!id || !secret) return refuse('CREDENTIAL_SHAPE', 'no access_key_id and secret_access_key')
  const { scheme, host, port, method, path } = destination
  const signer = new AwsV4Signer({
    method,
    url: `${scheme}://${host}:${port}${path}${outgoing.query}`,
    headers: [...amzHeaders(outgoing.headers), ['x-amz-content-sha256', hash]],
    accessKeyId: id.reveal(),
    secretAccessKey: secret.reveal(),
    ...(session ? { sessionToken: session.reveal() } : {}),
    service,
    region,
    datetime: new Date(now).toISOString().replace(/[:-]|\.\d{3}/g, ''),
    singleEncode: ONCE.includes(service),
  })
  const { headers } = await signer.sign()
  for (const name of ['authorization', 'x-amz-date', 'x-amz-security-token', 'x-amz-content-sha256']) {
    const value = headers.get(name)
    if (value !== null) outgoing.headers.push(name, value)
  }
  return accept(undefined)
}

/** What is signed beside the host: what AWS reads. */
function amzHeaders(headers: readonly string[]): [string, string][] {
  return headers.flatMap((name, at): [string, string][] =>
    at % 2 === 0 && name.toLowerCase().startsWith('x-amz-') ? [[name, headers[at + 1] ?? '']] : [],
  )
}
