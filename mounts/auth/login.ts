import { type Broker, bytes, hex, list, required, text } from '#engine'
import { type Path, path } from '../table.ts'
import { keyFields, keyOf } from './key_fields.ts'

const EVENT_LOG = 2 ** 20
/** 50,000 entries and more, when none is signed */
const IMA_LOG = 12 * 2 ** 20
/** What a body with both logs has, in base64, and the rest of it. */
export const EVIDENCE_BODY = Math.ceil((EVENT_LOG + IMA_LOG) / 3) * 4 + 2 ** 18

/** Sizes of what a TPM returns; the verifier has limits of its own. */
export const evidenceFields = {
  challenge: bytes('The challenge that this quote answers, base64.', { max: 256 }),
  attest: bytes('TPMS_ATTEST, base64.', { max: 4096 }),
  signature: bytes('TPMT_SIGNATURE, base64.', { max: 2048 }),
  event_log: bytes('The event log of the boot, when the challenge asks for `tcg`: binary_bios_measurements, base64.', {
    max: EVENT_LOG,
  }),
  ima_log: bytes('The list of IMA, when the challenge asks for `ima`: ascii_runtime_measurements, base64.', { max: IMA_LOG }),
  boot_id: text('What the operating system calls its start (boot_id of Linux). Nothing is concluded from it but an alarm.', {
    fallback: '',
    form: [/^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?$/, 'a UUID'],
  }),
  pcrs: text('Values of the quoted PCRs, as JSON: {"sha256": {"0": "<hex>"}}.', { max: 16_384 }),
}

const akName = required(hex('Name of the attestation key, hex.', { max: 66 }))
const role = required(text('Role to log in against.', { max: 128 }))
/** RFC 7638: the base64url of 32 bytes */
export const thumbprintForm = [/^(?:[A-Za-z0-9_-]{43})?$/, 'a SHA-256 thumbprint in base64url'] as const
const keyThumbprint = text('SHA-256 thumbprint of the key to bind (RFC 7638), base64url.', { fallback: '', form: thumbprintForm })

export const challenge = (broker: Broker): Path =>
  path({
    pattern: 'challenge',
    help: {
      synopsis: 'Take a challenge.',
      description:
        'A challenge can be answered once, by one quote, with one request: the quote covers SHA-256(nonce || context), where the context is the SHA-256 of the request. It names the PCRs that the quote has to cover.',
    },
    unauthenticated: true,
    audits: 'itself',
    fields: {
      operation: text('What the quote will be sent with.', { fallback: 'login', choices: ['login', 'creds'] }),
      ak_name: akName,
      role: { ...role, description: 'Role of this mount, which names the PCRs.' },
      audience: text('Who will rely on what is issued.', { fallback: '', max: 2048 }),
      key_thumbprint: keyThumbprint,
      mount: text('For creds: the mount of type broker.', { fallback: '', max: 512 }),
      creds_role: text('For creds: the role of that mount.', { fallback: '', max: 128 }),
      plugin: text('For creds: the plugin.', { fallback: '', max: 256 }),
      action: text('For creds: the action.', { fallback: '', max: 256 }),
      scope: list('For creds: the scope.', { max: 256 }),
    },
    operations: {
      update: {
        summary: 'Draw a challenge for this request.',
        run: async ({ mount, values, txn, from }) => {
          const drawn = await broker.attest.challenge(mount, values, { txn, from })
          return {
            data: {
              challenge: drawn.challenge.toString('base64'),
              nonce: drawn.nonce.toString('base64'),
              expires_in: drawn.expiresInSeconds,
              pcrs: drawn.selection,
              logs: drawn.logs,
            },
          }
        },
      },
    },
  })

export const login = (broker: Broker): Path =>
  path({
    pattern: 'login',
    help: {
      synopsis: 'Log in with a TPM 2.0 quote.',
      description: 'Trades a quote over a fresh challenge for a Vault token of the role.',
    },
    unauthenticated: true,
    audits: 'itself',
    bodyBytes: EVIDENCE_BODY,
    fields: {
      role,
      ak_name: akName,
      challenge: required(evidenceFields.challenge),
      attest: required(evidenceFields.attest),
      signature: required(evidenceFields.signature),
      pcrs: required(evidenceFields.pcrs),
      event_log: evidenceFields.event_log,
      ima_log: evidenceFields.ima_log,
      boot_id: evidenceFields.boot_id,
      audience: text('Who will rely on what is issued.', { fallback: '', max: 2048 }),
      key_thumbprint: keyThumbprint,
      ...keyFields,
    },
    operations: {
      update: {
        summary: 'Verify the quote; return a token.',
        run: async ({ mount, values, txn, wrapTtl, from }) => {
          const fields = { ...values, key: keyOf(values) }
          return { vault: await broker.attest.login(mount, fields, { txn, wrapTtl, from }) }
        },
      },
    },
  })
