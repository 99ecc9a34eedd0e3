import 'reflect-metadata'
import { createPrivateKey, createPublicKey, generateKeyPairSync, webcrypto, X509Certificate } from 'node:crypto'
import * as x509 from '@peculiar/x509'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import type { Credential } from '../../../engine/issuers/index.ts'
import type { Secret } from '../../../engine/secret.ts'
import { ISSUER_URL, jwkOf, newEcKey, openTestExchange, type TestExchange } from '../../fakes/exchange.ts'
import { type OauthServer, startOauthServer } from '../../harness/peers/oauth_server.ts'
import { type Authority, newAuthority } from '../../mounts/hosts/certificates.ts'

// MSAL against an authorization server that is mounted where Entra has its tenants. It shows the protocol and what MSAL makes of it, not what Entra permits.
const SECRET = 'CanaRy7-the-secret-of-the-application-01234'
const SCOPE = 'https://management.azure.com/.default'
const ec = newEcKey()
const bare = { redirect_uris: [], response_types: [] }

let authority: Authority
let application: { readonly certificate: string; readonly privateKey: string }
let server: OauthServer
beforeAll(async () => {
  authority = await newAuthority('Authority of Entra')
  application = await rsaCertificate()
  const byKey = { token_endpoint_auth_method: 'private_key_jwt', grant_types: ['client_credentials'], ...bare }
  server = await startOauthServer({
    path: '/tenant',
    tokenPath: '/oauth2/v2.0/token',
    tls: await authority.issue('entra'),
    scopes: ['profile', SCOPE],
    resource: 'https://management.azure.com',
    federated: {
      client: 'federated',
      secret: SECRET,
      jwk: jwkOf(ec.publicKey),
      issuer: ISSUER_URL,
      subject: 'integration:acme',
      audience: 'api://AzureADTokenExchange',
    },
    clients: [
      {
        client_id: 'by-secret',
        client_secret: SECRET,
        token_endpoint_auth_method: 'client_secret_post',
        grant_types: ['client_credentials', 'authorization_code', 'refresh_token'],
        redirect_uris: ['https://assay.example/back'],
      },
      { client_id: 'by-certificate', jwks: { keys: [publicJwk(application.certificate)] }, ...byKey },
      { ...byKey, client_id: 'federated', client_secret: SECRET, token_endpoint_auth_method: 'client_secret_post' },
    ] as never,
  })
})
afterAll(() => server[Symbol.asyncDispose]())

const open: TestExchange[] = []
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]()
})

function opened(settings: object, secrets: Record<string, string> = {}): TestExchange {
  const where = { authority: server.url.replace('/tenant', ''), tenant_id: 'tenant', ca: authority.ca }
  const one = openTestExchange({ type: 'azure', settings: { ...where, ...settings }, secrets, ec })
  open.push(one)
  return one
}
const ask = { grant: { scope: [SCOPE] } }
const tokenOf = ({ fields }: Credential) => (fields['token'] as Secret).reveal()

test('by secret', async () => {
  const credential = await opened({ client_id: 'by-secret', auth: 'secret' }, { client_secret: SECRET }).credential(ask)
  expect(credential).toMatchObject({ tokenType: 'Bearer', granted: { expires_in: 600 } })
  expect(await server.introspect(tokenOf(credential))).toMatchObject({ active: true, scope: SCOPE })
})

test('a wrong secret is refused by its code', async () => {
  const verdict = await opened({ client_id: 'by-secret', auth: 'secret' }, { client_secret: 'another' }).issue(ask)
  expect(verdict).toMatchObject({ code: 'EXCHANGE_REFUSED', detail: 'acme: invalid_client' })
})

test('not by a private key that takes seconds to sign', async () => {
  const n = Buffer.alloc(1024, 0xc1).toString('base64url')
  const jwk = { ...createPrivateKey(application.privateKey).export({ format: 'jwk' }), n }
  const private_key = createPrivateKey({ key: jwk, format: 'jwk' }).export({ type: 'pkcs8', format: 'pem' }).toString()
  const settings = { client_id: 'by-certificate', auth: 'certificate', certificate: application.certificate }
  await expect(opened(settings, { private_key }).issue(ask)).rejects.toThrow('acme wants an RSA key of at most 4096 bits')
})

test('by certificate', async () => {
  const settings = { client_id: 'by-certificate', auth: 'certificate', certificate: application.certificate }
  const credential = await opened(settings, { private_key: application.privateKey }).credential(ask)
  expect(await server.introspect(tokenOf(credential))).toMatchObject({ active: true })
})

test('federated: a JWT of the mount, and no root credential at all', async () => {
  const credential = await opened({ client_id: 'federated' }).credential(ask)
  expect(await server.introspect(tokenOf(credential))).toMatchObject({ active: true })
})

test('federated: not by another key, and not as another subject or audience', async () => {
  expect(await opened({ client_id: 'federated', subject: 'another' }).outcome(ask)).toBe('EXCHANGE_REFUSED')
  expect(await opened({ client_id: 'federated', audience: 'another' }).outcome(ask)).toBe('EXCHANGE_REFUSED')
  const where = { authority: server.url.replace('/tenant', ''), tenant_id: 'tenant', ca: authority.ca }
  const one = openTestExchange({ type: 'azure', settings: { ...where, client_id: 'federated' }, ec: newEcKey() })
  open.push(one)
  expect(await one.outcome(ask)).toBe('EXCHANGE_REFUSED')
})

test('a refresh token rotates, and what came anew is kept', async () => {
  const refresh_token = await server.refreshToken('by-secret', `openid profile offline_access ${SCOPE}`)
  const one = opened({ client_id: 'by-secret', auth: 'refresh_token' }, { client_secret: SECRET, refresh_token })
  const [first, second] = [await one.credential(ask), await one.credential(ask)]
  expect(tokenOf(first)).not.toBe(tokenOf(second))
  expect(one.root.replaced).toHaveLength(2)
})

test('a server whose certificate is not trusted is not asked', async () => {
  const one = opened({ client_id: 'by-secret', auth: 'secret', ca: (await newAuthority('Others')).ca }, { client_secret: SECRET })
  await expect(one.issue(ask)).rejects.toThrow(/acme has a certificate that is not trusted/)
})

function publicJwk(certificate: string): object {
  const sha256 = Buffer.from(new X509Certificate(certificate).fingerprint256.replaceAll(':', ''), 'hex')
  return { ...createPublicKey(certificate).export({ format: 'jwk' }), use: 'sig', 'x5t#S256': sha256.toString('base64url') }
}

async function rsaCertificate(): Promise<{ certificate: string; privateKey: string }> {
  x509.cryptoProvider.set(webcrypto as never)
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const signingAlgorithm = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
  const der = (key: ReturnType<typeof createPublicKey>) => key.export({ type: 'spki', format: 'der' })
  const keys = {
    privateKey: await webcrypto.subtle.importKey(
      'pkcs8',
      privateKey.export({ type: 'pkcs8', format: 'der' }),
      signingAlgorithm,
      true,
      ['sign'],
    ),
    publicKey: await webcrypto.subtle.importKey('spki', der(createPublicKey(privateKey)), signingAlgorithm, true, ['verify']),
  }
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=application',
    keys: keys as never,
    signingAlgorithm,
  })
  return { certificate: certificate.toString('pem'), privateKey: pem }
}
