import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Reader } from '../../engine/stores/reader.ts'
import { type JsonServer, type Said, startJsonServer, type Trouble } from '../fakes/json_server.ts'
import { CANARY, fault, opened, revealed, troubled, troubles } from './remote_stores.ts'

describe('AWS Secrets Manager', () => {
  let server: JsonServer
  let reads: Reader
  const ARN = 'arn:aws:secretsmanager:eu-central-1:123456789012:secret:root/aws-AbCdEf'
  const about = { ARN, Name: 'root/aws', VersionId: 'v'.repeat(36), VersionStages: ['AWSCURRENT'] }
  const said = (more: object = {}): Trouble => ({
    status: 200,
    body: { ...about, SecretString: JSON.stringify({ api_key: CANARY }), ...more },
  })
  const error = (type: string, status = 400): Trouble => ({ status, body: { __type: type, message: CANARY } })
  beforeEach(async () => {
    server = await startJsonServer(() => said() as Said)
    const credentials = { access_key_id: 'AKIAEXAMPLE000000000', secret_access_key: 'canary-of-the-key' }
    reads = opened('aws_secrets_manager', { region: 'eu-central-1', endpoint: server.url }, credentials)
  })
  afterEach(async () => {
    await reads.close()
    await server[Symbol.asyncDispose]()
  })

  test.each(['root/aws', ARN, ARN.slice(0, -7)])('is read by name, ARN, and the ARN without its end: %s', async ref => {
    const { fields, version } = await reads.fresh(ref)
    expect([revealed(fields), version]).toEqual([{ api_key: CANARY }, about.VersionId])
    expect(JSON.parse(server.arrived[0]?.body ?? '')).toEqual({ SecretId: ref, VersionStage: 'AWSCURRENT' })
  })

  test.each([
    ['another ARN', ARN, ARN.replace('root', 'toor')],
    ['another end', ARN, ARN.replace('AbCdEf', 'GhIjKl')],
    ['another name of this length', ARN.slice(0, -7), ARN.replace('root', 'toor')],
    ['a name that only begins alike', ARN.slice(0, -7), `${ARN}-AbCdEf`],
    ['a name that goes on', ARN.slice(0, -7), ARN.replace('aws-', 'awsx')],
    ['no ARN', ARN, undefined],
  ])('asked by ARN, it does not take an answer about %s', async (_, ref, other) => {
    server.trouble = () => said({ ARN: other })
    expect((await fault(reads.fresh(ref))).reason).toBe('the answer is about another secret')
  })

  test('is asked with the session of a temporary key', async () => {
    const secrets = { access_key_id: 'ASIAEXAMPLE000000000', secret_access_key: 'canary-of-the-key', session_token: 'session' }
    const temporary = opened('aws_secrets_manager', { region: 'eu-central-1', endpoint: server.url }, secrets)
    await temporary.fresh('root/aws')
    expect(server.arrived[0]?.headers['x-amz-security-token']).toBe('session')
    expect(server.arrived[0]?.headers.authorization).toContain('ASIAEXAMPLE000000000')
    await temporary.close()
  })

  test.each([
    ['that is not there', error('ResourceNotFoundException'), 'absent'],
    ['that was marked for deletion', error('InvalidRequestException'), 'absent'],
    ['that it may not decrypt', error('DecryptionFailure'), 'denied'],
    ['that it may not read', error('AccessDeniedException'), 'denied'],
    ['asked for with a key that is gone', error('UnrecognizedClientException'), 'denied'],
    ['while it is asked too often', error('ThrottlingException'), 'down'],
    ['while it is broken', error('InternalServiceError', 500), 'down'],
    ['with an error that repeats what was sent', error('canary-of-the-key'), 'denied'],
    ['of another name', said({ Name: 'root/other' }), 'malformed'],
    ['without a name', said({ Name: undefined }), 'malformed'],
    ['without a version', said({ VersionId: undefined }), 'malformed'],
    ['with an empty one', said({ VersionId: '' }), 'malformed'],
    ['that is binary', said({ SecretString: undefined, SecretBinary: 'Y2FuYXJ5' }), 'malformed'],
    ['that is a number', said({ SecretString: 7 }), 'malformed'],
    ['that is empty', said({ SecretString: '' }), 'malformed'],
  ] as const)('a secret %s', async (_, trouble, kind) => {
    server.trouble = () => trouble
    expect((await fault(reads.fresh('root/aws'))).kind).toBe(kind)
  })

  describe('nothing is taken from one that', () => {
    test.each(troubles)('%s', (_, trouble, kind) => troubled(server, reads, 'root/aws', trouble, kind))
  })
})
