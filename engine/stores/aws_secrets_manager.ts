import { randomUUID } from 'node:crypto'
import type { SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { required, text, type Values } from '../fields.ts'
import { type Http, openHttp, Unanswered } from '../http.ts'
import { explicit, isThrottled, REGION, regional, smithyHandler } from '../issuers/aws_transport.ts'
import { optionalEndpoint } from '../issuers/common.ts'
import { codeIn } from '../issuers/refusal.ts'
import { fieldsOf, textOfFields } from './payload.ts'
import { unanswered } from './replies.ts'
import { type Held, type Next, type SecretStore, StoreFault, type StoreWorld } from './store.ts'

const settings = {
  region: required(text('AWS region.', { form: REGION })),
  endpoint: optionalEndpoint('URL of the service; that of the region when empty.'),
}
type Settings = Values<typeof settings>

/** AWS Secrets Manager through its SDK, which is loaded when the first store of this kind is opened. Credentials and endpoint are always explicit:
 *  the chain of providers in the SDK, which would ask a metadata address, is never built.
 *  A write makes a version without a label, then moves AWSCURRENT from the version that was read: that move is check-and-set
 *  (UpdateSecretVersionStage, RemoveFromVersionId). */
export const awsSecretsManager: SecretStore = {
  summary: 'AWS Secrets Manager.',
  settings,
  secrets: {
    access_key_id: { description: 'Access key of the broker there.', required: true },
    secret_access_key: { description: 'Its secret.', required: true },
    session_token: { description: 'Session token, when the key is a temporary one.', required: false },
  },
  ref: { form: /^[A-Za-z0-9/_+=.@:-]{1,512}$/, means: 'name or ARN of a secret' },
  writable: true,
  open: (given, credentials, world) => {
    let client: Promise<Sdk> | undefined
    const sdk = () => (client ??= open(given as Settings, credentials, world))
    return {
      read: async (ref, signal) => read(await sdk(), ref, signal),
      replace: async (ref, next, version, signal) => replace(await sdk(), ref, next, version, signal),
      close: async () => {
        const opened = await client?.catch(() => undefined)
        opened?.client.destroy()
        await opened?.http.close()
      },
    }
  },
}

type Sdk = {
  readonly client: SecretsManagerClient
  readonly aws: typeof import('@aws-sdk/client-secrets-manager')
  readonly http: Http
}

async function open(
  { region, endpoint: url }: Settings,
  credentials: Parameters<SecretStore['open']>[1],
  { deadlineMs }: StoreWorld,
): Promise<Sdk> {
  const aws = await import('@aws-sdk/client-secrets-manager').catch(() => {
    throw new StoreFault('down', 'the package @aws-sdk/client-secrets-manager is not installed beside the broker')
  })
  const http = openHttp({ deadlineMs })
  const token = credentials['session_token']?.reveal()
  const client = new aws.SecretsManagerClient({
    ...explicit,
    region,
    endpoint: url || regional('secretsmanager', region),
    credentials: {
      accessKeyId: credentials['access_key_id']?.reveal() ?? '',
      secretAccessKey: credentials['secret_access_key']?.reveal() ?? '',
      ...(token ? { sessionToken: token } : {}),
    },
    requestHandler: smithyHandler(http),
  })
  return { client, aws, http }
}

async function read({ client, aws }: Sdk, ref: string, abortSignal: AbortSignal): Promise<Held> {
  const command = new aws.GetSecretValueCommand({ SecretId: ref, VersionStage: 'AWSCURRENT' })
  const reply = await client.send(command, { abortSignal }).catch(translate)
  const { httpStatusCode: status } = reply.$metadata
  if (status !== 200) throw new StoreFault('malformed', `the store answered ${status}`)
  if (!isAbout(ref, reply)) throw new StoreFault('malformed', 'the answer is about another secret')
  if (typeof reply.VersionId !== 'string' || reply.VersionId === '')
    throw new StoreFault('malformed', 'the answer names no version')
  if (typeof reply.SecretString !== 'string') throw new StoreFault('malformed', 'the answer holds no SecretString')
  return { fields: fieldsOf(reply.SecretString), version: reply.VersionId }
}

/** A reference is a name, or an ARN, which may lack the seven characters that the service puts behind the name. */
function isAbout(ref: string, { Name, ARN }: { readonly Name?: string | undefined; readonly ARN?: string | undefined }): boolean {
  if (!ref.startsWith('arn:')) return Name === ref
  return ARN === ref || (ARN?.length === ref.length + 7 && ARN.startsWith(`${ref}-`))
}

async function replace({ client, aws }: Sdk, ref: string, next: Next, version: string, abortSignal: AbortSignal): Promise<void> {
  if (version === '') throw new StoreFault('absent', 'make the secret there first: the broker only replaces its value')
  const token = randomUUID()
  const put = new aws.PutSecretValueCommand({
    SecretId: ref,
    SecretString: textOfFields(next.fields).reveal(),
    ClientRequestToken: token,
    VersionStages: ['ASSAYPENDING'],
  })
  await client.send(put, { abortSignal }).catch(translate)
  const move = new aws.UpdateSecretVersionStageCommand({
    SecretId: ref,
    VersionStage: 'AWSCURRENT',
    MoveToVersionId: token,
    RemoveFromVersionId: version,
  })
  await client.send(move, { abortSignal }).catch((error: unknown) => {
    if (nameOf(error) === 'InvalidParameterException') throw new StoreFault('conflict', 'somebody else changed the secret')
    return translate(error)
  })
}

/** Of an SDK's error the name goes on, when it is one of the service's own words; its message may quote what was sent. */
function translate(error: unknown): never {
  if (error instanceof Unanswered) return unanswered(error)
  const name = nameOf(error)
  const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode ?? 0
  if (name === 'ResourceNotFoundException') throw new StoreFault('absent', 'the store has no such secret')
  // so it is said of one that was deleted, and can be restored for a while
  if (name === 'InvalidRequestException') throw new StoreFault('absent', 'the store does not give this secret any more')
  if (isThrottled(name) || status === 429 || status >= 500)
    throw new StoreFault('down', `the store did not answer as it should (${codeIn(name)})`)
  if (status >= 400) throw new StoreFault('denied', `the store refused the broker (${codeIn(name)})`)
  throw new StoreFault('malformed', 'the answer of the store cannot be read')
}

const nameOf = (error: unknown) => (error instanceof Error ? error.name : '')
