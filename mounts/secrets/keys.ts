import type { Broker, SigningKey } from '#engine'
import { type Path, path } from '../table.ts'

export const keys = ({ issue }: Broker): Path =>
  path({
    pattern: 'keys',
    help: {
      synopsis: 'See the signing keys.',
      description: "Versions of the signing key. The private halves are in Vault's transit engine and never leave it.",
    },
    fields: {},
    operations: {
      read: { summary: 'List the versions.', run: async ({ mount }) => ({ data: shown(await issue.keys.read(mount)) }) },
    },
  })

export const rotate = ({ issue }: Broker): Path =>
  path({
    pattern: 'keys/rotate',
    help: {
      synopsis: 'Rotate the signing key.',
      description:
        'What is issued from now on carries a new `kid`. What was issued before still verifies: the JWKS keeps all versions.',
    },
    fields: {},
    operations: {
      update: { summary: 'Make a new version.', run: async ({ mount }) => ({ data: shown(await issue.keys.rotate(mount)) }) },
    },
  })

export const jwks = ({ issue }: Broker): Path =>
  path({
    pattern: '.well-known/jwks.json',
    help: { synopsis: 'JSON Web Key Set.', description: 'Public keys that verify what this mount issues (RFC 7517).' },
    unauthenticated: true,
    audits: 'itself',
    fields: {},
    operations: { read: { summary: 'Read the key set.', run: async ({ mount }) => ({ bare: await issue.keys.jwks(mount) }) } },
  })

export const discovery = ({ issue }: Broker): Path =>
  path({
    pattern: '.well-known/openid-configuration',
    help: { synopsis: 'Discovery document.', description: 'Where the keys of this issuer are (OpenID Connect Discovery 1.0).' },
    unauthenticated: true,
    audits: 'itself',
    fields: {},
    operations: {
      read: { summary: 'Read the document.', run: async ({ mount }) => ({ bare: await issue.keys.discovery(mount) }) },
    },
  })

function shown(key: SigningKey): object {
  return {
    name: key.name,
    latest_version: key.latest.version,
    keys: Object.fromEntries(
      key.versions.map(({ version, kid, createdAt, publicPem }) => [
        version,
        { kid, created_at: createdAt, public_key: publicPem },
      ]),
    ),
  }
}
