import { BrokerError } from '../errors.ts'
import { required, text } from '../fields.ts'
import { Secret } from '../secret.ts'
import { assertion } from './assertion.ts'
import { sessionPolicy, withinAws } from './aws_policy.ts'
import { explicit, plainXml, REGION, STS, smithyHandler, stsUrl, throttled } from './aws_transport.ts'
import { ceiling, endpointAt, isToken, outbound, subject } from './common.ts'
import { type Credential, type Grant, type IssuerPorts, issuer, type Plan } from './issuer.ts'
import { ExchangeRefusal, refused, unusable, wider } from './refusal.ts'

const settings = {
  region: required(text('Region of the STS endpoint.', { form: REGION })),
  endpoint: endpointAt(STS, 'Where STS is, when it is not the endpoint of the region.'),
  auth: text(
    '`web_identity`: a JWT of this mount, whose issuer IAM knows as an OIDC provider; no root key. `access_key`: a key of an IAM user.',
    {
      fallback: 'web_identity',
      choices: ['web_identity', 'access_key'],
    },
  ),
  audience: text('Audience of the JWT, as the OIDC provider in IAM has it.', { fallback: 'sts.amazonaws.com' }),
  subject,
  ceiling,
  ...outbound,
}

const ARN = /^arn:(aws[a-z-]*):iam::(\d{12}):role\/((?:[\w+=,.@-]+\/)*)([\w+=,.@-]{1,64})$/

const role = {
  role_arn: required(text('Role to assume.', { form: [ARN, 'the ARN of a role'] })),
  external_id: text('External id that the trust policy of the role wants.', {
    fallback: '',
    form: [/^$|^[\w+=,.@:/-]{2,1224}$/, 'an external id'],
  }),
}

type Ports = IssuerPorts<typeof role, typeof settings>
type Sts = typeof import('@aws-sdk/client-sts')
type Answer = import('@aws-sdk/client-sts').AssumeRoleCommandOutput

/** Shortest session that STS gives. A grant that ends before is ended by a condition of the session policy. */
const SHORTEST_SECONDS = 900
const TAG = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,256}$/u

/** Temporary AWS credentials: AssumeRole with a session policy made from the decision.
 *  @see https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html and API_AssumeRoleWithWebIdentity.html */
export const awsSts = issuer({
  summary:
    'Temporary AWS credentials (STS AssumeRole) with a session policy made from the decision, session tags and source identity.',
  role,
  integration: {
    settings,
    secrets: {
      access_key_id: { description: 'Key id of an IAM user that may assume the roles.', required: false },
      secret_access_key: { description: 'Its secret.', required: false },
    },
  },
  cacheable: true,
  throttled,
  permissions: {
    // what knows no resource, such as ecr:GetAuthorizationToken, IAM compares with `*`: no ARN covers that
    form: [
      /^[a-z0-9-]+:[A-Za-z0-9*?]+ (?:\*|arn:aws[a-z-]*:\S+)$/,
      'an action and an ARN, such as s3:GetObject arn:aws:s3:::bucket/*, or an action and *',
    ],
    within: withinAws,
  },
  check: (_, { plugins, actions }) => {
    const odd = [...plugins, ...actions].find(name => !TAG.test(name))
    if (odd !== undefined) throw new BrokerError('bad_request', 'plugins, actions: wanted names that can be session tags of AWS')
  },
  plan: (grant, ports) => ({ Action: actionOf(ports), ...asked(grant, ports), Tags: tagsOf(grant) }),
  issue: async (grant, ports) => {
    const sts = await sdk()
    const client = new sts.STSClient({
      ...explicit,
      region: ports.settings.region,
      endpoint: stsUrl(ports.settings),
      credentials: await keyOf(ports),
      requestHandler: smithyHandler({ send: async sent => plainXml(await ports.http.send(sent)) }),
    })
    const answer = await assume(sts, client, grant, ports).catch((error: unknown) => {
      throw ports.http.failure() ?? told(ports.integration, error)
    })
    return credentialOf(grant, ports, answer)
  },
})

async function sdk(): Promise<Sts> {
  try {
    return await import('@aws-sdk/client-sts')
  } catch (error) {
    throw new BrokerError('unavailable', 'the issuer aws_sts needs the package @aws-sdk/client-sts: install it', { cause: error })
  }
}

const actionOf = ({ settings: { auth } }: Plan<typeof role, typeof settings>) =>
  auth === 'access_key' ? 'AssumeRole' : 'AssumeRoleWithWebIdentity'

/** Always one that is given, so that no chain of providers is walked; a web identity is not signed at all. */
async function keyOf({ settings: { auth }, root, integration }: Ports) {
  if (auth !== 'access_key') return { accessKeyId: 'none', secretAccessKey: 'none' }
  const { access_key_id: id, secret_access_key: secret } = (await root.read()).fields
  if (!id || !secret) throw new BrokerError('unavailable', `the integration ${integration} holds no access key`)
  return { accessKeyId: id.reveal(), secretAccessKey: secret.reveal() }
}

