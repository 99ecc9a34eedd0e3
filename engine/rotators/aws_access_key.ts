import { AwsClient } from 'aws4fetch'
import { BrokerError } from '../errors.ts'
import { IAM, iamOf, stsUrl, throttled } from '../issuers/aws_transport.ts'
import { endpointAt } from '../issuers/common.ts'
import { codeIn } from '../issuers/refusal.ts'
import { Secret } from '../secret.ts'
import { type RotatorPorts, rotator, type Secrets } from './rotator.ts'

const settings = { iam_url: endpointAt(IAM, 'Where IAM is, when it is not the endpoint of the partition that the region is in.') }
type Ports = RotatorPorts<typeof settings>

const IAM_API = { service: 'iam', version: '2010-05-08' } as const
const STS_API = { service: 'sts', version: '2011-06-15' } as const
/** A new key is known after some seconds, and now and then after a quarter of a minute. */
const PROOFS = 30
const PAUSE_MS = 1_000

/** The access key of an IAM user, by the user itself: IAM keeps at most two keys, so one has to be free.
 *  @see https://docs.aws.amazon.com/IAM/latest/APIReference: CreateAccessKey, DeleteAccessKey, ListAccessKeys */
export const awsAccessKey = rotator({
  summary: 'The access key of an IAM user: a new one is made and shown to STS, then the old one is deleted.',
  type: 'aws_sts',
  settings,
  throttled,
  serves: ({ auth }) => auth === 'access_key',
  handleOf: root => ({ access_key_id: root['access_key_id']?.reveal() ?? '' }),
  make: async (root, ports) => {
    const xml = await ask(ports, IAM_API, root, { Action: 'CreateAccessKey' })
    const id = only(ports, xml, 'AccessKeyId', /^[A-Z0-9]{16,128}$/)
    const secret = only(ports, xml, 'SecretAccessKey', /^[A-Za-z0-9+/=]{20,128}$/)
    return { secrets: { access_key_id: new Secret(id), secret_access_key: new Secret(secret) }, handle: { access_key_id: id } }
  },
  prove: async (next, root, ports) => {
    const mine = await whoIs(ports, root)
    for (let proof = 1; ; proof++) {
      const theirs = await whoIs(ports, next.secrets).catch((error: unknown) => {
        if (proof === PROOFS) throw error
        return undefined
      })
      if (theirs === mine) return
      if (theirs !== undefined) throw new BrokerError('unavailable', `${ports.integration}: the new key is of another user`)
      await ports.sleep(PAUSE_MS)
    }
  },
  retire: async ({ access_key_id: AccessKeyId = '' }, root, ports) => {
    await ask(ports, IAM_API, root, { Action: 'DeleteAccessKey', AccessKeyId }, 'NoSuchEntity')
  },
  strays: async (root, { from, to }, ports) => {
    const inUse = root['access_key_id']?.reveal()
    const xml = await ask(ports, IAM_API, root, { Action: 'ListAccessKeys' })
    return membersOf(xml)
      .map(member => ({
        id: all(member, 'AccessKeyId')[0] ?? '',
        at: Date.parse(all(member, 'CreateDate')[0] ?? '') / 1000,
      }))
      .filter(({ id, at }) => id !== '' && id !== inUse && at >= from && at <= to)
      .map(({ id }) => ({ access_key_id: id }))
  },
})

async function whoIs(ports: Ports, key: Secrets): Promise<string> {
  return only(ports, await ask(ports, STS_API, key, { Action: 'GetCallerIdentity' }), 'Arn', /^arn:\S{1,2048}$/)
}

type Service = typeof IAM_API | typeof STS_API

/** One call of the query protocol, signed with this key (SigV4).
 *  @param fine an error code that is as good as a success */
async function ask(
  ports: Ports,
  { service, version }: Service,
  key: Secrets,
  form: Record<string, string>,
  fine?: string,
): Promise<string> {
  const { url, region } = placeOf(service, ports)
  const client = new AwsClient({
    accessKeyId: key['access_key_id']?.reveal() ?? '',
    secretAccessKey: key['secret_access_key']?.reveal() ?? '',
    service,
    region,
  })
  const body = new URLSearchParams({ ...form, Version: version }).toString()
  const headers = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }
  const signed = await client.sign(url, { method: 'POST', headers, body })
  const { status, body: said } = await ports.http.send({
    method: 'POST',
    url: signed.url,
    headers: Object.fromEntries(signed.headers),
    body,
  })
  const xml = said.toString('utf8')
  if (status === 200) return xml
  const code = all(xml, 'Code')[0] ?? ''
  if (fine !== undefined && code === fine) return xml
  throw new BrokerError('unavailable', `${ports.integration}: ${form['Action']} was refused: ${codeIn(code)}`)
}

function placeOf(service: Service['service'], { own, settings: its }: Ports): { url: string; region: string } {
  const region = String(its['region'])
  return service === 'iam' ? iamOf({ ...own, region }) : { url: stsUrl({ region, endpoint: String(its['endpoint']) }), region }
}

/** Texts of elements without children. */
function all(xml: string, name: string): readonly string[] {
  return [...xml.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map(([, text = '']) => text)
}

/** In one pass: an expression that looks for the end of each looks through all that follows, again for every one that has none. */
function membersOf(xml: string): readonly string[] {
  const begun = xml.split('<member>').slice(1)
  return begun.flatMap(one => (one.includes('</member>') ? one.split('</member>', 1) : []))
}

/** An answer with two of what there is one of has no meaning. */
function only({ integration }: Ports, xml: string, name: string, form: RegExp): string {
  const [value, ...more] = all(xml, name)
  if (value === undefined || more.length > 0 || !form.test(value))
    throw new BrokerError('unavailable', `${integration}: AWS answered without ${name}`)
  return value
}
