export const SEALED = { delivery: 'sealed', destinations: 'https://api.example.com' }

/** Of each issuer: settings of its integration, its fields of a role for the action `read`, and what `simulate` shows of the request that would be made. */
export const plans: readonly (readonly [string, object, object, string])[] = [
  ['jwt', {}, {}, '"sub":"reader"'],
  [
    'aws_sts',
    { region: 'eu-central-1' },
    { role_arn: 'arn:aws:iam::123456789012:role/agents', permissions: { read: ['s3:GetObject arn:aws:s3:::b/*'] } },
    's3:GetObject',
  ],
  ['azure', { tenant_id: 't', client_id: 'c', auth: 'secret' }, {}, 'https://login.microsoftonline.com/t/oauth2/v2.0/token'],
  ['gcp', {}, { service_account: 'sa@p.iam.gserviceaccount.com' }, 'sa@p.iam.gserviceaccount.com:generateAccessToken'],
  [
    'github_app',
    { app_id: '1', installation_id: '2', key: 'assay-rsa' },
    { repositories: 'app', permissions: { read: ['contents:read'] } },
    '"contents":"read"',
  ],
  ['oauth2', { token_url: 'https://as.example/token', grant: 'client_credentials' }, {}, 'client_credentials'],
  ['vault', {}, { vault_path: 'database/creds/app' }, 'database/creds/app'],
  ['oauth2_consent', { issuer: 'https://id.example', client_id: 'c' }, SEALED, 'https://id.example'],
  ['static', {}, SEALED, 'api_key'],
]