function asked(grant: Grant, { role: { role_arn, external_id }, settings: { auth } }: Plan<typeof role, typeof settings>) {
  return {
    RoleArn: role_arn,
    RoleSessionName: sessionName(grant),
    DurationSeconds: Math.max(SHORTEST_SECONDS, grant.ttlSeconds),
    Policy: sessionPolicy(grant.permissions, grant.issuedAt + grant.ttlSeconds),
    ...(auth === 'access_key' && external_id !== '' ? { ExternalId: external_id } : {}),
  }
}

/** 2 to 64 characters of [\w+=,.@-]: the beginning of the TPM's id, which the whole is a tag of. */
const sessionName = ({ tpmId }: Grant) =>
  `assay-${tpmId
    .replace(/^sha256-/, '')
    .replace(/[^\w+=,.@-]/g, '_')
    .slice(0, 32)}`

function tagsOf({ tpmId, plugin, action, task }: Grant): Readonly<Record<string, string>> {
  const all = { agent: tpmId, plugin, action, task: task?.task ?? '', org: task?.org ?? '', user: task?.user ?? '' }
  const tags = Object.entries(all).filter(([, value]) => value !== '')
  const odd = tags.find(([, value]) => !TAG.test(value))
  // a value that was changed to fit could be taken for another
  if (odd) throw new ExchangeRefusal('PARAMETERS', `${odd[0]} cannot be a session tag of AWS`)
  return Object.fromEntries(tags)
}

/** With a web identity, tags and source identity are claims of the JWT, not parameters. Who assumes another role from there keeps them. */
async function assume(sts: Sts, client: InstanceType<Sts['STSClient']>, grant: Grant, ports: Ports): Promise<Answer> {
  const tags = tagsOf(grant)
  if (ports.settings.auth === 'access_key') {
    const more = {
      Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
      TransitiveTagKeys: Object.keys(tags),
      SourceIdentity: grant.txn,
    }
    return client.send(new sts.AssumeRoleCommand({ ...asked(grant, ports), ...more }))
  }
  const principal_tags = Object.fromEntries(Object.entries(tags).map(([name, value]) => [name, [value]]))
  const more = {
    'https://aws.amazon.com/tags': { principal_tags, transitive_tag_keys: Object.keys(tags) },
    'https://aws.amazon.com/source_identity': grant.txn,
  }
  const WebIdentityToken = await assertion(grant, ports, ports.settings.audience, { more })
  return client.send(new sts.AssumeRoleWithWebIdentityCommand({ ...asked(grant, ports), WebIdentityToken }))
}

/** Errors of the SDK hold what was sent: of them only their code goes on. */
function told(integration: string, error: unknown): Error {
  const { name, $metadata: metadata } = error as { name?: string; $metadata?: { httpStatusCode?: number } }
  const status = metadata?.httpStatusCode ?? 0
  if (error instanceof BrokerError || error instanceof ExchangeRefusal) return error
  return status >= 400 ? refused(integration, name) : unusable(integration, 'the answer of STS cannot be read')
}

function credentialOf(grant: Grant, { integration, role: { role_arn }, now }: Ports, answer: Answer): Credential {
  const { Credentials: given, AssumedRoleUser: user, SourceIdentity, PackedPolicySize: packed = 0 } = answer
  const { AccessKeyId: id, SecretAccessKey: secret, SessionToken: token, Expiration: end } = given ?? {}
  if (!isToken(id) || !isToken(secret) || !isToken(token) || !(end instanceof Date))
    throw unusable(integration, 'the answer of STS has no whole credential')
  if (answer.$metadata.httpStatusCode !== 200) throw unusable(integration, 'the answer of STS is no plain success')
  const [, partition, account, , name] = ARN.exec(role_arn) ?? []
  if (user?.Arn !== `arn:${partition}:sts::${account}:assumed-role/${name}/${sessionName(grant)}`)
    throw wider(integration, 'the credential is for another role or session')
  if (SourceIdentity !== undefined && SourceIdentity !== grant.txn) throw wider(integration, 'the source identity is another')
  if (packed > 100) throw unusable(integration, 'the session policy did not fit')
  const natural = Math.floor(end.getTime() / 1000)
  const longest = grant.issuedAt + Math.max(SHORTEST_SECONDS, grant.ttlSeconds) + 60
  if (natural <= now() / 1000 || natural > longest)
    throw unusable(integration, 'the end of the session is not the one that was asked for')
  return {
    fields: { access_key_id: id, secret_access_key: new Secret(secret), session_token: new Secret(token) },
    // the condition in the session policy ends it, where STS would not
    expiresAt: Math.min(natural, grant.issuedAt + grant.ttlSeconds),
    granted: { assumed_role: user.Arn, session_ends: natural },
  }
}
