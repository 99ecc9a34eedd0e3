import { type Broker, bytes, required, text } from '#engine'
import { type Path, path } from '../table.ts'
import { thumbprintForm } from './login.ts'

const DOCUMENT = 65_536

const asked = {
  role: required(text('Role to log in against, whose format is one of documents.', { max: 128 })),
  audience: text('Who will rely on what is issued.', { fallback: '', max: 2048 }),
  key_thumbprint: text('SHA-256 thumbprint of the key to bind (RFC 7638), base64url.', { fallback: '', form: thumbprintForm }),
}

export const challengeDocument = (broker: Broker): Path =>
  path({
    pattern: 'challenge/document',
    help: {
      synopsis: 'Take a challenge for an attestation document.',
      description:
        'A challenge can be answered once, by one document, which carries SHA-256(nonce || context) where its format has room for bytes of the caller; the context is the SHA-256 of the request, with an empty name of the attestation key.',
    },
    unauthenticated: true,
    audits: 'itself',
    fields: asked,
    operations: {
      update: {
        summary: 'Draw a challenge for this login.',
        run: async ({ mount, values, txn, from }) => {
          const asker = { txn, from }
          const { challenge, nonce, expiresInSeconds } = await broker.attest.challengeDocument(mount, values, asker)
          return {
            data: { challenge: challenge.toString('base64'), nonce: nonce.toString('base64'), expires_in: expiresInSeconds },
          }
        },
      },
    },
  })

export const loginDocument = (broker: Broker): Path =>
  path({
    pattern: 'login/document',
    help: {
      synopsis: 'Log in with an attestation document.',
      description:
        'Trades a document over a fresh challenge for a Vault token of the role: for machines that bring their own endorsement along, such as AWS Nitro Enclaves. Its root is a trust anchor of that format under `ca/`.',
    },
    unauthenticated: true,
    audits: 'itself',
    fields: {
      ...asked,
      challenge: required(bytes('The challenge that this document answers, base64.', { max: 256 })),
      document: required(bytes('The document, base64.', { max: DOCUMENT })),
    },
    operations: {
      update: {
        summary: 'Verify the document; return a token.',
        run: async ({ mount, values, txn, wrapTtl, from }) => ({
          vault: await broker.attest.loginDocument(mount, values, { txn, wrapTtl, from }),
        }),
      },
    },
  })
