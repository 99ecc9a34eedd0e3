import { expect, test } from 'vitest'
import { parseFields } from '../../engine/fields.ts'
import { checkExchangeRole } from '../../engine/issue/exchange_role.ts'
import { roleFields } from '../../engine/issue/settings.ts'
import { issuerRoleFields } from '../../engine/issuers/index.ts'

/** What is wrong with a role that is written like this. */
function fault(role: Readonly<Record<string, unknown>>): string {
  const fixed = { plugins: 'reader', actions: 'read,write', audiences: 'https://api.example.com' }
  const record = parseFields({ ...issuerRoleFields, ...roleFields }, { ...fixed, ...role }).values
  try {
    checkExchangeRole(record as Parameters<typeof checkExchangeRole>[0])
    return ''
  } catch (error) {
    return (error as Error).message
  }
}

const both = { read: ['contents:read'], write: ['contents:write'] }
const github = { issuer: 'github_app', integration: 'acme', repositories: 'app', permissions: both }
const amazon = (permission: string) => ({
  issuer: 'aws_sts',
  integration: 'acme',
  role_arn: 'arn:aws:iam::123456789012:role/agents',
  permissions: { read: [permission], write: [permission] },
})
test.each([
  [amazon('ecr:GetAuthorizationToken *'), ''],
  [amazon('s3:GetObject arn:aws:s3:::reports/*'), ''],
  [{ issuer: 'jwt' }, ''],
  [{ issuer: 'jwt', integration: 'acme' }, 'integration: the issuer jwt has no use for one'],
  [{ issuer: 'jwt', repositories: 'app' }, 'repositories: the issuer jwt has no such field'],
  [{ issuer: 'jwt', permissions: both }, 'permissions: a role like this of the issuer jwt has no use for them'],
  [{ issuer: 'jwt', reuse: true }, 'reuse: what jwt issues is never given twice'],
  [{ issuer: 'oauth2', integration: 'acme', reuse: true }, ''],
  [{ issuer: 'oauth2', integration: 'acme', dpop: 'required' }, ''],
  [{ issuer: 'oauth2', integration: 'acme', delivery: 'sealed' }, ''],
  [
    { issuer: 'oauth2', integration: 'acme', dpop: 'required', delivery: 'sealed' },
    'dpop: a sealed token is bound to the certificate of the machine instead',
  ],
  [{ issuer: 'oauth2' }, 'integration: the issuer oauth2 wants one'],
  [{ issuer: 'static', integration: 'acme' }, 'delivery: what static issues is only ever delivered sealed'],
  [{ ...github }, ''],
  [{ ...github, permissions: { read: ['contents:read'] } }, 'permissions: wanted a list of texts for the action write'],
  [{ ...github, permissions: { ...both, write: [''] } }, 'permissions: wanted a list of texts for the action write'],
  [{ ...github, permissions: { ...both, write: [1] } }, 'permissions: wanted a list of texts for the action write'],
])('%j: %s', (role, said) => {
  expect(fault(role)).toBe(said)
})

test('a permission that its issuer does not know the form of', () => {
  expect(fault({ ...github, permissions: { ...both, write: ['everything'] } })).toMatch(
    /^permissions: wanted .+ for the action write$/,
  )
})
